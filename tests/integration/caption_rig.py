"""A worker's tap without a worker, the real watch host, the real engine in its own process: speech in, findings out."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import wave
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from media_processors import registry
from media_processors.audio.captions import Captions
from media_processors.base import Samples
from media_processors.codec import OpusEncoder
from media_processors.findings import FINDING, Caption, Finding, ProcessorStatus
from media_processors.settings import ProcessingSettings
from media_processors.watch_host import SOCKET_NAME, WatchHost
from models.store import Store
from sfu.channel import Channel, connect
from sfu.tap import CloseTrack, OpenTrack, Sound, TapPacket, TapSocket, listen
from tests.until import until

RATE_HZ = 48_000
FRAME_SAMPLES = 960
SHARED_MEDIA = Path(__file__).parents[3] / "shared" / "media"
ENGINE = """
import asyncio, sys
from pathlib import Path
from models.engine import run
from models.settings import ModelSettings
asyncio.run(run(ModelSettings(models_dir=Path(sys.argv[1]) / "models", pocketsphinx_decoders=1), Path(sys.argv[1])))
"""


def load_wav(path: Path) -> Samples:
    """A 16 kHz mono WAV at 48 kHz. Linear interpolation: what it adds above 8 kHz no 16 kHz recogniser hears."""
    with wave.open(str(path)) as file:
        if (file.getframerate(), file.getnchannels()) != (16_000, 1):
            raise ValueError(f"{path.name} is not 16 kHz mono")
        pcm = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32_768
    at = np.arange(len(pcm) * 3) / 3
    return np.interp(at, np.arange(len(pcm)), pcm).astype(np.float32)


def flite(voice: str, text: str, folder: Path) -> Samples:
    """Rendered speech. Raises FileNotFoundError without flite."""
    path = folder / "speech.wav"
    subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(path)], check=True, capture_output=True)
    return load_wav(path)


def silence(seconds: float) -> Samples:
    """Nearly: a recording is never exactly zero."""
    return np.random.default_rng(0).normal(0, 1e-4, int(seconds * RATE_HZ)).astype(np.float32)


@dataclass
class Rig:
    """One room with one worker. Use as an async context manager."""

    run_dir: Path
    processors: dict[str, registry.Loaded] | None = None
    findings: list[Finding] = field(default_factory=list)
    statuses: list[ProcessorStatus] = field(default_factory=list)
    engine: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> "Rig":
        self._listener = listen(self.run_dir / "worker-0.tap")
        self.start_engine()
        if self.processors is None:
            observer = Captions()
            self.processors = {"captions": registry.Loaded(observer.info(), observer)}
        self.host = WatchHost(ProcessingSettings(), Store(self.run_dir / "models"), self.run_dir, 1, self.processors)
        await self.host.start()
        self.channel: Channel = await connect(self.run_dir / SOCKET_NAME)
        self.channel.on_notify = self._notified
        self.channel.start()
        self.worker = await self._accept()
        await until(lambda: "" if self.host.engine.connected else "the engine", timeout_s=30)
        self._encoders: dict[tuple[int, Sound], OpusEncoder] = {}
        self._sent: dict[int, int] = {}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.channel.close()
        await self.host.close()
        self.worker.close()
        self._listener.close()
        if self.engine is not None:
            self.engine.terminate()
            self.engine.wait(10)

    def start_engine(self) -> None:
        """Start the engine process."""
        self.engine = subprocess.Popen([sys.executable, "-c", ENGINE, str(self.run_dir)])

    def kill_engine(self) -> None:
        """kill -9."""
        assert self.engine is not None
        os.kill(self.engine.pid, signal.SIGKILL)
        self.engine.wait(10)

    async def _accept(self) -> TapSocket:
        accepted: list[socket.socket] = []

        def missing() -> str:
            try:
                accepted.append(self._listener.accept()[0])
            except BlockingIOError:
                return "the watch host at the worker's tap"
            return ""

        await until(missing)
        return TapSocket(accepted[0])

    async def reconnect(self) -> None:
        """The worker died and is back."""
        self.worker.close()
        self.worker = await self._accept()

    def open(self, handle: int = 1, on: bool = True, epoch: int = 0) -> None:
        """Open (or switch) a track."""
        opened = OpenTrack(
            handle=handle,
            track_id=f"track-{handle}",
            room_id="room",
            participant_id=f"participant-{handle}",
            kind="audio",
            source="microphone",
            codec="opus",
            clock_hz=RATE_HZ,
            processors=dict.fromkeys(self.processors or (), on) | {"denoise": False},
            epoch=epoch,
        )
        self.worker.queue(opened)
        self.worker.flush()

    def close_track(self, handle: int = 1) -> None:
        """The publisher left."""
        self.worker.queue(CloseTrack(handle))
        self.worker.flush()

    async def say(self, sound: Samples, handle: int = 1, epoch: int = 0, realtime: bool = False) -> None:
        """Send sound as 20 ms Opus packets, as fast as the host takes them or as fast as time passes."""
        encoder = self._encoders.setdefault((handle, Sound.RAW), OpusEncoder())
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        for index in range(len(sound) // FRAME_SAMPLES):
            number = self._sent[handle] = self._sent.get(handle, 0) + 1
            payload = encoder.encode(sound[index * FRAME_SAMPLES : (index + 1) * FRAME_SAMPLES])
            self.worker.queue(self.packet(handle, number, payload, epoch))
            self.worker.flush()
            if realtime:
                await asyncio.sleep(max(0.0, start_s + index * 0.02 - loop.time()))
            elif index % 50 == 49:
                await until(lambda: "the host to hear all packets" if self._unheard() else "")
        await until(lambda: "the host to hear all packets" if self._unheard() else "")

    def packet(self, handle: int, number: int, payload: bytes, epoch: int) -> TapPacket:
        """A packet of raw sound."""
        return TapPacket(
            handle=handle,
            sound=Sound.RAW,
            marker=0,
            seq=number & 0xFFFF,
            timestamp=number * FRAME_SAMPLES & 0xFFFFFFFF,
            arrival_ns=time.monotonic_ns(),
            epoch=epoch,
            level=30,
            restart=0,
            payload=payload,
        )

    def _unheard(self) -> int:
        counters = self.host.counters
        taken = counters.listening.packets + counters.dropped + counters.stale + counters.unwanted
        return sum(self._sent.values()) - taken

    @property
    def captions(self) -> list[Caption]:
        """Among the findings."""
        return [finding for finding in self.findings if isinstance(finding, Caption)]

    def finals(self, track: str = "track-1") -> list[Caption]:
        """Final captions of a track."""
        return [caption for caption in self.captions if caption.final and caption.track_id == track]

    def settled(self, track: str = "track-1") -> bool:
        """Whether every caption of a track that was begun has ended."""
        begun = {caption.segment_id for caption in self.captions if caption.track_id == track}
        return bool(begun) and begun == {caption.segment_id for caption in self.finals(track)}

    def text(self, track: str = "track-1") -> str:
        """What was said, lower case, without punctuation."""
        return " ".join(caption.text for caption in self.finals(track))

    def state(self, track: str = "track-1") -> str:
        """The latest status of captions."""
        return next((s.state for s in reversed(self.statuses) if s.track_id == track), "")

    def _notified(self, event: str, params: dict[str, Any]) -> None:
        if event == "finding":
            self.findings.append(FINDING.validate_python(params))
        else:
            self.statuses.append(ProcessorStatus.model_validate(params))
