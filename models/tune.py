"""`candor models tune`: in which numbers a model answers fastest on this machine, if its answers stay what they were.

Each precision runs in a process of its own (`models.tune_worker`): memory is counted there, and what breaks breaks alone. They are
asked in turns, so that a busy moment of the machine meets them all. A precision counts only if it agrees with fp32 on the runner's
example; the fastest of those is written into the store. One example shows that nothing broke, not that accuracy stayed.
"""

import difflib
import json
import platform
import statistics
import subprocess  # nosec B404  # our own interpreter and module, no shell
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.catalog import ModelEntry
from models.precision import PRECISIONS, Device, Measured, Precision, PrecisionFile, read, write

ROUNDS = 5
"""Answers that are timed for each precision; the median counts."""
TOLERANCE = 0.05
"""Of probabilities the largest difference; of sound and pictures the mean difference over the mean size; of text the share that
differs, word by word."""
GAIN = 0.95
"""fp32 stays unless another takes less than this part of its time."""


class Candidate:
    """A model in one precision."""

    def __init__(self, entry: ModelEntry, root: Path, precision: Precision, allow_random: bool) -> None:
        self.precision = precision
        self.seconds: list[float] = []
        self.answer: Any = None
        self.device: Device = "cpu"
        self.memory_bytes = 0
        self.refused = ""
        asked = {"entry": entry.model_dump(mode="json"), "root": str(root), "precision": precision}
        self._process = subprocess.Popen(  # nosec B603  # our own interpreter and module, no shell
            [sys.executable, "-m", "models.tune_worker", json.dumps(asked | {"allow_random": allow_random})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def load(self) -> None:
        """Wait until it is ready, or has said why it never will be."""
        if reply := self._reply():
            self.device, self.memory_bytes = reply["device"], reply["memory_bytes"]

    def ask(self) -> None:
        """One more timed answer."""
        if self.refused or self._process.stdin is None:
            return
        try:
            self._process.stdin.write("ask\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self.refused = "it ended its process"
        if reply := self._reply():
            self.seconds.append(reply["seconds"])
            self.answer = reply["answer"]

    def _reply(self) -> dict[str, Any]:
        line = "" if self.refused or self._process.stdout is None else self._process.stdout.readline()
        reply: dict[str, Any] = json.loads(line) if line else {"refused": self.refused or "it ended its process"}
        self.refused = reply.get("refused", "")
        return {} if self.refused else reply

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def tune(
    entry: ModelEntry, version: str, root: Path, tell: Callable[[str], object], *, allow_random: bool = False
) -> Measured:
    """Measure a model that is in the store `root`, write the choice there, and return it; `tell` gets a line per precision.

    Raises ValueError if not even fp32 answers.
    """
    candidates = [Candidate(entry, root, precision, allow_random) for precision in PRECISIONS]
    try:
        for candidate in candidates:
            candidate.load()
        for _ in range(ROUNDS):
            for candidate in candidates:
                candidate.ask()
    finally:
        for candidate in candidates:
            candidate.close()
    measured = _judge(candidates, version)
    for candidate in candidates:
        tell(_line(entry.name, candidate, chosen=candidate.precision == measured.precision))
    file: PrecisionFile = read(root)
    file.models.setdefault(entry.name, {})[candidates[0].device] = measured
    write(root, file)
    return measured


def _judge(candidates: list[Candidate], version: str) -> Measured:
    exact = candidates[0]
    if exact.refused:
        raise ValueError(exact.refused)
    for candidate in candidates[1:]:
        if not candidate.refused and (off := difference(candidate.answer, exact.answer)) > TOLERANCE:
            candidate.refused = f"its answer is {off:.2f} off, more than {TOLERANCE}"
    seconds = {other.precision: statistics.median(other.seconds) for other in candidates if not other.refused}
    fastest = min(seconds, key=lambda precision: seconds[precision])
    return Measured(
        version=version,
        precision=fastest if seconds[fastest] < GAIN * seconds["fp32"] else "fp32",
        machine=f"{platform.processor() or platform.machine()}, {platform.system()}, {exact.device}",
        seconds=seconds,
        refused={other.precision: other.refused for other in candidates if other.refused},
    )


def _line(name: str, candidate: Candidate, *, chosen: bool) -> str:
    if candidate.refused:
        return f"{name} {candidate.precision}: no: {candidate.refused}"
    spent = statistics.median(candidate.seconds)
    memory_mb = candidate.memory_bytes / 1e6
    mark = " <- chosen" if chosen else ""
    return f"{name} {candidate.precision} on {candidate.device}: {spent:.3f} s, {memory_mb:.0f} MB{mark}"


def difference(answer: Any, exact: Any) -> float:
    """How far an answer is from that of fp32, as `TOLERANCE` says; infinite if they are not of one kind and size."""
    if isinstance(answer, str) and isinstance(exact, str):
        return 1 - difflib.SequenceMatcher(None, answer.split(), exact.split(), autojunk=False).ratio()
    if not isinstance(answer, dict) or not isinstance(exact, dict) or len(answer["numbers"]) != len(exact["numbers"]):
        return float("inf")
    differences = [abs(one - other) for one, other in zip(answer["numbers"], exact["numbers"], strict=True)]
    if exact["probabilities"]:
        return float(max(differences))
    return float(sum(differences) / max(1.0, sum(map(abs, exact["numbers"]))))
