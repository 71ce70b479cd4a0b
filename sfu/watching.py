"""A video track on its way to a host: one layer of it, as an ordinary viewer would get it.

The host says how wide it wants pictures; here that becomes a layer, as for any viewer's tile. When the tap is full, the
track pauses: there is no sense in asking a publisher for key frames that nobody takes. It goes on, at a key frame, when the
host has taken the next message about it, but not before `PAUSE_NS` are over.
"""

from collections.abc import Callable

from sfu.consumer import WatchConsumer, WatchedPacket
from sfu.dataplane.base import DataPlane
from sfu.layer_control import published_layers
from sfu.layers import layer_to_watch
from sfu.producer import Producer

PAUSE_NS = 1_000_000_000
"""As often as an ordinary viewer's own wishes for key frames are heard."""
DECODED_CODECS = frozenset({"vp8", "h264"})
"""What hosts can decode; others are not sent to it."""


class WatchedVideo:
    """From the moment when the first processor is on until none is, or the watch host has to forget what came before."""

    def __init__(self, producer: Producer, plane: DataPlane, send: Callable[[WatchedPacket], None]) -> None:
        self._plane = plane
        self._stream = WatchConsumer(producer, send)
        self._width = 0
        self._paused_until_ns = 0

    def start(self, now_ns: int) -> None:
        """Begin with the next key frame; one is asked for."""
        self._plane.add_consumer(self._stream)
        self.tick(now_ns)

    def stop(self, now_ns: int) -> None:
        """Be sent nothing more; idempotent."""
        self._plane.remove_consumer(self._stream)

    def select(self, width: int, now_ns: int) -> None:
        """Pictures shall be this wide, in pixels; 0 is no wish."""
        self._width = width
        self.tick(now_ns)

    def ask_keyframe(self, now_ns: int) -> None:
        """The host lost something, or cannot decode it."""
        self._plane.ask_keyframe(self._stream, now_ns)

    def pause(self, now_ns: int) -> None:
        """The tap was full."""
        self._paused_until_ns = now_ns + PAUSE_NS
        self._plane.set_target(self._stream, None, now_ns)

    def tick(self, now_ns: int) -> None:
        """Choose the layer."""
        if now_ns < self._paused_until_ns:
            return
        producer, target = self._stream.producer, self._stream.target
        layers, sources, count, _ = published_layers(producer, now_ns)
        live = [layer for layer in layers if layer.live]
        current = producer.rank(target) if target is not None else None
        index = layer_to_watch(live, count, self._width, current)
        if index is not None:
            self._plane.set_target(self._stream, sources[index], now_ns)
