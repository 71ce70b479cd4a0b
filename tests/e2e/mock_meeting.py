"""A server that speaks the protocol and does what a test tells it, so that every state of the page can be reached.

Requests are checked with the protocol's own models; media, where a test wants some, comes from aiortc's public API on loopback.
"""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aiohttp.web
import av
import socketio
from aiortc import (
    AudioStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
    VideoStreamTrack,
)
from pydantic import BaseModel

from media_processors.findings import ProcessorInfo, ProcessorStatus
from signaling.protocol import messages
from signaling.protocol.codes import RETRYABLE, CloseReason, ErrorCode
from tests.e2e.pictures import film

DIST = Path(__file__).resolve().parents[2] / "web" / "dist"
CSP = (
    "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data: blob:; media-src 'self' blob:; "
    "style-src 'self'; script-src 'self'"
)
SELF_ID = "self"
FRAMES_PER_S = 4


class PortraitTrack(VideoStreamTrack):
    """A drawn person who sways a little."""

    def __init__(self, person: int) -> None:
        super().__init__()
        self._pictures = film(person)
        self._index = 0

    async def recv(self) -> av.VideoFrame:
        if self._index > 0:
            await asyncio.sleep(1 / FRAMES_PER_S)
        frame = av.VideoFrame.from_ndarray(self._pictures[self._index % len(self._pictures)], format="bgr24")
        frame.pts = self._index * 90_000 // FRAMES_PER_S
        frame.time_base = Fraction(1, 90_000)
        self._index += 1
        return frame


def participant(name: str, *, host: bool = False, bot: bool = False, muted: bool = False) -> messages.ParticipantInfo:
    """Somebody with a microphone and a camera; the id is the lower-case name."""
    pid = name.split()[0].lower()
    tracks = [
        messages.TrackInfo(track_id=f"{pid}-mic", participant_id=pid, kind="audio", source="microphone", muted=muted),
        messages.TrackInfo(track_id=f"{pid}-cam", participant_id=pid, kind="video", source="camera", muted=False),
    ]
    joined_at = datetime.now(UTC).isoformat()
    return messages.ParticipantInfo(
        participant_id=pid, name=name, host=host, bot=bot, joined_at=joined_at, tracks=tracks
    )


class MockMeeting:
    """One room. Tests set the public fields before the page joins, and `emit` events after.

    `refuse` maps a request to the code it is refused with; while `gate` is cleared, nobody can connect.
    """

    def __init__(self) -> None:
        self.config: dict[str, Any] = {
            "open_rooms": True,
            "demo_room": None,
            "secure_hint": None,
            "ice_servers": [],
            "version": "test",
        }
        self.refuse: dict[str, ErrorCode] = {}
        self.others: list[messages.ParticipantInfo] = []
        self.processors: list[ProcessorInfo] = []
        self.processor_status: list[ProcessorStatus] = []
        self.chat: list[messages.ChatLine] = []
        self.host = False
        self.resume = True
        self.media = False
        self.requests: list[tuple[str, messages.Message]] = []
        self.url = ""
        self.connections: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._sio = socketio.AsyncServer(async_mode="aiohttp", cors_allowed_origins="*")
        self._incoming: RTCPeerConnection | None = None
        self._outgoing: RTCPeerConnection | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._answer = ""
        self._peer = ("", "")

    def sent(self, event: str) -> list[Any]:
        """Every request of this name so far, oldest first."""
        return [message for name, message in self.requests if name == event]

    async def emit(self, event: str, **fields: Any) -> None:
        """Send an event to the page, built and checked by its model."""
        message = messages.EVENTS[event](**fields)
        await self._sio.emit(event, message.model_dump(mode="json"))

    async def drop_connections(self) -> None:
        """Cut every Socket.IO connection, as a server that restarts does."""
        for sid in list(self.connections):
            await self._sio.disconnect(sid)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["MockMeeting"]:
        """Serve on a free port of loopback until the block ends."""
        self._sio.on("connect", self._on_connect)
        self._sio.on("disconnect", self._on_disconnect)
        for event in messages.REQUESTS:
            self._sio.on(event, self._handler(event))
        app = aiohttp.web.Application(middlewares=[_secure])
        self._sio.attach(app)
        app.router.add_get("/api/v1/config", self._get_config)
        app.router.add_get("/", _index)
        app.router.add_get("/r/{room}", _index)
        app.router.add_static("/assets", DIST / "assets")
        runner = aiohttp.web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            # aioice leaves loopback out on purpose; nothing here may leave it.
            with patch("aioice.ice.get_host_addresses", return_value=["127.0.0.1"]):
                yield self
        finally:
            for task in self._tasks:
                task.cancel()
            for connection in (self._incoming, self._outgoing):
                if connection is not None:
                    await connection.close()
            await self._sio.shutdown()
            await runner.cleanup()

    async def _get_config(self, _: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.json_response(self.config)

    async def _on_connect(self, sid: str, _environ: dict[str, Any]) -> None:
        await self.gate.wait()
        self.connections.append(sid)

    async def _on_disconnect(self, sid: str, _reason: str) -> None:
        self.connections.remove(sid)

    def _handler(self, event: str) -> Any:
        request, _ = messages.REQUESTS[event]
        work = getattr(self, f"_{event}", None)

        async def handle(_sid: str, payload: Any) -> dict[str, Any]:
            message = request.model_validate(payload)
            self.requests.append((event, message))
            if event in self.refuse:
                code = self.refuse[event]
                error = messages.Error(code=code, message="refused by the test", retryable=code in RETRYABLE)
                return messages.Ack(ok=False, error=error).model_dump(mode="json")
            result: BaseModel | None = await work(message) if work is not None else None
            dumped = None if result is None else result.model_dump(mode="json")
            return messages.Ack(ok=True, result=dumped).model_dump(mode="json")

        return handle

    async def _join(self, request: messages.Join) -> messages.JoinResult:
        room = messages.RoomSnapshot(
            room_id=request.room_id,
            locked=False,
            participants=self.others,
            processors=self.processors,
            processor_status=self.processor_status,
            chat=self.chat,
        )
        if self.media and self.others and self._outgoing is None:
            self._start(self._offer())
        return messages.JoinResult(
            participant_id=SELF_ID,
            host=self.host,
            resumed=request.session_key is not None and self.resume,
            session_key=secrets.token_hex(16),
            room=room,
            ice_servers=[],
            protocol_version=messages.PROTOCOL_VERSION,
            invite_url=f"{self.url}/r/{request.room_id}",
            nodes=[],
        )

    async def _leave(self, _: messages.Leave) -> None:
        await self.emit("closed", reason=CloseReason.LEFT)

    async def _chat(self, request: messages.Chat) -> None:
        sent_at = datetime.now(UTC).isoformat()
        line = messages.ChatLine(participant_id=SELF_ID, name="Mira", text=request.text, sent_at=sent_at)
        await self.emit("chat_message", line=line)

    async def _publish(self, request: messages.Publish) -> messages.PublishResult:
        """Answer for real; but an ICE restart with credentials that lead nowhere, so that the old path stays in use."""
        ufrag = re.findall(r"a=ice-ufrag:(\S+)", request.sdp)[0]
        fingerprint = re.findall(r"a=fingerprint:(.+)", request.sdp)[0]
        if (ufrag, fingerprint) != self._peer and fingerprint == self._peer[1]:
            self._answer = re.sub(r"a=ice-ufrag:.*", f"a=ice-ufrag:{secrets.token_hex(4)}", self._answer)
        else:
            await self._negotiate(request.sdp, new=fingerprint != self._peer[1])
        self._peer = (ufrag, fingerprint)
        track_ids = {track.mid: f"{SELF_ID}-{track.source}" for track in request.tracks}
        return messages.PublishResult(sdp=self._answer, track_ids=track_ids)

    async def _negotiate(self, offer: str, *, new: bool) -> None:
        if self._incoming is None or new:
            if self._incoming is not None:
                await self._incoming.close()
            self._incoming = RTCPeerConnection()
        await self._incoming.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await self._incoming.setLocalDescription(await self._incoming.createAnswer())
        self._answer = _with_simulcast(self._incoming.localDescription.sdp, offer)
        if not self.media:
            self._answer = _unreachable(self._answer)

    async def _subscribe_answer(self, request: messages.SubscribeAnswer) -> None:
        if self._outgoing is not None:
            await self._outgoing.setRemoteDescription(RTCSessionDescription(request.sdp, "answer"))

    async def _offer(self) -> None:
        """Offer what the others send: drawn people, silent."""
        connection = RTCPeerConnection(RTCConfiguration(bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self._outgoing = connection
        carried = []
        for index, other in enumerate(self.others):
            for track in other.tracks:
                source = PortraitTrack(index) if track.kind == "video" else AudioStreamTrack()
                connection.addTransceiver(source, direction="sendonly")
                carried.append(track)
        await connection.setLocalDescription(await connection.createOffer())
        mids = [transceiver.mid for transceiver in connection.getTransceivers()]
        tracks = {
            mid: {"track_id": track.track_id, "participant_id": track.participant_id, "kind": track.kind}
            for mid, track in zip(mids, carried, strict=True)
        }
        await self.emit("subscribe_offer", sdp=connection.localDescription.sdp, version=1, tracks=tracks)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _with_simulcast(answer: str, offer: str) -> str:
    """Accept the layers that the page offers for its camera; aiortc knows no simulcast and leaves them out."""
    extension = re.search(r"a=extmap:(\d+) urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", offer)
    if extension is None or "a=simulcast:send" not in offer:
        return answer
    rids = "".join(f"a=rid:{rid} recv\r\n" for rid in "qhf")
    lines = f"{extension[0]}\r\n{rids}a=simulcast:recv q;h;f\r\n"
    return re.sub(r"(m=video [^\r]*\r\n(?:[^m][^\r]*\r\n)*)", rf"\g<1>{lines}", answer, count=1)


def _unreachable(sdp: str) -> str:
    """The same answer with an address at which nobody listens, as behind a firewall that drops UDP."""
    return re.sub(r"(a=candidate:\S+ \d udp \d+ )\S+ \d+", r"\g<1>127.0.0.1 40009", sdp)


async def _index(_: aiohttp.web.Request) -> aiohttp.web.FileResponse:
    return aiohttp.web.FileResponse(DIST / "index.html")


@aiohttp.web.middleware
async def _secure(request: aiohttp.web.Request, handler: Any) -> aiohttp.web.StreamResponse:
    response: aiohttp.web.StreamResponse = await handler(request)
    if not response.prepared:
        response.headers["Content-Security-Policy"] = CSP
    return response
