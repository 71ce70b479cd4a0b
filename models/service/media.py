"""From bytes that anybody may have sent to a question, and from answers to bytes; everything within bounds.

Sound goes through libav, restricted to containers and codecs that are sound and name no other file or address (a playlist
would); pictures through OpenCV, their size read from the header before anything is unpacked.
"""

import base64
import binascii
import io
import math
import struct
import time
import wave
from collections.abc import Iterator

import av
import av.error
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

from models.errors import DeadlineError
from models.questions import Sound
from models.service.errors import ServiceError

MAX_SOUND_S = 60
MAX_PICTURE_PIXELS = 4096 * 4096
RATES_HZ = range(4_000, 192_001)
"""Of sound as it is sent. A few bytes at 1 Hz would become hours."""
CONTAINERS = "wav,ogg,flac,mp3,matroska,webm,aac"
"""Without MP4: an index of a few hundred bytes can take gigabytes to unpack (`stsz`: one size for a hundred million samples)."""
CODECS = "pcm_s16le,pcm_s24le,pcm_s32le,pcm_u8,pcm_f32le,pcm_alaw,pcm_mulaw,opus,libopus,vorbis,flac,mp3,mp3float,aac"

Rgb = NDArray[np.uint8]


def unpacked(text: str) -> bytes:
    """Base64 (RFC 4648, section 4). Raises ServiceError."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise ServiceError(422, "bad_base64", "the input is not base64") from None


def sound(data: bytes, rate_hz: int, until_s: float = math.inf) -> Sound:
    """Mono at `rate_hz`, at most `MAX_SOUND_S`. Raises ServiceError: 413 if longer, 415 if it is no sound. Blocks.

    `until_s`: on the monotonic clock; raises DeadlineError if it passes, for many small packets of nothing take their time.
    """
    try:
        pcm = _decoded(data, rate_hz, until_s)
    except (av.error.FFmpegError, ValueError, IndexError) as error:
        kind = "WAV, Ogg, FLAC, MP3, WebM or AAC"
        raise ServiceError(415, "unsupported_media", f"the audio cannot be decoded; {kind} can") from error
    if not pcm.size:
        raise ServiceError(422, "empty", "there is no sound in the audio")
    return Sound(pcm)


def _decoded(data: bytes, rate_hz: int, until_s: float) -> NDArray[np.int16]:
    most = MAX_SOUND_S * rate_hz
    parts: list[NDArray[np.int16]] = []
    total = 0
    too_long = ServiceError(413, "too_long", f"the audio is longer than {MAX_SOUND_S} s")
    options = {"format_whitelist": CONTAINERS, "codec_whitelist": CODECS, "protocol_whitelist": "none"}
    with av.open(io.BytesIO(data), mode="r", options=options) as container:
        stream = container.streams.audio[0]
        stream.codec_context.thread_count = 1
        resampler = av.AudioResampler(format="s16", layout="mono", rate=rate_hz)
        for frame in _frames(container, stream, until_s):
            if frame.sample_rate not in RATES_HZ:
                raise ValueError(f"a rate of {frame.sample_rate} Hz")
            if total + frame.samples * rate_hz // frame.sample_rate > most:
                raise too_long
            frame.pts = None  # a gap in time stamps is not filled
            for part in resampler.resample(frame):
                parts.append(part.to_ndarray()[0])
                total += parts[-1].size
        parts.extend(part.to_ndarray()[0] for part in resampler.resample(None))
    return np.concatenate(parts)[:most].astype(np.int16) if parts else np.zeros(0, np.int16)


def _frames(container: InputContainer, stream: AudioStream, until_s: float) -> Iterator[av.AudioFrame]:
    """Packet by packet, of which not every one need hold a frame. Raises DeadlineError."""
    for packet in container.demux(stream):
        if time.monotonic() > until_s:
            raise DeadlineError("the sound was not unpacked before the time-out")
        yield from packet.decode()


def picture(data: bytes, most_pixels: int = MAX_PICTURE_PIXELS) -> Rgb:
    """Shape (height, width, 3). Raises ServiceError: 413 for too many pixels, 415 if it is neither JPEG nor PNG. Blocks."""
    size = _png_size(data) or _jpeg_size(data)
    if size is None:
        raise ServiceError(415, "unsupported_media", "the image is neither JPEG nor PNG")
    width, height = size
    if width * height > most_pixels:
        raise ServiceError(413, "too_many_pixels", f"the image has more than {most_pixels} pixels")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise ServiceError(415, "unsupported_media", "the image cannot be decoded")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _png_size(data: bytes) -> tuple[int, int] | None:
    """From IHDR, which comes first (PNG, section 11.2.1)."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or len(data) < 24:
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """From the frame header (ITU T.81, B.2.2); segments before it are passed over."""
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif (
            marker == 0x01 or 0xD0 <= marker <= 0xDA
        ):  # no length follows, or no frame header: decoders differ on what comes next
            return None
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


def shrunk(image: Rgb, most_pixels: int) -> tuple[Rgb, float]:
    """The picture with at most so many pixels, and by what its coordinates were multiplied."""
    height, width = image.shape[:2]
    scale = min(1.0, (most_pixels / (height * width)) ** 0.5)
    if scale == 1.0:
        return image, scale
    size = (max(1, int(width * scale)), max(1, int(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), scale


def wav_text(pcm: NDArray[np.int16], rate_hz: int) -> str:
    """Base64 of a WAV file, mono."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate_hz)
        writer.writeframes(pcm.astype("<i2").tobytes())
    return base64.b64encode(file.getvalue()).decode()


def png_text(image: Rgb) -> str:
    """Base64 of a PNG file."""
    encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    return base64.b64encode(encoded.tobytes()).decode()
