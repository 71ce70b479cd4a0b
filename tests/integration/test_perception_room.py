"""A real room with the published weights: bots with faces and voices, and findings to those who may read them only."""

from collections.abc import AsyncIterator

import numpy as np
import numpy.typing as npt
import pytest
import pytest_asyncio
from av import VideoFrame

from bots import MeetingBot, PcmSource
from candor.node import Node, node
from candor.settings import load
from media_processors.findings import Expression, FaceAuthenticity, Faces, Finding, VoiceAuthenticity
from signaling.protocol import messages as wire
from tests.integration.caption_rig import SHARED_MEDIA, load_wav
from tests.integration.test_faces import portrait, shared
from tests.integration.watched_faces import on_wall
from tests.unit.models.test_models_cli import MIRROR, models, needs_mirror
from tests.until import until

pytest.importorskip("torch", reason="the extra `vision` is not installed (make models)")
pytestmark = [pytest.mark.weights, needs_mirror, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]
SLOW_S = 90.0
RATE_HZ = 10.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    root = tmp_path_factory.mktemp("models")
    assert models(root, "pull", "--mirror", str(MIRROR)) == 0
    settings = {"log_level": "warning", "signaling": {"port": 0}, "models": {"models_dir": root}}
    async with node(load(arguments=settings)) as started:
        yield started


class Still:
    """A picture without end that sways a little, as people do."""

    def __init__(self, picture: npt.NDArray[np.uint8]) -> None:
        self._picture = picture

    async def __aiter__(self) -> AsyncIterator[VideoFrame]:
        for index in range(1_000_000):
            shift = round(6 * np.sin(index / 8))
            yield VideoFrame.from_ndarray(np.roll(self._picture, shift, axis=1), format="rgb24")


class Guest:
    """A bot, and every finding that it was told."""

    def __init__(self, running: Node, room: str, name: str) -> None:
        self.bot = MeetingBot(running.url, room, name, subscribe=False)
        self.told: list[Finding] = []
        self.bot.on(wire.FindingEvent, lambda event: self.told.append(event.finding))

    async def __aenter__(self) -> "Guest":
        await self.bot.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.bot.leave()

    async def allow(self, *names: str) -> None:
        """Switch processors on for itself, once they are there."""
        for name in names:
            await until(lambda name=name: "" if self._has(name) else f"the processor {name}", SLOW_S)
            await self.bot.set_processor(name, True)

    def _has(self, name: str) -> bool:
        known = self.bot.room.processors.get(name)
        return known is not None and known.available

    def evidence(self) -> list[FaceAuthenticity | VoiceAuthenticity]:
        return [one for one in self.told if isinstance(one, FaceAuthenticity | VoiceAuthenticity)]


async def test_faces_before_cameras_are_judged_and_told_to_their_owners_only(running: Node) -> None:
    faces = {"swapped": shared("face_deepfake.jpg"), "real": shared("face_real.jpg"), "astronaut": portrait()}
    for name, picture in faces.items():
        async with Guest(running, f"faces-{name}", "Owner") as owner, Guest(running, f"faces-{name}", "Other") as other:
            await owner.allow("faces", "expression", "face_authenticity")
            await owner.bot.publish_video(Still(on_wall(picture)), rate_hz=RATE_HZ)
            await until(
                lambda owner=owner: (
                    "" if any(one.evidence_ms >= 8_000 for one in owner.evidence()) else "8 s of a face"
                ),
                SLOW_S,
            )
            last = owner.evidence()[-1]
            assert owner.evidence()[0].verdict == "insufficient_evidence"
            assert last.verdict == ("likely_synthetic" if name == "swapped" else "likely_genuine"), (name, last)
            assert any(isinstance(one, Faces) and len(one.faces) == 1 for one in owner.told)
            assert any(isinstance(one, Expression) for one in owner.told)
            assert other.told == []


async def test_after_the_ack_of_a_revoke_nothing_more_is_told(running: Node) -> None:
    async with Guest(running, "revoked", "Owner") as owner:
        await owner.allow("faces", "expression", "face_authenticity")
        await owner.bot.publish_video(Still(on_wall(shared("face_real.jpg"))), rate_hz=RATE_HZ)
        await until(lambda: "" if owner.evidence() and len(owner.told) > 8 else "findings of each kind", SLOW_S)
        for name in ("faces", "expression", "face_authenticity"):
            await owner.bot.set_processor(name, False)
        before = len(owner.told)
        await owner.bot.set_processor("faces", True)  # proof that findings would still come
        await until(lambda: "" if len(owner.told) >= before + 3 else "faces again", SLOW_S)
        assert {type(one) for one in owner.told[before:]} == {Faces}


async def test_a_real_voice_in_a_real_room(running: Node) -> None:
    clip = load_wav(SHARED_MEDIA / "speech_wideband_16k.wav")
    pcm = np.clip(np.tile(clip, 8) * 32_767, -32_768, 32_767).astype(np.int16)
    async with Guest(running, "voices", "Speaker") as speaker:
        await speaker.allow("voice_authenticity")
        await speaker.bot.publish_audio(PcmSource(pcm))
        await until(
            lambda: (
                "" if any(one.verdict != "insufficient_evidence" for one in speaker.evidence()) else "enough speech"
            ),
            SLOW_S,
        )
    assert [one.evidence_ms for one in speaker.evidence()] == sorted(one.evidence_ms for one in speaker.evidence())
    assert (speaker.evidence()[0].verdict, speaker.evidence()[-1].verdict) == (
        "insufficient_evidence",
        "likely_genuine",
    )
