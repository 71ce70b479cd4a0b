"""PocketSphinx 5 (Huggins-Daines et al., ICASSP 2006) with the US English model inside its package. Test quality.

It decodes a growing utterance at the price of the new sound only, so a segment keeps its decoder process while it can. Half of
the processes work at a time: the others hold utterances that go on, while somebody else's is decoded.
"""

from collections import OrderedDict
from collections.abc import Sequence

from models.errors import FailedError, UnavailableError
from models.runners.pool import Pool
from models.speech import Transcript, Utterance, Word

MAX_TRACKS = 256
"""Tracks whose cepstral mean is remembered; the one unused for longest is forgotten."""


class PocketSphinxRunner:
    """`Runner` over a pool of decoder processes."""

    takes = Utterance
    max_batch = 1
    max_wait_ms = 0.0
    isolated = True

    def __init__(self, decoders: int) -> None:
        self.concurrency = max(1, decoders // 2)
        self.pool = Pool("models.runners.pocketsphinx_worker", decoders)
        self._means: OrderedDict[str, str] = OrderedDict()

    async def start(self) -> None:
        """Start the first decoder and let it load its model. Raises UnavailableError if it cannot."""
        try:
            await self.pool.start()
        except FailedError as error:
            raise UnavailableError("PocketSphinx does not start; the log of the engine says why", "make run") from error

    def check(self, question: Utterance) -> None:
        """Any window will do."""

    async def run(self, batch: Sequence[Utterance]) -> list[Transcript]:
        """A transcript per utterance. Raises FailedError if a decoder dies on it."""
        return [await self._transcribe(utterance) for utterance in batch]

    async def close(self) -> None:
        """End the decoders."""
        await self.pool.close()

    async def _transcribe(self, utterance: Utterance) -> Transcript:
        track = utterance.track_id
        message = utterance.to_wire() | {"mean": self._means.get(track, "")}
        session = f"{track}/{utterance.segment_id}"
        reply = await self.pool.call(track, session, utterance.final, message)
        if utterance.final:
            self._remember(track, reply["mean"])
        words = tuple(Word(f" {text}", start, end, confidence) for text, start, end, confidence in reply["words"])
        return Transcript(words, "en")

    def _remember(self, track: str, mean: str) -> None:
        self._means[track] = mean
        self._means.move_to_end(track)
        while len(self._means) > MAX_TRACKS:
            self._means.popitem(last=False)
