"""What a worker shall hold, kept equal to what it holds by one loop, on a nudge or a tick.

A wish is a request that may be sent twice without harm (`put_room`, `set_subscriptions`, ...) under the key
`(method, id)`. It is built when it is sent, so many changes become one request, and a lost nudge is harmless.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from sfu.channel.messages import ChannelMessage
from signaling.errors import MediaError
from signaling.protocol.codes import RETRYABLE

TICK_S = 1.0

Key = tuple[str, str]
Build = Callable[[], ChannelMessage]
Send = Callable[[str, ChannelMessage], Awaitable[object]]

log = structlog.get_logger()


class DesiredState:
    """The wishes for one worker, in the order in which they were first made."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._wishes: dict[Key, Build] = {}
        self._held: dict[Key, ChannelMessage] = {}
        self._once: set[Key] = set()
        self._dirty: dict[Key, None] = {}
        self._nudged = asyncio.Event()

    def want(self, method: str, target: str, build: Build) -> None:
        """From now on the worker shall hold what `build` returns; call again whenever that may have changed."""
        self._wishes[method, target] = build
        self._mark((method, target))

    def want_once(self, method: str, target: str, build: Build) -> None:
        """The worker shall get this once; what was wanted for the same target before is forgotten."""
        self.forget(target)
        self._once.add((method, target))
        self.want(method, target, build)

    async def put(self, method: str, target: str, build: Build) -> None:
        """Like `want`, and wait until the worker has it. Raises `MediaError`; then the loop goes on trying."""
        self.want(method, target, build)
        await self._apply((method, target))

    async def send_drops(self) -> None:
        """Send what is wanted once: before a room opens, one of the same name may still have to be dropped."""
        for key in list(self._once):
            await self._try(key)

    def forget(self, target: str) -> None:
        """Want nothing for this target any more."""
        for key in [key for key in self._wishes if key[1] == target]:
            self._drop(key)

    def doubt(self, method: str, target: str) -> None:
        """The worker may no longer hold this: the next `want` is sent in any case."""
        self._held.pop((method, target), None)

    def reset(self) -> None:
        """The worker may hold nothing of it any more: send everything again."""
        self._held.clear()
        self._dirty = dict.fromkeys(self._wishes)
        self._nudged.set()

    async def run(self) -> None:
        """Keep the worker in step until cancelled."""
        while True:
            tick_s = TICK_S if self._dirty else None
            try:
                await asyncio.wait_for(self._nudged.wait(), tick_s)
            except TimeoutError:
                log.debug("desired_retry", wishes=len(self._dirty))
            self._nudged.clear()
            for key in list(self._dirty):
                await self._try(key)

    async def _try(self, key: Key) -> None:
        try:
            await self._apply(key)
        except MediaError as error:
            log.warning("desired_refused", method=key[0], target=key[1], code=error.code.value)

    async def _apply(self, key: Key) -> None:
        build = self._wishes.get(key)
        if build is None:
            self._dirty.pop(key, None)
            return
        message = build()
        self._dirty.pop(key, None)
        if self._held.get(key) == message:
            return
        try:
            await self._send(key[0], message)
        except MediaError as error:
            self._failed(key, error)
            raise
        if key in self._once:
            self._drop(key)
        elif key in self._wishes:
            self._held[key] = message

    def _failed(self, key: Key, error: MediaError) -> None:
        """What may succeed later is tried again at the next tick; what was refused waits until it changes."""
        if error.code in RETRYABLE:
            self._dirty[key] = None
        elif key in self._once:
            self._drop(key)

    def _mark(self, key: Key) -> None:
        self._dirty[key] = None
        self._nudged.set()

    def _drop(self, key: Key) -> None:
        self._wishes.pop(key, None)
        self._held.pop(key, None)
        self._once.discard(key)
        self._dirty.pop(key, None)
