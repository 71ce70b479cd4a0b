"""The report: who spoke, what was understood, and each way to fail."""

import pytest

from candor.demo_report import (
    DemoReport,
    DenoiseLine,
    HeardCaption,
    NamedSpeakers,
    PacketLine,
    PathStats,
    PlayedTurn,
    SoundQuality,
    caption_lines,
    failed_conditions,
    render,
    text_lines,
    turn_lines,
    word_errors,
)
from media_processors.findings import ProcessorInfo

SECOND = 1_000_000_000
CLEAN = "Anna (clean)"
TURNS = [
    PlayedTurn("a", "Anna", CLEAN, "Thank you for coming today.", 10 * SECOND, 12 * SECOND),
    PlayedTurn("r", "Robert", "Robert (noisy)", "Let us start the meeting.", 13 * SECOND, 15 * SECOND),
]


def caption(participant_id: str, text: str, start_s: float, end_s: float) -> HeardCaption:
    name = {"a": "Anna", "r": "Robert"}[participant_id]
    return HeardCaption(participant_id, name, text, round(start_s * SECOND), round(end_s * SECOND), 400)


CAPTIONS = [caption("a", "thank you for coming", 10.3, 11.9), caption("r", "let us start the meeting", 13.2, 14.9)]


def quality(pause_noise_db: float, stoi: float) -> SoundQuality:
    return SoundQuality(pause_noise_db=pause_noise_db, stoi=stoi, si_sdr_db=3.0, delay_ms=30.0)


def make(**changes: object) -> DemoReport:
    fields: dict[str, object] = {
        "seconds": 40.0,
        "join_to_first_packet_ms": 250.0,
        "packets": [PacketLine(name="Anna", received=1000, lost=1, duplicates=0, stalled_ms=0)],
        "denoise": DenoiseLine(available=True, on=quality(-25, 0.85), off=quality(-6, 0.80)),
        "path": PathStats(
            processed=900, bypassed=2, dropped=1, guards=0, tap_to_inject_ms_p50=0.8, tap_to_inject_ms_p99=2.5
        ),
        "captions_model": "pocketsphinx@5.1.1",
        "captions_quality": "test",
        "captions": caption_lines(CAPTIONS, TURNS),
        "texts": text_lines(CAPTIONS, TURNS),
        "turns": [],
        "wrongly_named_speakers": 0,
        "processors": [
            ProcessorInfo(
                name="captions",
                kind="observer",
                media="audio",
                available=False,
                reason="no model",
                command="make models",
            )
        ],
        "processor_status": [],
        "problems": [],
    }
    return DemoReport.model_validate(fields | changes)


def test_a_good_run_has_nothing_failed() -> None:
    assert failed_conditions(make(), CLEAN) == []


MANY_WRONG = [HeardCaption("a", "Anna", "something else was said here today", 10 * SECOND, 12 * SECOND, 400)]
SWAPPED = [caption("r", "thank you for coming today", 10.3, 11.9), CAPTIONS[1]]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"packets": []}, "media: nobody spoke"),
        (
            {"packets": [PacketLine(name="Anna", received=0, lost=0, duplicates=0, stalled_ms=0)]},
            "media: nothing of Anna",
        ),
        (
            {"packets": [PacketLine(name="Anna", received=90, lost=10, duplicates=0, stalled_ms=0)]},
            "media: 10 of 100 packets of Anna",
        ),
        ({"denoise": DenoiseLine(available=False, reason="no library")}, "denoise: unavailable (no library)"),
        ({"denoise": DenoiseLine(available=True, on=quality(-25, 0.8))}, "denoise: could not be measured"),
        (
            {"denoise": DenoiseLine(available=True, on=quality(-15.9, 0.8), off=quality(-6, 0.8))},
            "denoise: noise in pauses fell by 9.9 dB",
        ),
        (
            {"denoise": DenoiseLine(available=True, on=quality(-25, 0.77), off=quality(-6, 0.8))},
            "denoise: STOI fell by 0.030",
        ),
        ({"captions": []}, "captions: there was no final line"),
        ({"captions": caption_lines(SWAPPED, TURNS)}, "captions: a line was put under Robert while Anna spoke"),
        ({"texts": text_lines(MANY_WRONG, TURNS)}, "captions: word error rate of Anna (clean)"),
        ({"problems": ["denoise: not off within 5 s of being switched"]}, "denoise: not off within 5 s"),
    ],
)
def test_each_condition_fails_by_itself(changes: dict[str, object], sentence: str) -> None:
    report = make(**changes)
    failed = failed_conditions(report, CLEAN)
    assert len(failed) == 1
    assert failed[0].startswith(sentence)
    assert f"FAILED  {sentence}" in render(report.model_copy(update={"failed": failed}))


def test_the_edge_of_each_denoise_condition_still_passes() -> None:
    denoise = DenoiseLine(available=True, on=quality(-16, 0.7801), off=quality(-6, 0.80))
    assert failed_conditions(make(denoise=denoise), CLEAN) == []


def test_a_caption_belongs_to_the_turn_that_it_overlaps_most() -> None:
    early = caption("a", "words", 9.5, 12.4)
    alone = caption("a", "words", 30, 31)
    lines = caption_lines([early, alone, caption("r", "words", 12.0, 14.0)], TURNS)
    assert [line.spoken_by for line in lines] == ["Anna", None, "Robert"]
    assert [line.right for line in lines] == [True, False, True]


def test_words_are_counted_per_group_and_under_the_right_name_only() -> None:
    lines = {line.group: line for line in text_lines(SWAPPED, TURNS)}
    assert lines[CLEAN].wer == 1.0
    assert lines[CLEAN].captioned == ""
    assert lines["Robert (noisy)"].wer == 0.0


def test_case_and_punctuation_are_no_errors() -> None:
    assert word_errors("Yes, I agree.", "yes i agree") == 0
    assert word_errors("Let us start.", "let us") == pytest.approx(1 / 3)


def test_turns_are_found_while_their_speaker_is_named() -> None:
    named = [
        NamedSpeakers(round(10.4 * SECOND), frozenset({"a"})),
        NamedSpeakers(round(12.5 * SECOND), frozenset()),
        NamedSpeakers(round(20 * SECOND), frozenset({"r"})),
    ]
    lines, wrong = turn_lines(named, TURNS)
    assert [line.found for line in lines] == [True, False]
    assert wrong == 1


def test_who_stays_named_is_named_once() -> None:
    named = [
        NamedSpeakers(round(10.4 * SECOND), frozenset({"a"})),
        NamedSpeakers(round(13.4 * SECOND), frozenset({"a", "r"})),
    ]
    lines, wrong = turn_lines(named, TURNS)
    assert [line.found for line in lines] == [True, True]
    assert wrong == 0


def test_the_text_names_what_a_person_wants_to_know() -> None:
    text = render(make())
    for expected in ("250 ms", "1000 packets, 1 lost", "19.0 dB lower", "p99 2.50 ms", "test quality", "make models"):
        assert expected in text
    assert "Everything that the demo checks" in text
