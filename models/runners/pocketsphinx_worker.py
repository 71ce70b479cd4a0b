"""A decoder process of the PocketSphinx pool: `python -m models.runners.pocketsphinx_worker`, requests on stdin.

It keeps one utterance open. A request for the same segment with a longer window costs only what is new; any other begins
anew. The cepstral mean (the colour of a voice and its microphone) is the caller's to keep: it comes with a request and
returns with the answer.
"""

import contextlib
import re
import sys
from typing import Any, BinaryIO

import numpy as np
import pocketsphinx

from models import wire
from models.speech import SAMPLE_RATE_HZ, Utterance

FRAME_MS = 10
MAX_HMMS = 3_000
"""States of words that the search follows in a frame, of the 30 000 that are usual. Measured: from 30 000 to 5 000 the same words
are wrong in clean and in denoised speech and CPU falls to 60 and 70 % (not denoised: WER .78 -> .89, CPU to 42 %); from 5 000 to
3 000 the same words again (twelve sentences, two voices: WER .10 and .02, at 25 dB .14) and CPU to 75 to 90 %. At 2 000 WER at
25 dB is .25; narrower beams (1e-40 for 1e-48) halve CPU too and triple WER."""
_VARIANT = re.compile(r"\(\d+\)$")
"""The dictionary writes a second pronunciation as `word(2)`."""


class Decoder:
    """One PocketSphinx decoder and the utterance that it is in the middle of."""

    def __init__(self) -> None:
        self._decoder = pocketsphinx.Decoder(
            hmm=pocketsphinx.get_model_path("en-us/en-us"),
            lm=pocketsphinx.get_model_path("en-us/en-us.lm.bin"),
            dict=pocketsphinx.get_model_path("en-us/cmudict-en-us.dict"),
            samprate=float(SAMPLE_RATE_HZ),
            maxhmmpf=MAX_HMMS,
            loglevel="FATAL",
        )
        self._first_mean: str = self._decoder.get_cmn(False)
        self._open: tuple[str, str] | None = None
        self._consumed = 0

    def decode(self, utterance: Utterance, mean: str) -> dict[str, Any]:
        """`{words: [[text, start_ms, end_ms, confidence]], mean}` for the window so far."""
        key = (utterance.track_id, utterance.segment_id)
        if self._open != key or len(utterance.pcm) < self._consumed:
            self._begin(key, mean)
        self._decoder.process_raw(np.asarray(utterance.pcm[self._consumed :], np.int16).tobytes(), False, False)
        self._consumed = len(utterance.pcm)
        if utterance.final:
            self._end()
        words = self._words(utterance.final) if self._decoder.hyp() else []
        return {"words": words, "mean": self._decoder.get_cmn(False)}

    def _begin(self, key: tuple[str, str], mean: str) -> None:
        self._end()
        self._decoder.set_cmn(mean or self._first_mean)
        self._decoder.start_utt()
        self._open, self._consumed = key, 0

    def _end(self) -> None:
        if self._open is not None:
            self._decoder.end_utt()
        self._open = None

    def _words(self, final: bool) -> list[list[Any]]:
        """Words only: silence, noise and sentence marks start with one of `<[+`. Posteriors exist at the end only."""
        return [
            [
                _VARIANT.sub("", segment.word),
                segment.start_frame * FRAME_MS,
                (segment.end_frame + 1) * FRAME_MS,
                round(min(1.0, segment.prob), 3) if final else None,
            ]
            for segment in self._decoder.seg()
            if segment.word[0] not in "<[+"
        ]


def _answer(decoder: Decoder, message: dict[str, Any]) -> dict[str, Any]:
    """An empty message asks whether the model is loaded."""
    if not message:
        return {}
    mean = str(message.pop("mean"))
    return decoder.decode(Utterance.from_wire(message), mean)


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer until the engine closes the pipe."""
    decoder = Decoder()
    while (message := wire.read_blocking(requests)) is not None:
        replies.write(wire.pack(_answer(decoder, message)))
        replies.flush()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # the engine died while we decoded
        serve(sys.stdin.buffer, sys.stdout.buffer)
