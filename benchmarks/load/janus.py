"""Janus's videoroom as a server under load: Debian's package, one event loop, over its WebSocket API."""

import asyncio
import contextlib
import itertools
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.load.processes import Scheduled, scheduled, started_on
from benchmarks.load.servers import MakeAnswer

ROOM = 1234
START_TIMEOUT_S = 20.0
REPLY_TIMEOUT_S = 20.0
JOIN_ATTEMPTS, JOIN_RETRY_S = 20, 0.1

_MAIN = """general: {{
  configs_folder = "{folder}"
  plugins_folder = "{package}/plugins"
  transports_folder = "{package}/transports"
  events_folder = "{package}/none"
  loggers_folder = "{package}/none"
  debug_level = 2
  event_loops = 1
  session_timeout = 0
}}
plugins: {{ disable = "{other_plugins}" }}
transports: {{ disable = "{other_transports}" }}
"""
_WEBSOCKETS = """general: {{
  ws = true
  ws_ip = "127.0.0.1"
  ws_port = {port}
  wss = false
}}
admin: {{ admin_ws = false }}
"""
_VIDEOROOM = """general: {{}}
room-{room}: {{
  description = "benchmark"
  publishers = 1
  bitrate = 0
  fir_freq = 0
  audiocodec = "opus"
  videocodec = "vp8"
  notify_joining = false
}}
"""


def installed() -> bool:
    """Whether there is a `janus` to compare with."""
    return shutil.which("janus") is not None


class JanusServer:
    """See `Server`."""

    name = "janus"

    def __init__(self, core: int) -> None:
        self._core = core
        self._folder = tempfile.TemporaryDirectory(prefix="janus-bench-")
        self._process: asyncio.subprocess.Process | None = None
        self._http: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._reading: asyncio.Task[None] | None = None
        self._replies: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = itertools.count()
        self._session_id = 0
        self._feed = 0

    async def start(self) -> None:
        """See `Server`."""
        port = _free_port()
        self._configure(Path(self._folder.name), port)
        with started_on(self._core):
            self._process = await asyncio.create_subprocess_exec(
                "janus", "-F", self._folder.name, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
            )
        self._http = aiohttp.ClientSession()
        async with asyncio.timeout(START_TIMEOUT_S):
            while self._socket is None:
                with contextlib.suppress(aiohttp.ClientError):
                    self._socket = await self._http.ws_connect(
                        f"ws://127.0.0.1:{port}", protocols=("janus-protocol",), heartbeat=10
                    )
                await asyncio.sleep(0.05)
        self._reading = asyncio.create_task(self._read(self._socket))
        self._session_id = (await self._request(janus="create"))["data"]["id"]

    def _configure(self, folder: Path, port: int) -> None:
        package = next(Path("/usr/lib").glob("*/janus"))
        plugins = (path.name for path in (package / "plugins").glob("*.so"))
        transports = (path.name for path in (package / "transports").glob("*.so"))
        main = _MAIN.format(
            folder=folder,
            package=package,
            other_plugins=",".join(name for name in plugins if name != "libjanus_videoroom.so"),
            other_transports=",".join(name for name in transports if name != "libjanus_websockets.so"),
        )
        (folder / "janus.jcfg").write_text(main)
        (folder / "janus.transport.websockets.jcfg").write_text(_WEBSOCKETS.format(port=port))
        (folder / "janus.plugin.videoroom.jcfg").write_text(_VIDEOROOM.format(room=ROOM))

    # --- its API

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            reply = message.json()
            waiting = self._replies.get(reply.get("transaction", ""))
            if waiting is not None and reply["janus"] != "ack" and not waiting.done():
                waiting.set_result(reply)

    async def _request(self, **message: Any) -> dict[str, Any]:
        assert self._socket is not None
        transaction = str(next(self._numbers))
        waiting = self._replies[transaction] = asyncio.get_running_loop().create_future()
        if self._session_id:
            message["session_id"] = self._session_id
        await self._socket.send_json({**message, "transaction": transaction})
        try:
            reply: dict[str, Any] = await asyncio.wait_for(waiting, REPLY_TIMEOUT_S)
        finally:
            del self._replies[transaction]
        error = reply.get("error") or reply.get("plugindata", {}).get("data", {}).get("error")
        if error:
            raise ConnectionError(f"janus: {error}")
        return reply

    async def _attach(self) -> int:
        reply = await self._request(janus="attach", plugin="janus.plugin.videoroom")
        return int(reply["data"]["id"])

    async def publish(self, offer: str) -> str:
        """See `Server`."""
        handle = await self._attach()
        join = {"request": "join", "ptype": "publisher", "room": ROOM, "display": "publisher"}
        joined = await self._request(janus="message", handle_id=handle, body=join)
        self._feed = joined["plugindata"]["data"]["id"]
        jsep = {"type": "offer", "sdp": offer}
        reply = await self._request(janus="message", handle_id=handle, body={"request": "publish"}, jsep=jsep)
        return str(reply["jsep"]["sdp"])

    async def subscribe(self, index: int, make_answer: MakeAnswer) -> None:
        """See `Server`."""
        handle = await self._attach()
        join = {"request": "join", "ptype": "subscriber", "room": ROOM, "streams": [{"feed": self._feed}]}
        joined = await self._joined(handle, join)
        jsep = {"type": "answer", "sdp": make_answer(joined["jsep"]["sdp"])}
        await self._request(janus="message", handle_id=handle, body={"request": "start"}, jsep=jsep)

    async def _joined(self, handle: int, join: dict[str, Any]) -> dict[str, Any]:
        """The publisher is in the room only once Janus has seen its DTLS come up, a moment after we have."""
        for _ in range(JOIN_ATTEMPTS):
            try:
                return await self._request(janus="message", handle_id=handle, body=join)
            except ConnectionError:
                await asyncio.sleep(JOIN_RETRY_S)
        return await self._request(janus="message", handle_id=handle, body=join)

    # --- its process

    def scheduled(self) -> Scheduled:
        """See `Server`."""
        assert self._process is not None
        return scheduled(self._process.pid)

    async def close(self) -> None:
        """See `Server`."""
        if self._reading is not None:
            self._reading.cancel()
        if self._http is not None:
            await self._http.close()
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()
        self._folder.cleanup()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
