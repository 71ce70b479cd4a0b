"""Processors come from entry points; broken ones are reported and harm nobody."""

from pathlib import Path

import pytest

from media_processors import registry
from media_processors.audio.vad import SileroVad
from media_processors.codec import OpusDecoder
from media_processors.path_host import PathHost
from media_processors.settings import ProcessingSettings
from media_processors.streams import PathCounters, PathStream
from tests.unit.processors.installed import install, install_example
from tests.unit.processors.sounds import level_db, opened, packet, publish, voice

BROKEN = """
from media_processors.findings import ProcessorInfo

class Raises:
    def __init__(self): raise RuntimeError("no luck today")

class Neither:
    def info(self): return ProcessorInfo(name="neither", kind="transform", media="audio", available=True)

class Misnamed:
    def info(self): return ProcessorInfo(name="other", kind="transform", media="audio", available=True)

class Telephone:
    kind, sample_rate_hz, frame_samples = "transform", 8000, 80
    def info(self): return ProcessorInfo(name="telephone", kind="transform", media="audio", available=True)
    def open(self, track): return self
"""


def test_ours_are_found() -> None:
    found = registry.load_processors()
    assert {"captions", "denoise", "prosody"} <= set(found)
    assert found["denoise"].info.available
    assert set(registry.transforms(found)) == {"denoise"}
    assert "prosody" in registry.observers(found)
    assert [info.name for info in registry.infos(found, "transform")] == ["denoise"]


def test_the_example_is_found_and_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vad: SileroVad) -> None:
    install_example(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    transforms = registry.transforms(registry.load_processors())
    assert set(transforms) == {"denoise", "gain"}
    levels = {}
    for on in (True, False):
        wanted = {"gain": transforms["gain"]}
        stream = PathStream(opened(processors={"gain": on}), wanted, vad.open(), PathCounters())
        decoder = OpusDecoder()
        for index, payload in enumerate(publish(voice(140, 0.6), bitrate_bps=64_000)):
            levels[on] = level_db(decoder.decode(stream.push(packet(index, payload), late=False).payload))
    # A steady vowel is not speech to the VAD, so the guard lets it be quieter.
    assert levels[True] == pytest.approx(levels[False] - 6, abs=2)


def test_broken_ones_are_unavailable_with_their_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_package.py").write_text(BROKEN)
    classes = {
        "raises": "Raises",
        "neither": "Neither",
        "misnamed": "Misnamed",
        "absent": "Absent",
        "telephone": "Telephone",
    }
    install(tmp_path, "broken-package", {name: f"broken_package:{each}" for name, each in classes.items()})
    install(tmp_path, "lost-package", {"lost": "no_such_module:Lost"})
    monkeypatch.syspath_prepend(tmp_path)
    found = registry.load_processors()
    for name, error in {
        "raises": "RuntimeError: no luck today",
        "neither": "TypeError: is neither",
        "misnamed": "ValueError: calls itself 'other'",
        "absent": "AttributeError",
        "lost": "ModuleNotFoundError",
    }.items():
        assert not found[name].info.available
        assert error in found[name].info.reason
    assert set(registry.transforms(found)) == {"denoise", "telephone"}
    host = PathHost(ProcessingSettings(), tmp_path, 1, found)
    host.start()
    assert {info.name: info.reason for info in host.infos if not info.available} == {
        "telephone": "does not run at 48000 Hz"
    }


def test_a_name_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_example(tmp_path / "one")
    install(tmp_path / "two", "impostor", {"gain": "no_such_module:Gain"})
    monkeypatch.syspath_prepend(tmp_path / "two")
    monkeypatch.syspath_prepend(tmp_path / "one")
    assert registry.load_processors()["gain"].info.available
