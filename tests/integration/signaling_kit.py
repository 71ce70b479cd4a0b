"""A real signaling server on loopback, real Socket.IO clients, and the scripted worker behind real channels."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import socketio

from media_processors.findings import Caption
from signaling import auth
from signaling.protocol.messages import EVENTS, REQUESTS, Ack
from signaling.server import SignalingServer
from signaling.settings import SignalingSettings
from tests.fakes.worker import FakeHost, FakeWorker
from tests.until import until

SECRET = "s" * 32
ROOM = "weekly"
IMG = "<img src=x onerror=alert(1)>"
MICROPHONE = [{"mid": "0", "source": "microphone"}]
DENOISE = {"name": "denoise", "kind": "transform", "media": "audio", "available": True, "model": "rnnoise@1"}
CAPTIONS = {"name": "captions", "kind": "observer", "media": "audio", "available": True}
EMOTION = {
    "name": "emotion",
    "kind": "observer",
    "media": "audio",
    "available": False,
    "reason": "not installed",
    "command": "make models",
    "default_on": False,
}


class Client:
    """One Socket.IO client. Checks every ack and every event against its model; `log` holds them in order of arrival."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.log: list[tuple[str, Any]] = []
        self.me = ""
        self.key = ""
        self.sio = socketio.AsyncClient(reconnection=False)
        self.sio.on("*", self._event)

    async def connect(self, **headers: str) -> "Client":
        await self.sio.connect(self.url, transports=["websocket"], headers=headers)
        return self

    async def ask(self, event: str, payload: Any = None) -> dict[str, Any]:
        """The whole ack."""
        answer = await self.sio.call(event, {} if payload is None else payload, timeout=10)
        ack = Ack.model_validate(answer)
        assert ack.ok is (ack.error is None)
        if ack.ok and event in REQUESTS and REQUESTS[event][1] is not None:
            REQUESTS[event][1].model_validate(answer["result"])
        self.log.append((f"ack:{event}", answer))
        return dict(answer)

    async def result(self, event: str, payload: Any = None) -> Any:
        """The result of a request that must succeed."""
        answer = await self.ask(event, payload)
        assert answer["ok"], answer
        return answer["result"]

    async def code(self, event: str, payload: Any = None) -> str:
        """The error code of a request that must fail."""
        answer = await self.ask(event, payload)
        assert not answer["ok"], answer
        return str(answer["error"]["code"])

    async def join(self, name: str = "Ada", room: str = ROOM, **fields: Any) -> Any:
        """Join, and remember who we are and the key for coming back."""
        result = await self.result("join", {"room_id": room, "name": name, **fields})
        self.me = result["participant_id"]
        self.key = result["session_key"]
        return result

    async def publish(self, tracks: list[dict[str, Any]] = MICROPHONE) -> dict[str, str]:
        """Publish; mid -> track id."""
        result = await self.result("publish", {"sdp": "v=0 offer", "tracks": tracks})
        return dict(result["track_ids"])

    def events(self, name: str) -> list[Any]:
        """All events of a name so far."""
        return [message for event, message in self.log if event == name]

    async def event(self, name: str, count: int = 1) -> Any:
        """Wait for the `count`-th event of a name."""
        await until(lambda: "" if len(self.events(name)) >= count else f"{name} number {count}")
        return self.events(name)[count - 1]

    async def drop(self) -> None:
        """Lose the connection without a word."""
        await self.sio.eio.ws.close()
        await until(lambda: "the client's loss" if self.sio.connected else "")

    def stop_reading(self) -> None:
        """Leave everything from now on in the buffers of the system; no public API of the library does that."""
        self.sio.eio.ws._response.connection.transport.pause_reading()

    def read_on(self) -> None:
        """Take what has piled up since `stop_reading`, the end of the connection included."""
        self.sio.eio.ws._response.connection.transport.resume_reading()

    async def close(self) -> None:
        with contextlib.suppress(Exception):  # whatever state a test left it in
            await self.sio.disconnect()

    async def _event(self, event: str, message: Any) -> None:
        EVENTS[event].model_validate(message)
        self.log.append((event, message))


class Meeting:
    """A server, its worker and hosts, and whoever connects."""

    def __init__(self, run_dir: Path, *, video: Sequence[dict[str, Any]] = (), **settings: Any) -> None:
        """`video`: what there is in the video host; without it there is none."""
        self.run_dir = run_dir
        self.settings = SignalingSettings.model_validate({"port": 0, **settings})
        self.worker = FakeWorker(run_dir / "worker-0.sock")
        self.path_host = FakeHost(run_dir / "path.sock", [DENOISE])
        self.watch_host = FakeHost(run_dir / "watch.sock", [CAPTIONS, EMOTION])
        self.video_host = FakeHost(run_dir / "video.sock", list(video))
        self.clients: list[Client] = []
        self.server = self._new_server()

    async def start(self) -> None:
        await self.worker.start()
        await self.path_host.start()
        await self.watch_host.start()
        if self.video_host.infos:
            await self.video_host.start()
        await self._start_server()

    async def close(self) -> None:
        for client in self.clients:
            await client.close()
        await self.server.close()
        await self.path_host.close()
        await self.watch_host.close()
        await self.video_host.close()
        await self.worker.close()

    async def restart_server(self) -> None:
        """A new signaling process on the same workers."""
        await self.server.close()
        self.server = self._new_server()
        await self._start_server()

    async def client(self, **headers: str) -> Client:
        client = Client(self.server.url)
        self.clients.append(client)
        return await client.connect(**headers)

    async def joined(self, name: str = "Ada", **fields: Any) -> Client:
        client = await self.client()
        await client.join(name, **fields)
        return client

    def token(self, identity: str = "", **claims: Any) -> str:
        return auth.mint(SECRET, claims.pop("room", ROOM), identity=identity, **claims)

    def _new_server(self) -> SignalingServer:
        video_host = bool(self.video_host.infos)
        return SignalingServer(self.settings, self.run_dir, 1, self.run_dir / "web", video_host=video_host)

    async def _start_server(self) -> None:
        await self.server.start()
        insights = self.server.insights
        await until(lambda: "" if self.server.media.ready_workers else "a ready worker")
        hosts = (self.path_host, self.watch_host, self.video_host)
        count = sum(len(host.infos) for host in hosts)
        await until(lambda: "" if len(insights.processors()) == count else "the hosts' processors")


@contextlib.asynccontextmanager
async def meeting(run_dir: Path, **settings: Any) -> AsyncIterator[Meeting]:
    """A meeting that runs, and is cleaned up."""
    one = Meeting(run_dir, **settings)
    await one.start()
    try:
        yield one
    finally:
        await one.close()


def caption(participant_id: str, track_id: str, epoch: int) -> dict[str, Any]:
    """A caption of somebody who says `IMG`, as a host sends it."""
    return Caption(
        room_id=ROOM,
        participant_id=participant_id,
        track_id=track_id,
        epoch=epoch,
        start_ms=0,
        end_ms=900,
        model="test@1",
        segment_id="s1",
        rev=0,
        text=IMG,
        stable_chars=0,
        final=False,
        language="en",
        quality="test",
        latency_ms=700,
    ).model_dump()
