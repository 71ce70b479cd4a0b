"""Candor's media worker as a server under load: the real process, driven through its channel."""

import asyncio
import contextlib
import multiprocessing
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.load.processes import Scheduled, scheduled, started_on
from benchmarks.load.servers import MakeAnswer
from sfu.channel import Channel, connect

ROOM, PUBLISHER = "bench", "publisher"
START_TIMEOUT_S = 20.0
OFFER_TIMEOUT_S = 20.0


def _serve(run_dir: str) -> None:
    """The worker process."""
    import logging

    import structlog

    from sfu.settings import SfuSettings
    from sfu.worker import run

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    asyncio.run(run(SfuSettings(), Path(run_dir), 0))


class CandorServer:
    """See `Server`."""

    name = "candor"

    def __init__(self, core: int) -> None:
        self._core = core
        self._run_dir = tempfile.TemporaryDirectory(prefix="candor-bench-")
        self._process = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(self._run_dir.name,), daemon=True
        )
        self._channel: Channel | None = None
        self._offers: dict[str, asyncio.Queue[dict[str, Any]]] = {}

    async def start(self) -> None:
        """See `Server`."""
        with started_on(self._core):
            self._process.start()
        path = Path(self._run_dir.name) / "worker-0.sock"
        async with asyncio.timeout(START_TIMEOUT_S):
            while self._channel is None:
                with contextlib.suppress(OSError):
                    self._channel = await connect(path)
                await asyncio.sleep(0.05)
        self._channel.on_notify = self._notified
        self._channel.start()
        await self._request("put_room", room_id=ROOM, state={})

    def _notified(self, event: str, params: dict[str, Any]) -> None:
        if event == "offer":
            self._offers[params["participant_id"]].put_nowait(params)

    async def _request(self, method: str, **params: Any) -> Any:
        assert self._channel is not None
        return await self._channel.request(method, params)

    async def publish(self, offer: str) -> str:
        """See `Server`."""
        await self._request("put_participant", room_id=ROOM, participant_id=PUBLISHER, state={})
        tracks = [
            {"mid": "0", "track_id": "audio", "source": "microphone"},
            {"mid": "1", "track_id": "video", "source": "camera"},
        ]
        answer = await self._request("publish_offer", room_id=ROOM, participant_id=PUBLISHER, sdp=offer, tracks=tracks)
        return str(answer["sdp"])

    async def subscribe(self, index: int, make_answer: MakeAnswer) -> None:
        """See `Server`. The first offer may come before the tracks are in it; then a second one has them."""
        participant = f"subscriber-{index}"
        offers = self._offers[participant] = asyncio.Queue()
        wanted = [{"track_id": "audio"}, {"track_id": "video"}]
        await self._request("put_participant", room_id=ROOM, participant_id=participant, state={})
        await self._request("open_subscribe", room_id=ROOM, participant_id=participant, stable_ssrcs=True)
        await self._request("set_subscriptions", participant_id=participant, tracks=wanted)
        offered: set[str] = set()
        async with asyncio.timeout(OFFER_TIMEOUT_S):
            while offered != {"audio", "video"}:
                offer = await offers.get()
                offered = {media["track_id"] for media in offer["tracks"].values()}
                answer = make_answer(offer["sdp"])
                await self._request(
                    "subscribe_answered", participant_id=participant, sdp=answer, version=offer["version"]
                )

    async def statistics(self) -> dict[str, Any]:
        """The worker's own counters."""
        return dict(await self._request("stats"))

    def scheduled(self) -> Scheduled:
        """See `Server`."""
        assert self._process.pid is not None
        return scheduled(self._process.pid)

    async def close(self) -> None:
        """See `Server`."""
        if self._channel is not None:
            await self._channel.close()
        if self._process.pid is not None:
            self._process.terminate()
            await asyncio.to_thread(self._process.join, 10)
        self._run_dir.cleanup()
