"""The same client, the same answers and the same errors, whichever way it asks: socket, model service, Ray Serve."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from models.choosing import Chosen, choose
from models.client import InferenceClient
from models.errors import (
    DeadlineError,
    EngineGoneError,
    InferenceError,
    LoadingError,
    OverloadedError,
    RefusedError,
    UnavailableError,
)
from models.inventory import Inventory
from models.questions import MAX_PIXELS, Faces, Picture, Question, Scores
from models.ray_settings import LiveConfig, ScaledModel
from models.speech import SAMPLE_RATE_HZ, Transcript, Utterance
from models.store import Missing
from tests.contract.backends import MAX_QUEUED, NO_RAY, START_S, Backend, Local, Ray, Service
from tests.unit.models.faces import ASTRONAUT_BOX, astronaut
from tests.unit.models.test_models_cli import MIRROR, models, needs_mirror
from tests.until import until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240), needs_mirror]
SPEECH = "pocketsphinx-en-us"
LONG_MS = 60_000
over_http = pytest.mark.parametrize("backend", ["http", "ray"], indirect=True, scope="module")
on_ray = pytest.mark.parametrize("backend", ["ray"], indirect=True, scope="module")


def noise(seconds: float, segment: str = "segment", language: str = "en") -> Utterance:
    """A window in which nobody speaks: a decoder has as much work with it."""
    pcm = np.random.default_rng(1).normal(0, 1_000, round(seconds * SAMPLE_RATE_HZ)).astype(np.int16)
    return Utterance("room", "track", segment, pcm, True, language)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With YuNet's weights; PocketSphinx comes with its package."""
    root = tmp_path_factory.mktemp("store")
    assert models(root, "pull", "yunet", "--mirror", str(MIRROR)) == 0
    return root


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["local", "http", "ray"])
async def backend(request: pytest.FixtureRequest, store: Path) -> AsyncIterator[Backend]:
    """Started once, ended with all its processes."""
    with tempfile.TemporaryDirectory(prefix="candor-") as name:  # short: Ray's sockets lie deep below it
        folder = Path(name)
        if request.param == "ray" and NO_RAY:
            pytest.skip(NO_RAY)
        kinds = {
            "local": lambda: Local(store, folder),
            "http": lambda: Service(store),
            "ray": lambda: Ray(store, folder),
        }
        backend: Backend = kinds[request.param]()
        await backend.start()
        try:
            yield backend
        finally:
            await backend.end()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def asked(backend: Backend) -> AsyncIterator[tuple[InferenceClient, Inventory]]:
    """A client that is connected."""
    client, inventory = backend.connect()
    client.start()
    await is_connected(client)
    yield client, inventory
    await client.close()


@pytest.fixture
def client(asked: tuple[InferenceClient, Inventory]) -> InferenceClient:
    return asked[0]


async def is_connected(client: InferenceClient) -> None:
    await until(lambda: "" if client.connected else "a connection", START_S)


async def faces_of(client: InferenceClient) -> Faces:
    picture = Picture(np.ascontiguousarray(astronaut()[:320, :320]))
    answered = await client.ask("yunet", picture, Faces, room_id="room", deadline_ms=LONG_MS)
    assert answered.model.startswith("yunet@0047ac24")
    return answered.answer


async def test_a_picture_is_answered_by_the_model_and_its_version(client: InferenceClient) -> None:
    faces = await faces_of(client)
    x, y, width, height = ASTRONAUT_BOX
    box = faces.boxes[0]
    assert abs(box.x + box.width / 2 - (x + width / 2)) < width / 3
    assert abs(box.y + box.height / 2 - (y + height / 2)) < height / 3


async def test_speech_is_answered(client: InferenceClient) -> None:
    answered = await client.transcribe(SPEECH, noise(1, "first"), LONG_MS)
    assert answered.model.startswith(f"{SPEECH}@")
    assert answered.answer.language == "en"


async def test_what_is_here_is_known_before_it_is_asked(asked: tuple[InferenceClient, Inventory]) -> None:
    _, inventory = asked
    chosen = choose("face_detection", inventory)
    assert isinstance(chosen, Chosen)
    assert chosen.version == "yunet@0047ac24"
    whisper = inventory.find("whisper-tiny")
    assert whisper is not None
    located = inventory.locate(whisper)
    assert isinstance(located, Missing)
    assert located.command


@pytest.mark.parametrize(
    ("model", "question", "error", "says"),
    [
        ("whisper-tiny", noise(1), UnavailableError, "installed|pulled|deployed"),
        ("hal", noise(1), UnavailableError, "no model 'hal'"),
        (SPEECH, noise(1, language="zh"), UnavailableError, "language"),
        (SPEECH, Picture(np.zeros((8, 8, 3), np.uint8)), RefusedError, "takes no picture"),
        ("yunet", noise(1), RefusedError, "takes no utterance"),
    ],
)
async def test_what_cannot_be_answered_says_why(
    client: InferenceClient, model: str, question: Question, error: type[InferenceError], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        await client.ask(model, question, Scores, room_id="room", deadline_ms=LONG_MS)
    assert type(caught.value) is error
    if model == "whisper-tiny":
        assert caught.value.command


async def test_a_malformed_request_is_refused(client: InferenceClient) -> None:
    fields = {"model": "yunet", "room_id": "room", "deadline_ms": LONG_MS, "question": {"kind": "picture"}}
    with pytest.raises(RefusedError, match="malformed"):
        await client.request("ask", fields, LONG_MS)


async def test_a_question_that_is_too_large_is_never_sent(client: InferenceClient) -> None:
    side = int(MAX_PIXELS**0.5) + 2
    with pytest.raises(ValueError, match="pixels"):
        await client.ask("yunet", Picture(np.zeros((side, side, 3), np.uint8)), Faces, room_id="r", deadline_ms=LONG_MS)
    with pytest.raises(ValueError, match="a message of"):
        await client.request("ask", {"model": "yunet", "question": bytes(3 << 20)}, LONG_MS)


async def test_a_deadline_passes(client: InferenceClient) -> None:
    await client.load(SPEECH)
    missed = client.missed
    with pytest.raises(DeadlineError) as caught:
        await client.transcribe(SPEECH, noise(10, "late"), 30)
    assert not isinstance(caught.value, LoadingError)
    assert client.missed == missed + 1


async def test_more_than_can_be_answered_is_shed_and_the_rest_answered(client: InferenceClient) -> None:
    await client.load(SPEECH)
    missed = client.missed
    asking = [client.transcribe(SPEECH, noise(2, f"many-{n}"), LONG_MS) for n in range(5 * MAX_QUEUED)]
    ends = await asyncio.gather(*asking, return_exceptions=True)
    shed = [end for end in ends if isinstance(end, OverloadedError)]
    answered = [end for end in ends if not isinstance(end, BaseException)]
    assert len(shed) + len(answered) == len(ends), ends
    assert shed
    assert len(answered) >= MAX_QUEUED
    assert client.missed == missed + len(shed)


async def test_counters_are_told(client: InferenceClient) -> None:
    await faces_of(client)
    stats = await client.stats()
    assert stats["yunet"]["answered"] >= 1
    assert stats["yunet"]["version"] == "0047ac24"


@over_http
async def test_a_wrong_key_is_unavailable_and_says_how_to_get_a_right_one(backend: Backend) -> None:
    stranger, _ = backend.connect(key="cmk_wrong")
    stranger.start()
    try:
        await until(lambda: missing_key(stranger), START_S)
        with pytest.raises(UnavailableError, match="key") as caught:
            await stranger.stats()
        assert "candor models key" in caught.value.command
    finally:
        await stranger.close()


async def missing_key(client: InferenceClient) -> str:
    try:
        await client.stats()
    except UnavailableError:
        return ""
    except EngineGoneError as error:
        return f"to be told about the key: {error}"
    return "to be refused"


@over_http
async def test_who_may_only_ask_changes_nothing(backend: Backend, client: InferenceClient) -> None:
    with pytest.raises(InferenceError):
        await client.unload("yunet")
    with pytest.raises(InferenceError):
        await client.reload("yunet")
    await faces_of(client)


@on_ray
async def test_a_model_of_ray_is_exchanged_while_it_is_asked(backend: Backend, client: InferenceClient) -> None:
    assert isinstance(backend, Ray)
    before = backend.settings()
    live = LiveConfig(version="not-in-the-store")
    changed = [
        ScaledModel(name=model.name, live=live if model.name == "yunet" else LiveConfig()) for model in before.models
    ]
    deploying = asyncio.create_task(backend.deploy(before.model_copy(update={"models": changed})))
    answers = 0
    while not deploying.done():
        await faces_of(client)
        answers += 1
    await deploying
    assert answers
    assert (await client.stats())["yunet"]["asked"] < answers  # another runner, and the version that there really is


@on_ray
async def test_a_replica_of_ray_dies_and_another_answers(backend: Backend, client: InferenceClient) -> None:
    assert isinstance(backend, Ray)
    asking = asyncio.create_task(client.transcribe(SPEECH, noise(12, "dying"), LONG_MS))
    await until(lambda: at_work(client))
    backend.kill_actor(f"ray::ServeReplica:candor:{SPEECH}")
    with pytest.raises(EngineGoneError):
        await asking
    await until(lambda: answers_again(client), START_S)
    await faces_of(client)


async def at_work(client: InferenceClient) -> str:
    counters = (await client.stats())[SPEECH]
    done = counters["answered"] + counters["shed"] + counters["late"] + counters["failed"]
    return "" if counters["asked"] > done and not counters["queued"] else "the question to be worked on"


async def answers_again(client: InferenceClient) -> str:
    try:
        answered = await client.transcribe(SPEECH, noise(1, "again"), LONG_MS)
    except InferenceError as error:
        return f"an answer: {error!r}"
    assert isinstance(answered.answer, Transcript)
    return ""


async def test_what_dies_is_gone_and_comes_back_by_itself(backend: Backend, client: InferenceClient) -> None:
    await client.load(SPEECH)
    changes: list[bool] = []
    client.on_connection = changes.append
    asking = asyncio.create_task(client.transcribe(SPEECH, noise(12, "in flight"), LONG_MS))
    await until(lambda: at_work(client))
    backend.kill()
    with pytest.raises(EngineGoneError):
        await asking
    await until(lambda: "" if changes else "to be told that it is gone")
    assert changes[0] is False
    await backend.revive()
    await is_connected(client)
    assert changes[-1] is True
    await until(lambda: answers_again(client), START_S)
    await faces_of(client)
