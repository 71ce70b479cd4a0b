"""What the worker knows of a participant's connection, for the others to see."""

from typing import TYPE_CHECKING

from sfu.channel.messages import Quality

if TYPE_CHECKING:
    from sfu.router import Participant


def measure(participant: "Participant", now_ns: int) -> Quality:
    """Losses in percent over the last reports, round trip in ms, downlink estimate in bit/s, and the layers received."""
    uplink_loss = 0.0
    if participant.publish is not None:
        losses = [
            source.reception.last_fraction_lost / 256
            for producer in participant.publish.producers.values()
            for source in producer.sources.values()
            if source.live(now_ns)
        ]
        uplink_loss = max(losses, default=0.0)
    layers = participant.subscribe.layers if participant.subscribe is not None else None
    return Quality(
        participant_id=participant.participant_id,
        uplink_loss_percent=round(100 * uplink_loss, 1),
        downlink_loss_percent=round(100 * layers.estimate.loss(now_ns), 1) if layers is not None else 0.0,
        rtt_ms=layers.rtt_ms if layers is not None else None,
        estimate_bps=layers.estimate.estimate_bps(now_ns) if layers is not None else None,
        layers=layers.states() if layers is not None else [],
    )
