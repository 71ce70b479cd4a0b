"""The control of the latency benchmark: the same publisher and sink joined over loopback, with SRTP but without a server."""

import asyncio
import secrets

from benchmarks.load import sdp
from benchmarks.load.dtls import make_identity
from benchmarks.load.link import Link
from benchmarks.load.media import AUDIO_CLOCK_HZ, VIDEO_CLOCK_HZ, Recording
from benchmarks.load.publisher import Publisher, PublisherFeedback
from benchmarks.load.sink import Sink
from benchmarks.load.srtp import Srtp, SrtpProfile


class DirectPair:
    """Create inside a running event loop."""

    def __init__(self, profile: SrtpProfile, recording: Recording) -> None:
        identity = make_identity()
        self._sink = Sink()
        self._sink.decrypts = True
        self._near = Link(identity, profile, PublisherFeedback(), controlling=True)
        self._far = Link(identity, profile, self._sink, controlling=False)
        there, back = (secrets.token_bytes(profile.key_length + profile.salt_length) for _ in range(2))
        self._near.join(("127.0.0.1", self._far.local.port), Srtp(profile, there, back))
        self._far.join(("127.0.0.1", self._near.local.port), Srtp(profile, back, there))
        self._sink.attach(self._far, _description(self._near.local))
        self._publisher = Publisher(self._near, recording, stamped=True)

    async def measure(self, seconds: float) -> list[int]:
        """Play for a while; the latency of each audio packet in ns."""
        self._sink.reset()
        self._publisher.play()
        await asyncio.sleep(seconds)
        await self._publisher.pause()
        return self._sink.latencies_ns

    def close(self) -> None:
        """Close both sockets; idempotent."""
        self._near.close()
        self._far.close()


def _description(local: sdp.Local) -> sdp.Remote:
    """What an SDP would have told the sink."""
    return sdp.Remote(
        ufrag=local.ufrag,
        password=local.password,
        fingerprint=local.fingerprint,
        address=("127.0.0.1", local.port),
        clocks_hz={sdp.OPUS: AUDIO_CLOCK_HZ, sdp.VP8: VIDEO_CLOCK_HZ},
        rtx_types=frozenset(),
        transport_cc=sdp.TRANSPORT_CC,
    )
