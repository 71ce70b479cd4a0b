"""The bot's view of a room, and what it makes of acks."""

from typing import Any

import pytest

from bots.client import read_ack
from bots.errors import BotError, ConnectionLost
from bots.room import CHAT_LINES, RoomView
from media_processors.findings import ProcessorInfo, ProcessorStatus
from signaling.protocol import messages as wire
from signaling.protocol.codes import CloseReason, ErrorCode

NOW = "2026-01-01T00:00:00Z"


def track(track_id: str, participant_id: str) -> wire.TrackInfo:
    return wire.TrackInfo(
        track_id=track_id, participant_id=participant_id, kind="audio", source="microphone", muted=False
    )


def person(participant_id: str, *tracks: wire.TrackInfo) -> wire.ParticipantInfo:
    return wire.ParticipantInfo(
        participant_id=participant_id,
        name=participant_id.upper(),
        host=False,
        bot=True,
        joined_at=NOW,
        tracks=[*tracks],
    )


def line(number: int) -> wire.ChatLine:
    return wire.ChatLine(participant_id="a", name="A", text=f"line {number}", sent_at=NOW)


STATUS = ProcessorStatus(track_id="t1", processor="denoise", state="on")
DENOISE = ProcessorInfo(name="denoise", kind="transform", media="audio", available=True)


@pytest.fixture
def view() -> RoomView:
    room = RoomView()
    room.reset(
        wire.RoomSnapshot(
            room_id="r",
            locked=False,
            participants=[person("a", track("t1", "a"))],
            processors=[DENOISE],
            processor_status=[STATUS],
            chat=[line(0)],
        )
    )
    return room


def test_a_snapshot_is_the_whole_room(view: RoomView) -> None:
    assert view.name_of("a") == "A"
    assert [entry.track_id for entry in view.tracks_of("a")] == ["t1"]
    assert view.processors["denoise"].available
    assert view.processor_status[("t1", "denoise")].state == "on"


def test_events_change_it(view: RoomView) -> None:
    view.apply(wire.ParticipantJoined(participant=person("b", track("t2", "b"))))
    view.apply(wire.ParticipantJoined(participant=person("b", track("t2", "b"))))
    view.apply(wire.TrackPublished(track=track("t3", "b")))
    view.apply(wire.TrackMuted(track_id="t2", muted=True, by_host=True))
    view.apply(wire.RoomChanged(locked=True))
    view.apply(wire.ActiveSpeakers(speakers=[wire.Speaker(participant_id="b", track_id="t2", level_dbov=-20)]))
    view.apply(wire.ProcessorsChanged(processors=[], status=[]))
    assert set(view.participants) == {"a", "b"}
    assert view.tracks["t2"].muted
    assert view.locked
    assert view.speakers[0].participant_id == "b"
    assert not view.processors
    view.apply(wire.TrackUnpublished(track_id="t3", participant_id="b"))
    assert set(view.tracks) == {"t1", "t2"}


def test_who_leaves_takes_tracks_and_their_status_along(view: RoomView) -> None:
    view.apply(wire.ParticipantLeft(participant_id="a", reason=CloseReason.LEFT))
    assert not view.participants
    assert not view.tracks
    assert not view.processor_status
    assert view.name_of("a") is None


def test_events_about_what_is_unknown_change_nothing(view: RoomView) -> None:
    view.apply(wire.ParticipantLeft(participant_id="x", reason=CloseReason.LEFT))
    view.apply(wire.TrackUnpublished(track_id="x", participant_id="x"))
    view.apply(wire.TrackMuted(track_id="x", muted=True, by_host=False))
    view.apply(wire.TransportReplace())
    assert set(view.participants) == {"a"}
    assert not view.tracks["t1"].muted


def test_chat_keeps_the_last_lines(view: RoomView) -> None:
    for number in range(CHAT_LINES + 5):
        view.apply(wire.ChatMessage(line=line(number)))
    assert len(view.chat) == CHAT_LINES
    assert view.chat[-1].text == f"line {CHAT_LINES + 4}"


@pytest.mark.parametrize("code", list(ErrorCode))
def test_a_refusal_becomes_an_error_with_its_code(code: ErrorCode) -> None:
    answer = {"ok": False, "error": {"code": code.value, "message": "no", "retryable": code is ErrorCode.ROOM_FULL}}
    with pytest.raises(BotError) as refused:
        read_ack(answer, None)
    assert refused.value.code is code
    assert refused.value.retryable is (code is ErrorCode.ROOM_FULL)
    assert str(refused.value) == f"{code.value}: no"


def test_a_result_is_typed() -> None:
    result = read_ack({"ok": True, "result": {"sdp": "v=0", "track_ids": {"0": "t1"}}}, wire.PublishResult)
    assert result == wire.PublishResult(sdp="v=0", track_ids={"0": "t1"})
    assert read_ack({"ok": True}, None) is None


@pytest.mark.parametrize("answer", [None, 7, "ok", {}, {"ok": False}, {"ok": True, "result": {"sdp": 1}}])
def test_what_is_no_ack_is_a_lost_connection(answer: Any) -> None:
    with pytest.raises(ConnectionLost):
        read_ack(answer, wire.PublishResult)
