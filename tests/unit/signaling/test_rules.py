"""Pure rules: rate limit, consent, subscriptions, connection quality, rooms."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media_processors.findings import ProcessorInfo
from sfu.channel.messages import Quality
from signaling.chat import CHAT_BYTES, CHAT_LINES, ChatHistory
from signaling.errors import RoomError
from signaling.events import Event
from signaling.limits import Calm, TokenBucket
from signaling.participants import Participant, ParticipantNotes, ParticipantState, Track
from signaling.policy import Consent, Policy, Rules, processing_of
from signaling.protocol.codes import CloseReason, ErrorCode
from signaling.protocol.messages import ChatLine, ReportQuality, Subscribe, Tile
from signaling.quality import Connection, score_of
from signaling.rooms import Rooms
from signaling.subscriptions import wanted
from tests.until import until

S = 1_000_000_000


class Outlet:
    """Collects what is sent."""

    def __init__(self) -> None:
        self.sent: list[Event] = []
        self.released = False

    def send(self, event: Event) -> None:
        self.sent.append(event)

    def release(self) -> None:
        self.released = True


def info(name: str, **fields: object) -> ProcessorInfo:
    basis = {"name": name, "kind": "observer", "media": "audio", "available": True}
    return ProcessorInfo.model_validate({**basis, **fields})


# --- rate limit


def test_a_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    bucket = TokenBucket(per_s=2, burst=3)
    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(S // 2), bucket.take(S // 2)] == [True, False]
    assert [bucket.take(100 * S) for _ in range(4)] == [True, True, True, False]


@given(st.lists(st.integers(0, S), max_size=60), st.integers(1, 10), st.floats(0.1, 50))
def test_a_bucket_never_lets_more_through_than_burst_and_rate(gaps: list[int], burst: int, per_s: float) -> None:
    bucket = TokenBucket(per_s, burst)
    now_ns = passed = 0
    for gap in gaps:
        now_ns += gap
        passed += bucket.take(now_ns)
    assert passed <= burst + per_s * now_ns / S + 1e-6


async def test_what_is_asked_often_is_done_at_once_and_then_once_more() -> None:
    done: list[str] = []
    calm = Calm(0.02, lambda: done.append("act"), lambda: done.append("idle"))
    for _ in range(50):
        calm.ask()
    assert done == ["act"]
    await until(lambda: "" if "idle" in done else "rest")
    assert done == ["act", "act", "idle"]
    calm.ask()
    calm.close()
    assert done[3:] == ["act"]


def test_an_event_is_made_once_for_a_whole_room() -> None:
    rooms = Rooms()
    room = rooms.open("r", 0)
    outlets = [Outlet() for _ in range(3)]
    for outlet in outlets:
        participant = Participant("r", "Ada")
        rooms.enter(room, participant)
        participant.arrive(outlet)
    room.broadcast(room.changed())
    assert all(outlet.sent[0] is outlets[0].sent[0] for outlet in outlets)


# --- consent and policy

FREE = Policy(Rules())


def test_choices_outrank_defaults_and_every_change_is_a_new_epoch() -> None:
    consent = Consent()
    known = [info("captions"), info("emotion", default_on=False), info("faces", media="video")]
    assert processing_of("microphone", consent, known, {}, FREE) == {"captions": True, "emotion": False}
    consent.choose("captions", on=False)
    consent.choose("emotion", on=True)
    assert consent.epoch == 2
    assert processing_of("microphone", consent, known, {}, FREE) == {"captions": False, "emotion": True}


def test_a_camera_is_for_processors_of_video() -> None:
    known = [info("captions"), info("emotion", default_on=False), info("faces", media="video")]
    assert processing_of("camera", Consent(), known, {}, FREE) == {"faces": False}
    assert processing_of("camera", Consent({"faces": True}), known, {}, FREE) == {"faces": True}
    assert processing_of("camera", Consent({"faces": False}), known, {}, FREE) == {"faces": False}


@pytest.mark.parametrize("source", ["music", "screen_audio", "screen"])
def test_only_microphones_and_cameras_are_processed(source: str) -> None:
    assert (
        processing_of(source, Consent(), [info("captions"), info("faces", media="video")], {"captions": True}, FREE)
        == {}
    )


def test_an_unavailable_processor_stays_wanted_and_an_unheard_host_keeps_its_state() -> None:
    away = [info("denoise", available=False)]
    consent = Consent({"captions": False})
    assert processing_of("microphone", consent, away, {"captions": True, "prosody": True}, FREE) == {
        "denoise": True,
        "captions": False,
        "prosody": True,
    }


# --- subscriptions


def test_everything_of_others_is_wanted_unless_said_otherwise() -> None:
    ada = Participant("r", "Ada")
    tracks = [Track(f"t{number}", owner, "camera", False) for number, owner in enumerate([ada.id, "p_b", "p_c"])]
    assert [(one.track_id, one.width, one.height) for one in wanted(ada, tracks).tracks] == [
        ("t1", 1280, 720),
        ("t2", 1280, 720),
    ]
    tiles = [Tile(track_id="t2", width=0, height=0)]
    ada.subscription = Subscribe(auto=False, only=["t2", "t9"], tiles=tiles)
    assert [(one.track_id, one.width, one.height) for one in wanted(ada, tracks).tracks] == [("t2", 0, 0)]
    ada.subscription = Subscribe(auto=False)
    assert wanted(ada, tracks).tracks == []


# --- connection quality


@pytest.mark.parametrize(
    ("loss", "rtt", "freezes", "connected", "score"),
    [
        (0, 20, 0, True, 3),
        (4, 20, 0, True, 2),
        (0, 300, 0, True, 2),
        (0, 0, 1, True, 2),
        (11, 0, 0, True, 1),
        (0, 700, 0, True, 1),
        (0, 0, 3, True, 1),
        (0, 0, 0, False, 0),
    ],
)
def test_scores(loss: float, rtt: float, freezes: int, connected: bool, score: int) -> None:
    assert score_of(loss, rtt, freezes, connected) == score


def test_quality_is_told_when_it_changes_and_not_more_often_than_every_two_seconds() -> None:
    connection = Connection()
    assert connection.news("p", 0) is None
    connection.client = ReportQuality(loss_percent=20)
    first = connection.news("p", S)
    assert first is not None and first.score == 1
    connection.client = ReportQuality(loss_percent=0)
    assert connection.news("p", 2 * S) is None
    second = connection.news("p", 3 * S)
    assert second is not None and second.score == 3
    assert connection.news("p", 9 * S) is None


def test_the_worst_figure_counts_and_a_lost_transport_is_zero() -> None:
    connection = Connection(
        worker=Quality(
            participant_id="p",
            uplink_loss_percent=5,
            downlink_loss_percent=0,
            rtt_ms=None,
            estimate_bps=None,
            layers=[],
        ),
        client=ReportQuality(loss_percent=0, rtt_ms=20),
    )
    assert connection.score() == 2
    connection.set_transport("publish", "failed")
    connection.set_transport("subscribe", "connected")
    assert connection.score() == 0
    connection.set_transport("publish", "connected")
    assert connection.score() == 2


# --- participants and rooms


def test_a_seat_that_is_given_up_stays_given_up() -> None:
    ada, outlet = Participant("r", "Ada"), Outlet()
    key = ada.new_session_key()
    ada.arrive(outlet)
    assert ada.present
    ada.leave(CloseReason.REMOVED)
    assert ada.gone and outlet.released
    assert not ada.use_session_key(key)
    ada.arrive(Outlet())
    assert ada.state is ParticipantState.GONE


def test_a_session_key_works_once_and_the_next_one_replaces_it() -> None:
    ada = Participant("r", "Ada")
    first = ada.new_session_key()
    assert ada.use_session_key(first) and not ada.use_session_key(first)
    second = ada.new_session_key()
    third = ada.new_session_key()
    assert not ada.use_session_key(second) and ada.use_session_key(third)


def test_a_used_key_is_spared_until_the_client_is_heard_again() -> None:
    ada = Participant("r", "Ada")
    first = ada.new_session_key()
    assert ada.use_session_key(first)
    second = ada.new_session_key()
    ada.spare_session_key(first)
    assert ada.use_session_key(first) and not ada.use_session_key(second)
    third = ada.new_session_key()
    ada.spare_session_key(first)
    assert ada.confirm_session() and not ada.confirm_session()
    assert not ada.use_session_key(first) and ada.use_session_key(third)


def test_notes_bring_back_the_same_participant() -> None:
    ada = Participant("r", "Ada", host=True, identity="ada", lineage=["0a"], expires_at=99, stable_ssrcs=True)
    key = ada.new_session_key()
    ada.consent.choose("captions", on=False)
    ada.subscription = Subscribe(auto=False, only=["t1"])
    notes = ParticipantNotes.model_validate(ada.notes().model_dump())
    again = Participant.adopted("r", ada.id, notes)
    assert again.state is ParticipantState.AWAY
    assert again.notes() == ada.notes()
    assert again.use_session_key(key)


def test_track_ids_are_stable_and_never_shared() -> None:
    ada, bert = Participant("r", "Ada"), Participant("r", "Bert")
    ids = {one.track_id(mid, source) for one in (ada, bert) for mid in "01" for source in ("camera", "screen")}
    assert len(ids) == 8
    assert ada.track_id("0", "camera") == ada.track_id("0", "camera")


def test_the_longest_present_person_inherits_and_bots_never_do() -> None:
    rooms = Rooms()
    room = rooms.open("r", 0)
    bot, ada, bert = Participant("r", "Bot", bot=True), Participant("r", "Ada"), Participant("r", "Bert")
    for one in (bot, ada, bert):
        rooms.enter(room, one)
    assert room.heir() is ada
    rooms.remove(ada)
    assert room.heir() is bert
    rooms.remove(bert)
    assert room.heir() is None


def test_a_room_keeps_the_last_lines_and_events_reach_only_those_present() -> None:
    rooms = Rooms()
    room = rooms.open("r", 0)
    ada, bert, outlet = Participant("r", "Ada"), Participant("r", "Bert"), Outlet()
    rooms.enter(room, ada)
    rooms.enter(room, bert)
    ada.arrive(outlet)
    bert.outlet = Outlet()
    room.broadcast(room.changed())
    assert outlet.sent == [Event.of(room.changed())]
    assert bert.outlet.sent == []
    assert [one.participant_id for one in room.snapshot([], []).participants] == [ada.id]


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=4000), max_size=30))
def test_the_history_of_a_chat_is_bounded_in_bytes(texts: list[str]) -> None:
    history = ChatHistory()
    for text in [*texts, "\N{GRINNING FACE}" * 4000, "last"]:
        history.append(ChatLine(participant_id="p", name="Ada", text=text, sent_at="now"))
    kept = history.lines()
    assert kept[-1].text == "last"
    assert len(json.dumps([line.model_dump(mode="json") for line in kept])) <= CHAT_BYTES + 2 * len(kept)
    for _ in range(CHAT_LINES):
        history.append(kept[-1])
    assert len(history.lines()) == CHAT_LINES


def test_indexes_follow() -> None:
    rooms = Rooms()
    room = rooms.open("r", 0)
    ada = Participant("r", "Ada")
    rooms.enter(room, ada)
    rooms.publish(ada, Track("t", ada.id, "camera", False))
    assert rooms.track("t") is not None and rooms.participant(ada.id) is ada
    with pytest.raises(ValueError, match="not empty"):
        rooms.close(room)
    rooms.remove(ada)
    assert rooms.track("t") is None and rooms.participant(ada.id) is None
    ada.leave(CloseReason.ROOM_ENDED)
    with pytest.raises(RoomError) as refused:
        rooms.of(ada)
    assert refused.value.code is ErrorCode.ROOM_ENDED
    rooms.close(room)
    assert rooms.find("r") is None
