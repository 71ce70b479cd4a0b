"""Voice authenticity from packets to findings: Opus, the watch host, the gate, the engine with AASIST's published weights."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from media_processors import registry
from media_processors.audio import authenticity
from media_processors.audio.authenticity import NAME, VoiceAuthenticityObserver
from media_processors.audio.windows import STEP_MS
from media_processors.findings import VoiceAuthenticity
from tests.integration.caption_rig import RATE_HZ, SHARED_MEDIA, Rig, flite, load_wav, silence
from tests.unit.models.test_models_cli import MIRROR, models, needs_mirror
from tests.until import until

pytest.importorskip("torch", reason="the extra `vision` is not installed (make models)")
pytestmark = [pytest.mark.weights, needs_mirror]
needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="needs Debian's flite: apt-get install flite")
WAIT_S = 60
TEXT = (
    "The committee will meet again on Thursday afternoon to talk about the new building. Everybody who wants to speak should "
    "send a short note before Wednesday. We have looked at three different places, and none of them is quite right."
)


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    # Sound comes faster than it would be spoken; how fast a model answers is not the subject.
    monkeypatch.setattr(authenticity.VoiceAuthenticityStream, "max_waiting", 100)
    monkeypatch.setattr(authenticity.VoiceAuthenticityStream, "deadline_ms", 120_000)
    assert models(tmp_path / "models", "pull", "--mirror", str(MIRROR), "aasist") == 0
    observer = VoiceAuthenticityObserver()
    async with Rig(tmp_path, {NAME: registry.Loaded(observer.info(), observer)}) as rig:
        yield rig


def said(rig: Rig) -> list[VoiceAuthenticity]:
    return [finding for finding in rig.findings if isinstance(finding, VoiceAuthenticity)]


async def hear(rig: Rig, clip: np.ndarray, speech_s: float = 26.0, share: float = 0.5) -> VoiceAuthenticity:
    """Play a clip over and over, until so much of it was spoken; `share` of it is."""
    rig.open()
    for _ in range(int(np.ceil(speech_s / share / (len(clip) / RATE_HZ)))):
        await rig.say(np.concatenate([clip, silence(0.3)]))
    windows = int(speech_s * 1000 / STEP_MS)
    await until(lambda: "" if len(said(rig)) >= windows else f"{windows} windows, {len(said(rig))} so far", WAIT_S)
    return said(rig)[windows - 1]


async def test_a_real_voice_is_on_the_genuine_side(rig: Rig) -> None:
    last = await hear(rig, load_wav(SHARED_MEDIA / "speech_wideband_16k.wav"))
    assert last.verdict == "likely_genuine"
    assert last.likelihood is not None and last.likelihood < 0.2
    assert last.score is not None and last.score > 0
    assert last.evidence_ms >= authenticity.ENOUGH_MS
    assert last.model.startswith("aasist@a04c9863")
    assert "EER" in last.known_errors
    first = said(rig)[0]
    assert (first.verdict, first.reason, first.likelihood) == ("insufficient_evidence", "duration", None)


@needs_flite
async def test_a_synthetic_voice_is_on_the_synthetic_side(rig: Rig, tmp_path: Path) -> None:
    last = await hear(rig, flite("slt", TEXT, tmp_path), share=0.9)
    assert last.verdict == "likely_synthetic"
    assert last.likelihood is not None and last.likelihood > 0.9


@pytest.mark.parametrize(("name", "reason"), [("jfk.wav", "narrowband"), ("noisy_speech_16k.wav", "noisy")])
async def test_a_voice_outside_the_models_domain_is_not_judged(rig: Rig, name: str, reason: str) -> None:
    last = await hear(rig, load_wav(SHARED_MEDIA / name))
    assert (last.verdict, last.reason) == ("insufficient_evidence", reason)
    assert last.score is None
    assert last.evidence_ms == 0


async def test_after_it_is_switched_off_nothing_more_is_said(rig: Rig) -> None:
    clip = load_wav(SHARED_MEDIA / "speech_wideband_16k.wav")
    rig.open()
    for _ in range(4):
        await rig.say(clip)
    rig.open(on=False, epoch=1)
    await until(lambda: "" if any(status.state == "off" for status in rig.statuses) else "the observer to be off")
    before = len(said(rig))
    await rig.say(clip, epoch=1)
    assert len(said(rig)) == before
