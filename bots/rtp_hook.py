"""RTP packets as they arrive, before aiortc's jitter buffer, for measurement.

aiortc has no public way to see packets. Of its private places this leans on the narrowest: `RTCDtlsTransport` calls
`receiver._handle_rtp_packet(packet, arrival_time_ms=...)` for each packet that belongs to a receiver, after decryption and
routing. That one method is shadowed on the instance; the original is always called. The contract test
`tests/contract/test_aiortc_rtp_hook.py` fails if an upgrade changes this.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiortc import RTCRtpReceiver


@dataclass(frozen=True, slots=True)
class RawRtp:
    """One received RTP packet, decrypted (RFC 3550, section 5.1).

    Retransmissions (RFC 4588) come as they are on the wire: with their own `payload_type` and `ssrc`.
    """

    track_id: str
    kind: str
    ssrc: int
    payload_type: int
    sequence_number: int
    timestamp: int
    marker: bool
    payload: bytes
    arrival_ns: int  # time.monotonic_ns() at the moment of decryption


RtpCallback = Callable[[RawRtp], None]


def tap_receiver(
    receiver: RTCRtpReceiver, kind: str, track_id: Callable[[], str | None], callback: RtpCallback
) -> None:
    """Call `callback` for each packet of `receiver` for which `track_id()` knows a track; aiortc then handles it as usual.

    `callback` must be quick and must not raise: it runs in the loop that receives.
    """
    original = receiver._handle_rtp_packet

    async def handle(packet: Any, arrival_time_ms: int) -> None:
        arrival_ns = time.monotonic_ns()
        current = track_id()
        if current is not None:
            callback(
                RawRtp(
                    track_id=current,
                    kind=kind,
                    ssrc=packet.ssrc,
                    payload_type=packet.payload_type,
                    sequence_number=packet.sequence_number,
                    timestamp=packet.timestamp,
                    marker=bool(packet.marker),
                    payload=packet.payload,
                    arrival_ns=arrival_ns,
                )
            )
        await original(packet, arrival_time_ms=arrival_time_ms)

    receiver._handle_rtp_packet = handle  # type: ignore[method-assign]  # shadowing the method is the hook
