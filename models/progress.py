"""How far a pull is: one line that moves on a terminal, one line per file elsewhere."""

import threading
from types import TracebackType
from typing import Self, TextIO


class Progress:
    """Call it with a file's name, the bytes that are here and the bytes that there are (0: not told); from any thread."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._moves = out.isatty()
        self._files: dict[str, tuple[int, int]] = {}
        self._shown = ""
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._shown:
            self._out.write("\n")

    def __call__(self, name: str, done_bytes: int, total_bytes: int) -> None:
        with self._lock:
            ended = done_bytes == total_bytes and self._files.get(name) != (done_bytes, total_bytes)
            self._files[name] = (done_bytes, total_bytes)
            if self._moves:
                self._show()
            elif ended:
                self._out.write(f"  {name} {total_bytes / 1e6:.1f} MB\n")

    def _show(self) -> None:
        done = sum(done for done, _ in self._files.values())
        total = sum(max(done, total) for done, total in self._files.values())
        line = f"  {100 * done // max(total, 1):3d} %  {done / 1e6:.1f} of {total / 1e6:.1f} MB"
        if line != self._shown:
            self._shown = line
            self._out.write(f"\r{line}   ")
            self._out.flush()
