"""What observers know of the model that they ask."""

from pathlib import Path

import pytest

from media_processors.asking import Choice
from media_processors.errors import UnavailableError
from models.client import A, Answered, InferenceClient
from models.errors import UnavailableError as ModelUnavailableError
from models.questions import Question
from models.speech import Transcript, Word
from models.store import Store
from tests.unit.models.test_engine import utterance
from tests.until import until

ROOM = {"room_id": "room", "deadline_ms": 1_000}


class Scripted(InferenceClient):
    """Answers with what it was given, or refuses."""

    def __init__(self, *replies: Answered[Transcript] | ModelUnavailableError) -> None:
        super().__init__(Path("unused"))
        self.replies = list(replies)

    async def ask(
        self, model: str, question: Question, wanted: type[A], *, room_id: str, track_id: str, deadline_ms: float
    ) -> Answered[A]:
        reply = self.replies.pop(0)
        if isinstance(reply, ModelUnavailableError):
            raise reply
        return reply


def heard(version: str) -> Answered[Transcript]:
    return Answered(Transcript((Word(" so"),), "en"), f"pocketsphinx-en-us@{version}")


def choice(tmp_path: Path, *replies: Answered[Transcript] | ModelUnavailableError) -> Choice:
    found = Choice("speech_to_text")
    found.attach(Scripted(*replies), Store(tmp_path))
    assert found.required().name == "pocketsphinx-en-us"
    return found


async def test_the_version_is_that_of_the_last_answer(tmp_path: Path) -> None:
    asked = choice(tmp_path, heard("6"), heard("7"))
    for version in ("6", "7"):
        assert await asked.ask(utterance(), Transcript, **ROOM) == heard(version).answer
        assert asked.version == f"pocketsphinx-en-us@{version}"


async def test_a_model_that_the_engine_refuses_is_here_no_longer(tmp_path: Path) -> None:
    asked = choice(tmp_path, ModelUnavailableError("swapped", "candor models pull it"))
    with pytest.raises(ModelUnavailableError):
        await asked.ask(utterance(), Transcript, **ROOM)
    assert not asked.here
    with pytest.raises(UnavailableError, match="swapped"):
        await asked.ask(utterance(), Transcript, **ROOM)


async def test_a_model_that_the_engine_refuses_for_a_while_comes_back(tmp_path: Path) -> None:
    asked = choice(tmp_path, ModelUnavailableError("it ended the engine", retry_s=0.01), heard("6"))
    with pytest.raises(ModelUnavailableError):
        await asked.ask(utterance(), Transcript, **ROOM)
    assert not asked.here
    await until(lambda: "" if asked.here else "the model to be back")
    assert await asked.ask(utterance(), Transcript, **ROOM) == heard("6").answer
