"""What a server or a room decides for everybody: it narrows, never widens."""

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media_processors.findings import Expression, EyeDirection, Faces, Finding, ProcessorInfo, SeenFace
from signaling.policy import EU_WORKPLACE, Audience, Consent, Lock, Policy, PolicySettings, Rules, processing_of

About = Literal["content", "biometric", "attention", "emotion"]
WIDTH: dict[Audience, int] = {"person": 0, "hosts": 1, "room": 2}
ROOM = "team"
NAMES = ("captions", "faces", "expression")
ABOUT: dict[str, About] = {
    "captions": "content",
    "faces": "biometric",
    "expression": "emotion",
    "eye_direction": "attention",
}


def info(name: str, *, default_on: bool = True) -> ProcessorInfo:
    return ProcessorInfo(
        name=name, kind="observer", media="audio", available=True, default_on=default_on, about=ABOUT[name]
    )


def faces() -> Faces:
    face = SeenFace(
        face_id="1", x=0, y=0, width=0.2, height=0.4, score=0.9, yaw_degrees=0, pitch_degrees=0, roll_degrees=0
    )
    return Faces(**common("yunet@1"), faces=[face], facing_share=0.8)


def expression() -> Expression:
    return Expression(
        **common("mini-xception@1"),
        face_id="1",
        label="happy",
        probability=0.9,
        probabilities={"happy": 0.9},
        known_errors="66 %",
    )


def eyes() -> EyeDirection:
    return EyeDirection(
        **common("mediapipe-landmarks@0.10.21"),
        face_id="1",
        eyes="open",
        yaw_degrees=3,
        pitch_degrees=-5,
        looks_yaw_degrees=1,
        looks_pitch_degrees=2,
        at_screen=True,
        screen_share=0.9,
        known_errors="5 degrees",
    )


def common(model: str) -> dict[str, object]:
    ids = {"room_id": ROOM, "participant_id": "p", "track_id": "t"}
    return {**ids, "epoch": 0, "start_ms": 0, "end_ms": 500, "model": model}


def test_nothing_about_a_body_is_on_before_its_owner_says_so() -> None:
    known = [info(name) for name in NAMES]
    eager = Policy(Rules(defaults=dict.fromkeys(NAMES, True), on=list(NAMES)))
    wanted = {"captions": True, "faces": False, "expression": False}
    assert processing_of("microphone", Consent(), known, {}, eager) == wanted
    assert processing_of("microphone", Consent({"faces": True}), known, {}, eager)["faces"]


def test_what_is_locked_nobody_switches() -> None:
    policy = Policy(Rules(off=["faces"], on=["captions"]))
    known = [info(name) for name in NAMES]
    consent = Consent({"captions": False, "faces": True})
    assert processing_of("microphone", consent, known, {}, policy) == {
        "captions": True,
        "faces": False,
        "expression": False,
    }
    assert policy.lock(info("captions")) == Lock(True, "server")
    shown = policy.described(info("faces"))
    assert (shown.locked, shown.locked_by, shown.default_on) == ("off", "server", False)


def test_at_work_emotions_are_not_inferred_and_attention_is_not_told() -> None:
    policy = Policy(Rules(eu_workplace=True))
    assert policy.lock(info("expression")) == Lock(False, EU_WORKPLACE)
    assert policy.lock(info("eye_direction")) == Lock(False, EU_WORKPLACE)
    assert policy.lock(info("faces")) is None
    assert policy.told(expression()) is None
    assert policy.told(eyes()) is None
    assert Policy(Rules()).audience(eyes()) == "person"
    assert not Policy(Rules(on=["eye_direction"], defaults={"eye_direction": True})).default(info("eye_direction"))
    seen = policy.told(faces())
    assert isinstance(seen, Faces)
    assert seen.facing_share is None
    assert seen.faces == faces().faces
    assert Policy(Rules()).told(faces()) == faces()


def test_a_room_adds_rules_and_takes_none_away() -> None:
    settings = PolicySettings(off=["faces"], rooms={ROOM: Rules(on=["faces"], defaults={"captions": False})})
    policy = Policy.of(settings, ROOM)
    assert policy.lock(info("faces")) == Lock(False, "server")
    assert Policy.of(settings, "another").default(info("captions"))
    assert not policy.default(info("captions"))


@pytest.mark.parametrize("finding", [faces(), expression()], ids=["faces", "expression"])
@given(server=st.sampled_from(list(WIDTH)), room=st.sampled_from(list(WIDTH)))
def test_an_audience_is_only_ever_narrowed(finding: Finding, server: Audience, room: Audience) -> None:
    rules = Policy(Rules(audience={finding.kind: server}), Rules(audience={finding.kind: room}))
    usual = WIDTH[Policy(Rules()).audience(finding)]
    assert WIDTH[rules.audience(finding)] == min(usual, WIDTH[server], WIDTH[room])


def test_no_camera_is_looked_into_unasked_whatever_a_processor_says_of_itself() -> None:
    stranger = ProcessorInfo(name="stranger", kind="observer", media="video", available=True, default_on=True)
    for rules in (Rules(), Rules(on=["stranger"], defaults={"stranger": True})):
        assert processing_of("camera", Consent(), [stranger], {}, Policy(rules)) == {"stranger": False}
    assert processing_of("camera", Consent({"stranger": True}), [stranger], {}, Policy(Rules())) == {"stranger": True}


@pytest.mark.parametrize(("server", "room"), [(True, False), (False, True)])
def test_of_two_defaults_the_one_that_says_off_holds(server: bool, room: bool) -> None:
    policy = Policy(Rules(defaults={"captions": server}), Rules(defaults={"captions": room}))
    assert not policy.default(info("captions"))


def test_rules_are_checked_when_they_are_read() -> None:
    with pytest.raises(ValueError, match="offf"):
        PolicySettings.model_validate({"offf": ["faces"]})
    with pytest.raises(ValueError, match="captions"):  # a processor's name, not a kind of finding
        PolicySettings.model_validate({"audience": {"captions": "person"}})
    with pytest.raises(ValueError, match="everybody"):
        PolicySettings.model_validate({"audience": {"caption": "everybody"}})


@pytest.mark.parametrize(
    "off", [{"off": ["watermark"]}, {"rooms": {ROOM: {"watermark": "on_alert", "off": ["watermark"]}}}]
)
def test_who_decides_against_labels_has_the_last_word(off: dict[str, Any]) -> None:
    settings = PolicySettings.model_validate({"rooms": {ROOM: {"watermark": "on_alert"}}} | off)
    policy = Policy.of(settings, ROOM)
    label = ProcessorInfo(name="watermark", kind="transform", media="video", available=True, default_on=False)
    lock = policy.lock(label)
    assert lock is not None
    assert (lock.on, lock.by) == (False, "room" if "rooms" in off else "server")
    assert not policy.labels
    assert not settings.labels_somewhere
    assert processing_of("camera", Consent(), [label], {}, policy, alert=True) == {"watermark": False}
