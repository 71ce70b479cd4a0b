"""What signaling asks of a host beside the path, and hears from it."""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from media_processors import registry
from media_processors.findings import ProcessorInfo, ProcessorStatus
from sfu.channel import Channel, ChannelError, serve


class HostChannel:
    """Serves requests `processors`, `stats` and `metrics`.

    Who connects hears all current statuses first, then whatever is told to all.
    """

    def __init__(
        self,
        path: Path,
        infos: Callable[[], Iterable[ProcessorInfo]],
        statistics: Callable[[], dict[str, Any]],
        statuses: Callable[[], Iterable[ProcessorStatus]],
        metrics: Callable[[], str],
    ) -> None:
        self._path = path
        self._infos = infos
        self._statistics = statistics
        self._statuses = statuses
        self._metrics = metrics
        self._channels: set[Channel] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await serve(self._path, self._accept)

    async def close(self) -> None:
        """Listen no more and let everybody go; idempotent."""
        if self._server is not None:
            self._server.close()
        for channel in list(self._channels):
            await channel.close()

    def tell(self, status: ProcessorStatus) -> None:
        """A status that changed, to all."""
        self.notify("processor_status", status)

    def notify(self, notification: str, message: BaseModel) -> None:
        """To all."""
        params = message.model_dump()
        for channel in self._channels:
            channel.notify(notification, params)

    def _accept(self, channel: Channel) -> None:
        self._channels = {known for known in self._channels if not known.closed.is_set()} | {channel}
        channel.on_request = self._answer
        channel.start()
        for status in self._statuses():
            channel.notify("processor_status", status.model_dump())

    async def _answer(self, method: str, params: dict[str, Any]) -> Any:
        match method:
            case "processors":
                return {"processors": [info.model_dump() for info in self._infos()]}
            case "stats":
                return self._statistics()
            case "metrics":
                return self._metrics()
        raise ChannelError("no_such_method", method)


def described(loaded: registry.Loaded) -> ProcessorInfo:
    """What a processor says of itself now."""
    if loaded.processor is None:
        return loaded.info
    try:
        return loaded.processor.info()
    except Exception as error:  # anybody's code
        reason = f"it cannot describe itself: {type(error).__name__}"
        return loaded.info.model_copy(update={"available": False, "reason": reason})
