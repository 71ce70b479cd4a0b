"""The tapped videos: which go to which host, what hosts say of them, and what comes back from the video host.

A video of which something was dropped, because a host's socket was full, pauses until the host has taken the next message about it.
"""

import time
from collections.abc import Callable, Iterable, Mapping

from sfu.consumer import WatchedPacket
from sfu.dataplane.base import DataPlane
from sfu.derived import DerivedVideo
from sfu.errors import DropReason
from sfu.path import PathMode
from sfu.tap import SelectLayer, TapPacket, TapSocket, VideoResult, WantKeyframe
from sfu.tapped import VIDEO_ROLES, Host, Role, Tapped, video_packet
from sfu.watching import DECODED_CODECS, WatchedVideo

HOST_GONE = "host is gone"
DERIVED_CODECS = frozenset({"vp8"})
"""Of what pictures are made of: what is made is VP8, and viewers of a track agreed to one codec."""


class VideoTaps:
    """The part of `TapServer` that is about video; it shares its hosts."""

    def __init__(
        self,
        plane: DataPlane,
        hosts: Mapping[Role, Host],
        post: Callable[[Role, TapPacket], bool],
        lost: Callable[[Host], None],
        on_state: Callable[[str, PathMode, str], None],
    ) -> None:
        self._plane = plane
        self._hosts = hosts
        self._post = post
        self._lost = lost
        self._on_state = on_state
        self._sent: dict[Role, set[str]] = {role: set() for role in VIDEO_ROLES}
        """Tracks of which a message to a host may hold something, since the last flush."""

    # --- which videos go where

    def follow(self, tapped: Tapped) -> None:
        """Send a video to a host while one of its processors is on that runs there, and the host can decode it."""
        for role in VIDEO_ROLES:
            if not self._wanted(role, tapped):
                self._end(role, tapped)
            elif role not in tapped.videos:
                video = tapped.videos[role] = self._new(role, tapped)
                video.start(time.monotonic_ns())

    def _wanted(self, role: Role, tapped: Tapped) -> bool:
        host, producer = self._hosts.get(role), tapped.producer
        codecs = DERIVED_CODECS if role == "video" else DECODED_CODECS
        if producer.kind != "video" or producer.codec not in codecs or host is None:
            return False
        return host.runs_any(tapped.processors, switched_on=True)

    def _new(self, role: Role, tapped: Tapped) -> WatchedVideo:
        producer = tapped.producer

        def send(packet: WatchedPacket) -> None:
            self._sent[role].add(producer.track_id)
            self._post(role, video_packet(tapped, packet))

        if role == "watch_video":
            return WatchedVideo(producer, self._plane, send)

        def changed(why_not: str) -> None:
            mode = PathMode.BYPASS if why_not else PathMode.PROCESSED
            self._on_state(producer.track_id, mode, why_not)

        video = DerivedVideo(producer, self._plane, send, lambda: self._ask_host(tapped), changed)
        tapped.bitrate_bps = video.bitrate_bps
        return video

    def stop(self, tapped: Tapped) -> None:
        """Send nothing of a video any more; idempotent."""
        for role in VIDEO_ROLES:
            self._end(role, tapped)

    def _end(self, role: Role, tapped: Tapped) -> None:
        video = tapped.videos.pop(role, None)
        if video is None:
            return
        video.stop(time.monotonic_ns())
        if isinstance(video, DerivedVideo):
            gone = role not in self._hosts
            mode = PathMode.BYPASS if gone else PathMode.PROCESSED  # switched off: nothing is bypassed any more
            self._on_state(tapped.producer.track_id, mode, HOST_GONE if gone else "")

    def new_epoch(self, tapped: Tapped) -> None:
        """Consent has changed: results of before are dropped, and the watch host forgets, so it begins with a key frame."""
        self._end("watch_video", tapped)
        derived = tapped.videos.get("video")
        if isinstance(derived, DerivedVideo):
            derived.expect_keyframe()

    # --- now and then

    def tick(self, tapped: Iterable[Tapped], now_ns: int) -> None:
        """Every 250 ms: choose the layers; a video that the host has to be told of waits for that."""
        for one in tapped:
            for role, video in one.videos.items():
                host = self._hosts.get(role)
                if host is not None and one.handle not in host.control:
                    video.tick(now_ns)
                if isinstance(video, DerivedVideo):
                    video.notice(now_ns)

    def bypass_reason(self, tapped: Tapped, transforms: frozenset[str]) -> str:
        """Why viewers get the publisher's own pictures although a transform is on; empty if they do not, or none is.

        `transforms`: what the video host of now runs, or the last one ran.
        """
        video = tapped.videos.get("video")
        if isinstance(video, DerivedVideo):
            return video.why_not
        wanted = any(on and name in transforms for name, on in tapped.processors.items())
        gone = "video" not in self._hosts and tapped.producer.codec in DERIVED_CODECS
        return HOST_GONE if wanted and gone else ""

    def refresh(self, tapped: Tapped, now_ns: int) -> bool:
        """Every second: whether the video host shall encode at another bitrate."""
        video = tapped.videos.get("video")
        if not isinstance(video, DerivedVideo) or not video.decide_bitrate(now_ns):
            return False
        tapped.bitrate_bps = video.bitrate_bps
        return True

    def flushed(self, host: Host, dropped: int, by_track: Mapping[str, Tapped]) -> None:
        """What was queued for a host has left, but for so many packets."""
        sent = self._sent[host.role]
        if dropped:
            self._plane.counters.drops[DropReason.TAP_VIDEO_FULL] += dropped
            for track_id in sent:
                tapped = by_track.get(track_id)
                if tapped is not None and (video := tapped.videos.get(host.role)) is not None:
                    video.pause(time.monotonic_ns())
                    host.control[tapped.handle] = tapped.config()
        sent.clear()

    def statistics(self, tapped: Iterable[Tapped]) -> dict[str, object]:
        """Of each derived video: whether viewers may be fed from it, what the host shall encode at, what comes."""
        return {
            one.producer.track_id: {
                "live": video.source.live(time.monotonic_ns()),
                "wanted_bps": video.bitrate_bps,
                "sent_bps": video.source.rate.bps,
                "packets": video.source.seq_ext,
            }
            for one in tapped
            if isinstance(video := one.videos.get("video"), DerivedVideo)
        }

    # --- what hosts say, and are asked

    def heard(self, link: TapSocket, frame: SelectLayer | WantKeyframe | VideoResult, tapped: Tapped | None) -> None:
        """A wish of a host, or a picture of the video host; one from elsewhere is counted."""
        role = next((role for role in VIDEO_ROLES if (h := self._hosts.get(role)) is not None and h.link is link), None)
        video = tapped.videos.get(role) if tapped is not None and role is not None else None
        now_ns = time.monotonic_ns()
        if isinstance(frame, VideoResult):
            self._result(frame, tapped, video, now_ns)
        elif video is None:
            self._plane.counters.drops[DropReason.PATH_STRAY] += 1
        elif isinstance(frame, SelectLayer):
            video.select(frame.width, now_ns)
        else:
            video.ask_keyframe(now_ns)

    def _result(self, result: VideoResult, tapped: Tapped | None, video: WatchedVideo | None, now_ns: int) -> None:
        drops = self._plane.counters.drops
        if tapped is None or not isinstance(video, DerivedVideo):
            drops[DropReason.DERIVED_STRAY] += 1
        elif result.epoch != tapped.epoch:
            drops[DropReason.DERIVED_STRAY] += 1
            video.broken(now_ns)
        elif (reason := video.result(result, now_ns)) is not None:
            drops[reason] += 1

    def _ask_host(self, tapped: Tapped) -> None:
        host = self._hosts.get("video")
        if host is None:
            return
        try:
            host.link.send(WantKeyframe(tapped.handle))  # one that finds no room is wanted again
        except OSError:
            self._lost(host)
