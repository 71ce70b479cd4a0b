"""Meeting bots: participants written in Python, on the public API of aiortc and python-socketio."""

from bots.bot import BotState, MeetingBot
from bots.errors import BotClosed, BotError, ConnectionLost
from bots.feed import Feed
from bots.media import ReceivedTrack
from bots.publication import AudioPublication, Publication, VideoPublication
from bots.room import RoomView
from bots.rtp_hook import RawRtp
from bots.sources import (
    AudioSource,
    MediaFile,
    PatternSource,
    PcmSource,
    SilenceSource,
    VideoSource,
    audio_frame,
    play_file,
    read_counter,
    read_pcm,
)

__all__ = [
    "AudioPublication",
    "AudioSource",
    "BotClosed",
    "BotError",
    "BotState",
    "ConnectionLost",
    "Feed",
    "MediaFile",
    "MeetingBot",
    "PatternSource",
    "PcmSource",
    "Publication",
    "RawRtp",
    "ReceivedTrack",
    "RoomView",
    "SilenceSource",
    "VideoPublication",
    "VideoSource",
    "audio_frame",
    "play_file",
    "read_counter",
    "read_pcm",
]
