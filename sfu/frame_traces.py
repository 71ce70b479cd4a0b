"""Now and then a packet of sound is followed through the path of a transform: a span `frame`, and one for each step below it.

    frame   tap -> decode -> vad -> each processor -> encode -> inject -> send

`tap` begins when the worker has read the packet and ends when the host turns to it; `inject` ends when the result is released in
order, `send` when the last listener was sent it. What the path host tells of its steps is on the same clock, this machine's. One
packet is followed at a time; who is not followed costs a subtraction and two comparisons.
"""

import random
import time
from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context

from sfu.path import AudioPacket
from sfu.tap import Step, Traced
from sfu.tapped import Tapped

LOST_S = 0.1
"""Nobody waits longer for a packet: its deadline is 20 ms."""


class FrameTraces:
    """Follows packets of one worker, one in `between` on average; none if that is 0."""

    def __init__(self, between: int) -> None:
        self._between = between
        self._left = self._some()
        self.packet: AudioPacket | None = None
        """The one that is followed: its owner compares every packet that is released with it."""
        self._tapped: Tapped | None = None
        self._steps: tuple[Step, ...] = ()

    def due(self) -> bool:
        """Asked for every packet that goes to the path host: whether to follow this one."""
        self._left -= 1
        if self._left:
            return False
        self._left = self._some()
        return self.packet is None

    def follow(self, tapped: Tapped, packet: AudioPacket) -> None:
        """This packet is on its way to the path host."""
        self._tapped, self.packet, self._steps = tapped, packet, ()

    def heard(self, told: Traced) -> None:
        """The path host has told of a packet; of any other than the followed one it is ignored."""
        if self._tapped is None or self.packet is None:
            return
        if (told.handle, told.seq) == (self._tapped.handle, self.packet.seq_ext & 0xFFFF):
            self._steps = told.steps

    def sent(self, processed: bool, released_ns: int) -> None:
        """The followed packet was released at `released_ns`, and its listeners have been sent it. `processed`: what the host made
        of it, not the packet itself."""
        ends = (Step(name="inject", ended_ns=released_ns), Step(name="send", ended_ns=time.monotonic_ns()))
        self._tell("processed" if processed else "bypassed", (*self._steps, *ends))

    def lost(self, packet: AudioPacket) -> None:
        """`LOST_S` have passed since `packet`. If it is still followed, it was dropped."""
        if packet is self.packet:
            self._tell("dropped", self._steps)

    def _tell(self, outcome: str, steps: Sequence[Step]) -> None:
        """The spans, afterwards: each step begins where the one before it ended."""
        tapped, packet = self._tapped, self.packet
        self._tapped = self.packet = None
        if tapped is None or packet is None:
            return
        attributes = {
            "candor.outcome": outcome,
            "candor.room_id": tapped.room_id,
            "candor.participant_id": tapped.producer.participant_id,
            "candor.track_id": tapped.producer.track_id,
        }
        to_utc_ns = time.time_ns() - time.monotonic_ns()
        tracer = trace.get_tracer("candor")
        began_ns = packet.arrival_ns
        frame = tracer.start_span("frame", Context(), attributes=attributes, start_time=began_ns + to_utc_ns)
        below = trace.set_span_in_context(frame, Context())
        for step in steps:
            model = {"candor.model": step.model} if step.model else None
            span = tracer.start_span(step.name, below, attributes=model, start_time=began_ns + to_utc_ns)
            began_ns = max(began_ns, step.ended_ns)
            span.end(began_ns + to_utc_ns)
        frame.end(began_ns + to_utc_ns)

    def _some(self) -> int:
        """Packets until the next one: at random, for tracks come in turns. 0, of which there is never one, if none is followed."""
        if self._between <= 1:
            return self._between
        return random.randrange(1, 2 * self._between)  # nosec B311  # to spread them, not a secret
