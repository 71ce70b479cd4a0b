"""Real speech through the real watch host, the real engine process and the real PocketSphinx."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import jiwer
import pytest

from media_processors.audio import captions
from tests.integration.caption_rig import SHARED_MEDIA, Rig, flite, load_wav, silence
from tests.until import until

LINES = ["the quick meeting will start in ten minutes", "please send me the report before friday"]
WAIT_S = 60.0

needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="needs Debian's flite (CI installs it)")
needs_media = pytest.mark.skipif(not SHARED_MEDIA.is_dir(), reason="needs ../shared/media")


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(
        captions, "INTERIM_DEADLINE_MS", 60_000
    )  # a test machine may be busy; lateness is not the subject
    monkeypatch.setattr(captions, "FINAL_DEADLINE_MS", 60_000)
    async with Rig(tmp_path) as rig:
        yield rig


@needs_flite
async def test_two_speakers_each_get_their_own_words(rig: Rig, tmp_path: Path) -> None:
    for handle, voice in ((1, "slt"), (2, "rms")):
        rig.open(handle)
        await rig.say(flite(voice, LINES[handle - 1], tmp_path), handle)
        await rig.say(silence(1.0), handle)
    for handle in (1, 2):
        track = f"track-{handle}"
        await until(lambda track=track: "" if rig.finals(track) else f"a final of {track}", WAIT_S)
        assert jiwer.wer(LINES[handle - 1], rig.text(track)) <= 0.5
        (final,) = rig.finals(track)
        assert (final.participant_id, final.quality, final.language) == (f"participant-{handle}", "test", "en")
    for caption in rig.captions:
        later = [c for c in rig.captions if c.segment_id == caption.segment_id and c.rev > caption.rev]
        assert all(c.text.startswith(caption.text[: caption.stable_chars]) for c in later)


@needs_flite
async def test_the_engine_dies_in_mid_speech_and_captions_come_back(rig: Rig, tmp_path: Path) -> None:
    rig.open()
    speech = flite("slt", LINES[0], tmp_path)
    await rig.say(speech[: len(speech) // 2])
    await until(lambda: "" if rig.captions else "an interim", WAIT_S)
    rig.kill_engine()
    await until(lambda: "" if rig.state() == "unavailable" else "a status that says so")
    await rig.say(speech[len(speech) // 2 :])
    await rig.say(silence(1.0))
    await until(lambda: "" if rig.finals() else "the caption to be ended with what was shown")
    before = len(rig.finals())
    rig.start_engine()
    await until(lambda: "" if rig.state() == "on" else "a status that says so", WAIT_S)
    await rig.say(flite("slt", LINES[1], tmp_path))
    await rig.say(silence(1.0))
    await until(lambda: "" if len(rig.finals()) > before else "a final from the new engine", WAIT_S)
    assert jiwer.wer(LINES[1], rig.finals()[-1].text) <= 0.6


@needs_flite
async def test_a_mute_in_mid_sentence_ends_the_caption(rig: Rig, tmp_path: Path) -> None:
    rig.open()
    await rig.say(flite("rms", LINES[0], tmp_path)[: 48_000 * 3 // 2])
    await until(lambda: "" if rig.finals() else "the end of the caption", WAIT_S)


async def test_noise_without_speech_has_no_captions(rig: Rig) -> None:
    rig.open()
    await rig.say(silence(5.0) * 300)
    assert rig.captions == []
    assert rig.state() == "on"


@needs_media
async def test_real_speech_is_heard_as_speech(rig: Rig) -> None:
    """No word error rate: on this narrowband recording of 1961 PocketSphinx is close to useless; see models/README.md."""
    rig.open()
    await rig.say(load_wav(SHARED_MEDIA / "jfk.wav")[: 48_000 * 5])
    await rig.say(silence(1.0))
    await until(lambda: "" if len(rig.finals()) >= 2 else "its phrases", WAIT_S)
    assert "and" in rig.text().split()
