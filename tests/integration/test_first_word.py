"""The first word that somebody says: from the demo's committed line through Opus, listener, segments and PocketSphinx."""

from pathlib import Path

import numpy as np

from candor import assets
from media_processors.audio.segments import Segmenter
from media_processors.audio.vad import SileroVad
from media_processors.listening import Ear, ListenCounters, TrackListener
from models.runners.pocketsphinx_worker import Decoder
from models.speech import Utterance
from sfu.tap import Sound
from tests.integration.caption_rig import silence
from tests.unit.processors.sounds import load, packet, publish


def test_the_first_word_is_heard_whole() -> None:
    line = load(Path(assets.__file__).parent / "turn1.opus")
    listener, ear = TrackListener(SileroVad(), ListenCounters()), Ear(Sound.RAW, 16_000)
    segmenter, decoder = Segmenter(), Decoder()
    windows = []
    for index, payload in enumerate(publish(np.concatenate((silence(0.3), line, silence(1.2))))):
        arrived = packet(index, payload)._replace(arrival_ns=index * 20_000_000)
        for _, frame in listener.push(arrived, [ear]):
            windows += segmenter.push(frame)
    replies = [
        decoder.decode(Utterance("room", "track", str(window.segment), window.pcm, window.final, "en"), "")
        for window in windows
    ]
    assert windows[-1].final
    assert " ".join(word[0] for word in replies[-1]["words"]) == "thank you for coming today"
