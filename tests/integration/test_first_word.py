"""The first word that somebody says: from the demo's committed line through Opus, listener, segments and PocketSphinx."""

from pathlib import Path

import numpy as np
import pytest

from candor import assets
from media_processors.audio.segments import Segmenter, Window
from media_processors.audio.vad import SileroVad
from media_processors.base import Samples
from media_processors.codec import OpusEncoder
from media_processors.listening import Ear, ListenCounters, TrackListener
from models.runners.pocketsphinx_worker import Decoder
from models.speech import Utterance
from sfu.tap import Sound
from tests.integration.caption_rig import silence
from tests.unit.processors.sounds import PACKET, load, packet, pieces


def windows_of(sound: Samples, dtx: bool) -> list[Window]:
    """What the captions' segmenter makes of a publisher; with DTX, packets of "still silent" are not sent (RFC 7587, 3.1.3)."""
    encoder = OpusEncoder()
    encoder.set_dtx(dtx)
    listener, ear = TrackListener(SileroVad(), ListenCounters()), Ear(Sound.RAW, 16_000)
    segmenter, windows, sent = Segmenter(), [], 0
    for index, piece in enumerate(pieces(sound)):
        payload = encoder.encode(piece)
        if len(payload) <= 2:
            continue
        arrived = packet(sent, payload, timestamp=index * PACKET)._replace(arrival_ns=index * 20_000_000)
        sent += 1
        for _, frame in listener.push(arrived, [ear]):
            windows += segmenter.push(frame)
    assert (sent < len(sound) // PACKET) == dtx
    return windows


@pytest.mark.parametrize("dtx", [False, True], ids=["", "dtx"])
def test_the_first_word_is_heard_whole(dtx: bool) -> None:
    line = load(Path(assets.__file__).parent / "turn1.opus")
    windows = windows_of(np.concatenate((silence(1.5), line, silence(1.2))), dtx)
    decoder = Decoder()
    replies = [
        decoder.decode(Utterance("room", "track", str(window.segment), window.pcm, window.final, "en"), "")
        for window in windows
    ]
    assert windows[-1].final
    assert [word[0] for word in replies[-1]["words"]][:4] == ["thank", "you", "for", "coming"]
