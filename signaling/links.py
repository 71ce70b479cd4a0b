"""A channel that comes back: to a worker or a host of processors, over its Unix socket, as long as we run."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError

from sfu.channel import Channel, ChannelClosedError, ChannelError, connect
from signaling.errors import MediaError, from_channel
from signaling.protocol.codes import ErrorCode

RETRY_S = 0.2
REQUEST_TIMEOUT_S = 5.0  # shorter than a client waits for its ack

log = structlog.get_logger()

Notify = Callable[[str, dict[str, Any]], None]


class Link:
    """One reconnecting channel.

    `session` runs as long as a channel lives: it is started anew at every connection and cancelled at every loss;
    if it fails, the connection is built anew. `lost` is called after every loss.
    """

    def __init__(
        self,
        path: Path,
        session: Callable[[Channel], Awaitable[None]],
        notify: Notify,
        lost: Callable[[], None],
    ) -> None:
        self.name = path.stem
        self._path = path
        self._session = session
        self._notify = notify
        self._lost = lost
        self._channel: Channel | None = None
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect."""
        self._running = asyncio.create_task(self._run(), name=f"link-{self.name}")

    async def close(self) -> None:
        """Disconnect for good."""
        task, self._running = self._running, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def request(self, method: str, params: dict[str, Any]) -> Any:
        """Ask the other side. Raises `MediaError`."""
        if self._channel is None:
            raise MediaError(ErrorCode.MEDIA_UNAVAILABLE, "the media server is restarting; try again in a moment")
        try:
            return await self._channel.request(method, params, timeout_s=REQUEST_TIMEOUT_S)
        except ChannelError as error:
            raise from_channel(error) from None

    async def _run(self) -> None:
        while True:
            try:
                channel = await connect(self._path)
            except OSError:
                await asyncio.sleep(RETRY_S)
                continue
            channel.on_notify = self._notify
            channel.start()
            self._channel = channel
            log.info("link_up", link=self.name)
            try:
                await self._live(channel)
            finally:
                self._channel = None
                await channel.close()
                log.info("link_down", link=self.name)
                self._lost()
            await asyncio.sleep(RETRY_S)

    async def _live(self, channel: Channel) -> None:
        session = asyncio.ensure_future(self._session(channel))
        closed = asyncio.ensure_future(channel.closed.wait())
        try:
            await asyncio.wait({session, closed}, return_when=asyncio.FIRST_COMPLETED)
            if session.done():
                session.result()
        except ChannelClosedError:  # it went in the middle of a question
            log.debug("link_session_cut", link=self.name)
        except (ChannelError, MediaError, ValidationError) as error:
            log.error("link_session_failed", link=self.name, error=type(error).__name__)
        except Exception as error:  # our own mistake in one session must not end the link for good
            log.error("link_session_broken", link=self.name, error=repr(error), exc_info=True)
        finally:
            session.cancel()
            closed.cancel()
            await asyncio.gather(session, closed, return_exceptions=True)
