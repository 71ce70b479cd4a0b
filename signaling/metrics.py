"""What signaling tells Prometheus and the supervisor, on a socket of its own: `signaling.sock`, requests `metrics` and `health`;
`drain`, in a cluster, comes from the operator.

Counted where it happens (`gateway`, `rooms`, `insights`), read when somebody asks. No label names a room or a person.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sfu.channel import Channel, ChannelError, serve
from signaling.participants import ParticipantState
from signaling.protocol.codes import CloseReason
from signaling.protocol.messages import TrackSource
from signaling.rooms import Rooms

SOCKET_NAME = "signaling.sock"
LAG_PERIOD_S = 0.1
LAG_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
JOIN_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class RequestCounters:
    """What clients asked for, and how it went. In no registry yet: `SignalingMetrics` puts the histogram into one."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        """By request (`unknown`, if there is none of that name) and result: ok, or the code of the error."""
        self.joins: Counter[str] = Counter()
        """By result: `new`, `resumed`, `redirected`, or the code of the error."""
        self.join_seconds = Histogram(
            "candor_join_seconds",
            "From the request to the answer with the room, of joins that succeeded",
            buckets=JOIN_S,
            registry=None,
        )
        self.cut: Counter[str] = Counter()
        """Sockets that we cut, by reason."""


class SignalingMetrics(Collector):
    """Declared in `registry`. `sockets`, `ready_workers`: how many there are now; `dropped`: findings, by reason."""

    def __init__(
        self,
        registry: CollectorRegistry,
        counters: RequestCounters,
        rooms: Rooms,
        sockets: Callable[[], int],
        ready_workers: Callable[[], int],
        dropped: Mapping[str, int],
    ) -> None:
        self.lag = Histogram(
            "candor_event_loop_lag_seconds",
            "How much later than it should a timer of the event loop ran",
            buckets=LAG_S,
            registry=registry,
        )
        self._registry = registry
        self._counters = counters
        self._rooms = rooms
        self._sockets = sockets
        self._ready_workers = ready_workers
        self._dropped = dropped
        registry.register(counters.join_seconds)
        registry.register(self)

    def page(self) -> str:
        """The text for Prometheus (text format 0.0.4)."""
        return generate_latest(self._registry).decode()

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        yield from self._people()
        yield GaugeMetricFamily("candor_sockets", "Sockets of clients", self._sockets())
        yield GaugeMetricFamily("candor_ready_workers", "Media workers that take rooms", self._ready_workers())
        counters = self._counters
        requests = CounterMetricFamily(
            "candor_requests", "Requests of clients; result: ok, or the code of the error", labels=("request", "result")
        )
        for labels, count in counters.requests.items():
            requests.add_metric(labels, count)
        yield requests
        text = "Requests to join; result: new, resumed, redirected, or the code of the error"
        yield _counter("candor_joins", text, "result", counters.joins)
        yield _counter("candor_sockets_cut", "Sockets that the server cut", "reason", counters.cut)
        left = {reason.value: self._rooms.closed[reason] for reason in CloseReason}
        yield _counter("candor_participants_left", "Seats given up, by close reason", "reason", left)
        text = "Findings that were not passed on: of an older consent epoch, of no track, malformed, or kept back by the policy"
        yield _counter("candor_findings_dropped", text, "reason", self._dropped)

    def _people(self) -> Iterator[Metric]:
        rooms = list(self._rooms)
        people = [one for room in rooms for one in room.participants.values()]
        states, bots = Counter(one.state for one in people), sum(one.bot for one in people)
        tracks = Counter(track.source for one in people for track in one.tracks.values())
        yield GaugeMetricFamily("candor_rooms", "Rooms with somebody in them", len(rooms))
        participants = GaugeMetricFamily(
            "candor_participants", "Participants; away: the socket is lost, the seat is kept", labels=("state",)
        )
        for state in (ParticipantState.JOINING, ParticipantState.PRESENT, ParticipantState.AWAY):
            participants.add_metric((state.value,), states[state])
        yield participants
        yield GaugeMetricFamily("candor_bots", "Participants that are bots", bots)
        published = GaugeMetricFamily("candor_tracks", "Published tracks", labels=("source",))
        for source in get_args(TrackSource):
            published.add_metric((source,), tracks[source])
        yield published


class Inspection:
    """Serves `signaling.sock` to the supervisor, and measures how late the event loop is."""

    def __init__(
        self,
        path: Path,
        metrics: SignalingMetrics,
        ready_workers: Callable[[], int],
        drain: Callable[[], Awaitable[int]] | None = None,
    ) -> None:
        """`drain` moves our rooms to other machines and says how many are left; None without a cluster."""
        self._drain = drain
        self._path = path
        self._metrics = metrics
        self._ready_workers = ready_workers
        self._channels: set[Channel] = set()
        self._server: asyncio.Server | None = None
        self._measuring: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await serve(self._path, self._accept)
        self._measuring = asyncio.create_task(self._measure(), name="event-loop-lag")

    async def close(self) -> None:
        """Stop; idempotent."""
        if self._measuring is not None:
            self._measuring.cancel()
            await asyncio.gather(self._measuring, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        for channel in list(self._channels):
            await channel.close()

    def _accept(self, channel: Channel) -> None:
        self._channels = {known for known in self._channels if not known.closed.is_set()} | {channel}
        channel.on_request = self._answer
        channel.start()

    async def _answer(self, method: str, params: dict[str, Any]) -> Any:
        match method:
            case "metrics":
                return self._metrics.page()
            case "health":
                return {"ready_workers": self._ready_workers()}
            case "drain" if self._drain is not None:
                return {"rooms": await self._drain()}
        raise ChannelError("no_such_method", method)

    async def _measure(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + LAG_PERIOD_S
            await asyncio.sleep(LAG_PERIOD_S)
            self._metrics.lag.observe(max(0.0, loop.time() - due_s))


def _counter(name: str, text: str, label: str, values: Mapping[str, float]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=(label,))
    for value, count in values.items():
        family.add_metric((value,), count)
    return family
