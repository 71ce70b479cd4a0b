"""What the bots lean on inside aiortc and aioice. Fails loudly if an upgrade changes it."""

import inspect

import aioice.ice
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver
from aiortc.mediastreams import MediaStreamTrack
from aiortc.rtcdtlstransport import RTCDtlsTransport

from bots import loopback
from bots.publication import AudioPublication
from bots.rtp_hook import RawRtp, tap_receiver
from bots.sources import PcmSource
from tests.until import until


def test_the_receiver_has_the_method_that_the_hook_shadows() -> None:
    handle = RTCRtpReceiver._handle_rtp_packet
    assert inspect.iscoroutinefunction(handle)
    assert list(inspect.signature(handle).parameters) == ["self", "packet", "arrival_time_ms"]
    assert not hasattr(RTCRtpReceiver, "__slots__"), "an instance attribute can no longer shadow the method"
    assert "receiver._handle_rtp_packet(packet, arrival_time_ms=" in inspect.getsource(RTCDtlsTransport)


def test_aioice_asks_the_wrapped_function_for_its_addresses() -> None:
    assert "get_host_addresses(" in inspect.getsource(aioice.ice.Connection.gather_candidates)
    outside = aioice.ice.get_host_addresses(use_ipv4=True, use_ipv6=False)
    assert "127.0.0.1" not in outside
    with loopback.gathering(loopback=True):
        assert aioice.ice.get_host_addresses(use_ipv4=True, use_ipv6=False) == ["127.0.0.1", *outside]
    assert aioice.ice.get_host_addresses(use_ipv4=True, use_ipv6=False) == outside


async def test_the_hook_sees_every_packet_and_aiortc_still_decodes() -> None:
    no_servers = RTCConfiguration(iceServers=[])
    sender, receiver = RTCPeerConnection(no_servers), RTCPeerConnection(no_servers)
    packets: list[RawRtp] = []
    decoded = []

    @receiver.on("track")
    def on_track(track: MediaStreamTrack) -> None:
        transceiver = receiver.getTransceivers()[0]
        tap_receiver(transceiver.receiver, track.kind, lambda: "t1", packets.append)
        decoded.append(track)

    noise = np.random.default_rng(1).integers(-3000, 3000, 48_000).astype(np.int16)
    sender.addTransceiver(AudioPublication(PcmSource(noise), "microphone").make_track(), direction="sendonly")
    try:
        with loopback.gathering(loopback=True):
            await sender.setLocalDescription(await sender.createOffer())
            await receiver.setRemoteDescription(sender.localDescription)
            await receiver.setLocalDescription(await receiver.createAnswer())
        await sender.setRemoteDescription(receiver.localDescription)
        await until(lambda: "" if len(packets) >= 20 else f"20 packets, have {len(packets)}")
        frame = await decoded[0].recv()
        assert frame.sample_rate == 48_000
    finally:
        await sender.close()
        await receiver.close()
    first = packets[0]
    assert (first.track_id, first.kind, first.ssrc != 0) == ("t1", "audio", True)
    for index, packet in enumerate(packets[:20]):
        assert packet.sequence_number == (first.sequence_number + index) % 65536
        samples = (packet.timestamp - first.timestamp) % 2**32
        assert samples % 960 == 0
        assert samples >= 960 * index  # more if this computer was busy and the bot left some out
        assert packet.payload
        assert packet.arrival_ns >= first.arrival_ns
