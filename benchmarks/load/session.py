"""One publisher and its subscribers on one server, and what a stretch of time with them costs."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.load import sdp
from benchmarks.load.dtls import Identity, make_identity
from benchmarks.load.link import Link
from benchmarks.load.media import Recording
from benchmarks.load.publisher import Publisher, PublisherFeedback
from benchmarks.load.servers import Server
from benchmarks.load.sink import Sink
from benchmarks.load.srtp import SrtpProfile

FEEDBACK_S = 0.05
"""Between a sink's transport-wide feedbacks: what Chromium does above 220 kb/s."""
ESTIMATE_S = 0.2
"""Between a sink's REMBs, which it sends instead of transport-wide feedback: again what Chromium does."""
REPORT_S = 1.0
JOINS_AT_ONCE = 4
MEDIA_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """Counts of one stretch."""

    seconds: float
    sent: int
    """By the publisher."""
    forwarded: int
    """That arrived, over all subscribers, without retransmissions."""
    lost: int
    repaired: int
    rejected: int
    """Not authentic, at the subscribers that decrypt."""
    cpu_us: float
    """Of the server's process."""
    waited_ms: float
    """How long that process was ready to run while others had its core."""

    @property
    def cpu_us_per_packet(self) -> float:
        """Everything that the server does, divided by what it forwards."""
        return self.cpu_us / self.forwarded


class Session:
    """`start()`, `grow()` to a number of subscribers, then `measure()` between `play()` and `pause()`."""

    def __init__(
        self,
        server: Server,
        profile: SrtpProfile,
        recording: Recording,
        *,
        stamped: bool = False,
        layers: bool = False,
    ) -> None:
        self.server = server
        self.sinks: list[Sink] = []
        self._profile = profile
        self._recording = recording
        self._stamped = stamped
        self._layers = layers
        self._identity: Identity = make_identity()
        self._publisher: Publisher | None = None
        self._links: list[Link] = []
        self._feedback: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the server and connect the publisher."""
        await self.server.start()
        link = Link(self._identity, self._profile, PublisherFeedback(), controlling=True)
        self._links.append(link)
        answer = await self.server.publish(sdp.publish_offer(link.local, layers=self._layers))
        await link.connect(sdp.read(answer))
        self._publisher = Publisher(link, self._recording, stamped=self._stamped)

    async def grow(self, subscribers: int) -> None:
        """Connect until there are this many. The first, the middle and the last one decrypt what they get."""
        gate = asyncio.Semaphore(JOINS_AT_ONCE)

        async def join(index: int) -> Sink:
            async with gate:
                return await self._join(index)

        self.sinks += await asyncio.gather(*(join(index) for index in range(len(self.sinks), subscribers)))
        for index, sink in enumerate(self.sinks):
            sink.decrypts = index in (0, subscribers // 2, subscribers - 1)

    async def _join(self, index: int) -> Sink:
        sink = Sink()
        link = Link(self._identity, self._profile, sink, controlling=False)
        self._links.append(link)
        connecting: list[asyncio.Task[None]] = []

        def make_answer(offer: str) -> str:
            remote = sdp.read(offer)
            sink.attach(link, remote)
            if not connecting:
                connecting.append(asyncio.create_task(link.connect(remote)))
            return sdp.answer(offer, link.local)

        await self.server.subscribe(index, make_answer)
        await asyncio.gather(*connecting)
        return sink

    async def play(self) -> None:
        """Let the publisher send, and wait until every subscriber gets sound and pictures."""
        assert self._publisher is not None
        for sink in self.sinks:
            sink.reset()
        self._publisher.play()
        self._feedback = [
            asyncio.create_task(self._in_turn(FEEDBACK_S, Sink.send_transport_feedback)),
            asyncio.create_task(self._in_turn(ESTIMATE_S, Sink.send_estimate)),
            asyncio.create_task(self._in_turn(REPORT_S, Sink.send_reports)),
        ]
        deadline = time.monotonic() + MEDIA_TIMEOUT_S
        while waiting := sum(not sink.flowing for sink in self.sinks):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.server.name}: {waiting} of {len(self.sinks)} subscribers get no media")
            await asyncio.sleep(0.05)

    async def pause(self) -> None:
        """Stop sending; the connections stay."""
        assert self._publisher is not None
        await self._publisher.pause()
        for task in self._feedback:
            task.cancel()
        await asyncio.gather(*self._feedback, return_exceptions=True)
        self._feedback = []

    async def measure(self, seconds: float) -> Measurement:
        """Count for a while. Packets on their way at the edges are counted on the wrong side: a handful."""
        assert self._publisher is not None
        for sink in self.sinks:
            sink.reset()
        before, sent, start = self.server.scheduled(), self._publisher.sent, time.monotonic()
        await asyncio.sleep(seconds)
        elapsed = time.monotonic() - start
        after = self.server.scheduled()
        return Measurement(
            seconds=elapsed,
            sent=self._publisher.sent - sent,
            forwarded=sum(sink.received for sink in self.sinks),
            lost=sum(sink.lost for sink in self.sinks),
            repaired=sum(sink.repaired for sink in self.sinks),
            rejected=sum(sink.rejected for sink in self.sinks),
            cpu_us=(after.cpu_ns - before.cpu_ns) / 1e3,
            waited_ms=(after.waited_ns - before.waited_ns) / 1e6,
        )

    async def _in_turn(self, period_s: float, send: Callable[[Sink], None]) -> None:
        """One sink after the other, spread over the period: real clients do not speak in chorus."""
        while True:
            for sink in self.sinks:
                send(sink)
                await asyncio.sleep(period_s / len(self.sinks))

    async def close(self) -> None:
        """Disconnect and stop the server; idempotent."""
        if self._publisher is not None:
            await self.pause()
        for link in self._links:
            link.close()
        await self.server.close()
