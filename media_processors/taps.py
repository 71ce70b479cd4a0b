"""A host's end of the tap to one worker: connect, say what runs here, read, and begin again whenever the worker is gone."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import structlog

from sfu.tap import Hello, TapFrame, TapSocket, connect

RECONNECT_S = 0.25
MESSAGES_PER_TURN = 32

log = structlog.get_logger()


class TapOwner(Protocol):
    """Who is told what comes."""

    def received(self, tap: "HostTap", frame: TapFrame) -> None:
        """A frame of the worker, in order."""

    def malformed(self) -> None:
        """A message that cannot be read; it is dropped."""

    def forget_all(self, tap: "HostTap") -> None:
        """The worker is gone, and so are its tracks."""


class HostTap:
    """The link to one worker, and again whenever it is gone."""

    def __init__(self, owner: TapOwner, path: Path, greet: Callable[[], Hello]) -> None:
        self._owner = owner
        self._path = path
        self._greet = greet
        self._link: TapSocket | None = None
        self._hello: Hello | None = None
        """What the worker of now was told."""
        self._gone = asyncio.Event()

    async def keep_connected(self) -> None:
        """Connect, read until the worker is gone, begin again."""
        loop = asyncio.get_running_loop()
        while True:
            hello = self._greet()
            try:
                self._link = connect(self._path, hello)
            except OSError:  # nobody listens (yet)
                await asyncio.sleep(RECONNECT_S)
                continue
            self._hello = hello
            log.info("tap_connected", tap=self._path.name, role=hello.role)
            self._gone.clear()
            loop.add_reader(self._link.fileno(), self._readable, self._link)
            await self._gone.wait()
            await asyncio.sleep(RECONNECT_S)

    def introduce(self) -> None:
        """Tell the worker anew if what can run here has changed; one that does not take it now is told at the next tick."""
        hello = self._greet()
        if self._link is not None and hello != self._hello and self.send(hello):
            self._hello = hello

    def ask(self, frame: TapFrame) -> None:
        """Tell the worker which pictures are wanted. What it does not take now is lost, and wanted again later."""
        self.send(frame)

    def send(self, frame: TapFrame) -> bool:
        """Whether the worker takes it; one that does not take it now never does."""
        try:
            return self._link is not None and self._link.send(frame)
        except OSError:  # the reader sees it, too
            return False

    def send_all(self, frames: Sequence[TapFrame]) -> bool:
        """In one message, if they fit into one: whether the worker takes them all."""
        link = self._link
        if link is None:
            return False
        dropped = link.dropped_full
        try:
            for frame in frames:
                link.queue(frame)
            link.flush()
        except OSError:
            return False
        return link.dropped_full == dropped

    def disconnect(self) -> None:
        """Let the worker go, and its tracks; idempotent."""
        link, self._link = self._link, None
        if link is None:
            return
        self._gone.set()  # first: whatever else fails, we connect again
        asyncio.get_running_loop().remove_reader(link.fileno())
        link.close()
        self._owner.forget_all(self)

    def _readable(self, link: TapSocket) -> None:
        for _ in range(MESSAGES_PER_TURN):
            try:
                frames = link.receive()
            except ValueError:
                self._owner.malformed()
                continue
            except OSError:
                frames = None
            if frames is None:
                log.info("tap_closed", tap=self._path.name)
                self.disconnect()
                return
            if not frames:
                return
            for frame in frames:
                self._owner.received(self, frame)
