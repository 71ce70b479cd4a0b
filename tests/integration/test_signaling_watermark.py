"""Labels burned into pictures, as policy decides and clients see it: a real signaling server, scripted worker and hosts."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from media_processors.findings import FaceAuthenticity, VoiceAuthenticity
from tests.integration.signaling_kit import ROOM, Client, Meeting, meeting
from tests.until import until

WATERMARK = {"name": "watermark", "kind": "transform", "media": "video", "available": True, "default_on": False}
ENHANCEMENT = WATERMARK | {"name": "video_enhancement"}
AUTHENTICITY = {
    "name": "face_authenticity",
    "kind": "observer",
    "media": "video",
    "available": True,
    "default_on": False,
    "about": "biometric",
}
CAMERA = [{"mid": "0", "source": "camera"}, {"mid": "1", "source": "microphone"}]
ON_ALERT = {"watermark": "on_alert"}


def evidence(person: str, track_id: str, verdict: str, *, face_id: str = "1", epoch: int = 1) -> dict[str, Any]:
    common = {
        "room_id": ROOM,
        "participant_id": person,
        "track_id": track_id,
        "epoch": epoch,
        "start_ms": 0,
        "end_ms": 9_000,
        "model": "test@1",
        "verdict": verdict,
        "reason": "",
        "likelihood": 0.95,
        "score": -3.0,
        "evidence_ms": 9_000,
        "windows": 18,
        "known_errors": "often wrong",
    }
    model = FaceAuthenticity if face_id else VoiceAuthenticity
    return model.model_validate(common | ({"face_id": face_id} if face_id else {})).model_dump()


class Room:
    """A meeting in which Ada is filmed and heard, and has allowed to be judged."""

    def __init__(self, running: Meeting) -> None:
        self.running = running
        self.running.watch_host.infos += [AUTHENTICITY, AUTHENTICITY | {"name": "faces"}]
        self.ada: Client
        self.camera = ""
        self.microphone = ""

    async def begin(self) -> "Room":
        self.ada = await self.running.joined("Ada")
        tracks = await self.ada.publish(CAMERA)
        self.camera, self.microphone = tracks["0"], tracks["1"]
        await self.ada.result("set_processor", {"processor": "face_authenticity", "on": True})
        return self

    def find(self, verdict: str, *, face_id: str = "1", epoch: int = 1) -> None:
        track_id = self.camera if face_id else self.microphone
        found = evidence(self.ada.me, track_id, verdict, face_id=face_id, epoch=epoch)
        self.running.watch_host.notify("finding", found)

    @property
    def label(self) -> bool | None:
        """As the worker was told."""
        return self.running.worker.tracks[self.camera].processors.get("watermark")

    async def labelled(self, on: bool) -> None:
        await until(lambda: "" if self.label is on else f"the label to be {'on' if on else 'off'}")


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    running = Meeting(tmp_path, video=[WATERMARK, ENHANCEMENT], policy=ON_ALERT)
    prepared = Room(running)
    await running.start()
    try:
        yield await prepared.begin()
    finally:
        await running.close()


async def test_a_standing_alert_is_a_label_and_its_end_is_the_end_of_it(room: Room) -> None:
    assert room.label is False
    with capture_logs() as lines:
        for verdict, on in (
            ("likely_synthetic", True),
            ("inconclusive", False),
            ("likely_synthetic", True),
            ("insufficient_evidence", False),
        ):
            room.find(verdict)
            await room.labelled(on)
    audit = [line for line in lines if line.get("audit")]
    assert [(line["event"], line["on"], line["track"]) for line in audit] == [
        ("label_changed", on, room.camera) for on in (True, False, True, False)
    ]


async def test_one_of_two_faces_and_the_voice_are_enough(room: Room) -> None:
    room.find("likely_synthetic", face_id="1")
    room.find("likely_genuine", face_id="2")
    await room.labelled(True)
    room.find("likely_synthetic", face_id="")
    room.find("insufficient_evidence", face_id="1")
    room.find("likely_genuine", face_id="2")
    await until(lambda: "" if len(room.ada.events("finding")) == 5 else "all five findings")
    assert room.label is True, "the voice"
    room.find("likely_genuine", face_id="")
    await room.labelled(False)


async def test_the_alert_of_a_voice_ends_with_its_track(room: Room) -> None:
    room.find("likely_synthetic", face_id="")
    await room.labelled(True)
    await room.ada.publish(CAMERA[:1])
    await room.labelled(False)


async def test_who_takes_back_their_consent_is_not_labelled_by_it(room: Room) -> None:
    room.find("likely_synthetic")
    await room.labelled(True)
    await room.ada.result("set_processor", {"processor": "face_authenticity", "on": False})
    await room.labelled(False)
    room.find("likely_synthetic", epoch=1)
    await until(lambda: "" if room.running.server.insights.dropped["old_epoch"] else "what was found before")
    assert room.label is False


async def test_another_change_of_consent_is_no_way_out_of_a_label(room: Room) -> None:
    room.find("likely_synthetic")
    await room.labelled(True)
    for epoch in (2, 3):
        await room.ada.result("set_processor", {"processor": "captions", "on": epoch == 3})
        room.find("insufficient_evidence", face_id="7", epoch=epoch)
        await room.ada.event("finding", epoch)
        assert room.label is True, "observers begin anew, and that is no evidence"
    room.find("likely_genuine", face_id="7", epoch=3)
    await room.labelled(False)


async def test_faces_that_are_no_longer_found_are_no_way_out_either(room: Room) -> None:
    room.find("likely_synthetic")
    await room.labelled(True)
    for epoch, on in ((2, True), (3, False)):
        await room.ada.result("set_processor", {"processor": "faces", "on": on})
        room.find("insufficient_evidence", epoch=epoch)
        await room.ada.event("finding", epoch)
        assert room.label is True


async def test_what_somebody_elses_observer_found_ends_with_the_consent_to_it(tmp_path: Path) -> None:
    running = Meeting(tmp_path, video=[WATERMARK], policy=ON_ALERT)
    room = Room(running)
    running.watch_host.infos[:] = [AUTHENTICITY | {"name": "verdicts"}]
    await running.start()
    try:
        room.ada = await running.joined("Ada")
        room.camera = (await room.ada.publish(CAMERA))["0"]
        await room.ada.result("set_processor", {"processor": "verdicts", "on": True})
        room.find("likely_synthetic")
        await room.labelled(True)
        await room.ada.result("set_processor", {"processor": "verdicts", "on": False})
        await room.labelled(False)
    finally:
        await running.close()


async def test_what_was_found_of_a_voice_stays_when_faces_may_not_be_judged_any_more(room: Room) -> None:
    room.find("likely_synthetic", face_id="")
    room.find("likely_synthetic")
    await room.labelled(True)
    await room.ada.result("set_processor", {"processor": "face_authenticity", "on": False})
    await room.ada.event("processors_changed")
    assert room.label is True
    room.find("likely_genuine", face_id="", epoch=2)
    await room.labelled(False)


async def test_with_the_watch_host_goes_what_it_found(room: Room) -> None:
    room.find("likely_synthetic")
    await room.labelled(True)
    await room.running.watch_host.close()
    await room.labelled(False)


async def test_a_new_signaling_process_knows_what_a_label_rests_on(room: Room) -> None:
    room.find("likely_synthetic", face_id="")
    await room.labelled(True)
    await room.running.restart_server()
    person = room.running.server.rooms.participant(room.ada.me)
    assert person is not None
    assert room.label is True
    room.find("likely_genuine")
    room.find("inconclusive")
    room.find("likely_genuine", epoch=0)
    await until(lambda: "" if room.running.server.insights.dropped["old_epoch"] else "the findings before it")
    assert person.alerts.standing() == [(room.microphone, "")], "it was the voice"
    room.find("likely_genuine", face_id="")
    await room.labelled(False)


async def test_no_alert_outlives_its_track_in_a_new_signaling_process(room: Room) -> None:
    room.find("likely_synthetic")
    await room.labelled(True)
    await room.running.restart_server()
    server = room.running.server
    person, meeting = server.rooms.participant(room.ada.me), server.rooms.find(ROOM)
    assert person is not None
    assert meeting is not None
    assert person.alerts
    server.lobby.unpublish(meeting, person, room.camera)
    assert not person.alerts


async def test_everybody_is_told_of_the_rule_before_and_nobody_can_switch_it(room: Room) -> None:
    bert = await room.running.client()
    snapshot = (await bert.join("Bert"))["room"]
    (info,) = [one for one in snapshot["processors"] if one["name"] == "watermark"]
    assert (info["locked"], info["locked_by"], info["default_on"]) == ("off", "on_alert", False)
    assert await room.ada.code("set_processor", {"processor": "watermark", "on": True}) == "forbidden"
    room.find("likely_synthetic")
    await room.labelled(True)
    assert await room.ada.code("set_processor", {"processor": "watermark", "on": False}) == "forbidden"
    person = room.running.server.rooms.participant(room.ada.me)
    assert person is not None
    assert person.consent.epoch == 1, "what was found still counts"
    assert room.label is True

    def shown() -> str:
        changes = bert.events("processors_changed")
        states = {(one["track_id"], one["processor"]): one["state"] for one in changes[-1]["status"]} if changes else {}
        return "" if states.get((room.camera, "watermark")) not in (None, "off") else f"the label in {states}"

    await until(shown)
    assert bert.events("finding") == [], "the evidence itself is not for everybody"


async def test_without_the_rule_there_is_no_label(tmp_path: Path) -> None:
    running = Meeting(tmp_path, video=[WATERMARK], policy={"rooms": {"elsewhere": ON_ALERT}})
    prepared = Room(running)
    await running.start()
    try:
        room = await prepared.begin()
        room.find("likely_synthetic")
        await room.ada.event("finding")
        assert room.label is False
        assert await room.ada.code("set_processor", {"processor": "watermark", "on": True}) == "forbidden"
    finally:
        await running.close()


async def test_evidence_that_hosts_may_not_read_is_not_shown_to_the_room(tmp_path: Path) -> None:
    policy = ON_ALERT | {"audience": {"face_authenticity": "person"}}
    running = Meeting(tmp_path, video=[WATERMARK], policy=policy)
    prepared = Room(running)
    await running.start()
    try:
        room = await prepared.begin()
        room.find("likely_synthetic")
        await room.ada.event("finding")
        assert room.label is False
        room.find("likely_synthetic", face_id="")
        await room.labelled(True)
    finally:
        await running.close()


async def test_enhancement_is_the_publishers_choice_or_a_rooms_default(tmp_path: Path) -> None:
    async with meeting(
        tmp_path, video=[ENHANCEMENT], policy={"rooms": {ROOM: {"defaults": {"video_enhancement": True}}}}
    ) as running:
        ada = await running.joined("Ada")
        camera = (await ada.publish(CAMERA))["0"]
        await until(lambda: "" if running.worker.tracks[camera].processors else "processors")
        assert running.worker.tracks[camera].processors == {"video_enhancement": True}
        await ada.result("set_processor", {"processor": "video_enhancement", "on": False})
        assert running.worker.tracks[camera].processors == {"video_enhancement": False}


async def test_a_server_that_has_it_off_has_no_label_whatever_its_rooms_say(tmp_path: Path) -> None:
    policy = {"off": ["watermark"], "rooms": {ROOM: ON_ALERT}}
    running = Meeting(tmp_path, video=[WATERMARK], policy=policy)
    prepared = Room(running)
    await running.start()
    try:
        room = await prepared.begin()
        room.find("likely_synthetic")
        await room.ada.event("finding")
        assert room.label is False
    finally:
        await running.close()


async def test_what_the_host_says_of_itself_comes_before_the_workers_bypass(room: Room) -> None:
    room.find("likely_synthetic")
    await room.labelled(True)

    def shown(wanted: list[str]) -> str:
        changes = room.ada.events("processors_changed")
        states = [
            [one["state"], one["reason"]]
            for one in (changes[-1]["status"] if changes else [])
            if (one["track_id"], one["processor"]) == (room.camera, "watermark")
        ]
        return "" if states == [wanted] else f"{wanted}, not {states}"

    room.running.worker.bypass(room.camera, "late")
    await until(lambda: shown(["bypass", "late"]))
    reason = "too_slow: 4.0 pictures/s of 30.0"
    status = {"track_id": room.camera, "processor": "watermark", "state": "unavailable", "reason": reason}
    room.running.video_host.notify("processor_status", status)
    await until(lambda: shown(["unavailable", reason]))


async def test_a_slip_in_the_policy_is_told_also_where_a_host_runs_nothing(tmp_path: Path) -> None:
    running = Meeting(tmp_path, video=[WATERMARK], policy={"off": ["no_such_processor"]})
    running.video_host.infos.clear()
    await running.video_host.start()
    with capture_logs() as lines:
        await running.start()
        try:
            await until(
                lambda: "" if any(line.get("processor") == "no_such_processor" for line in lines) else "an error"
            )
        finally:
            await running.close()
    (line,) = [line for line in lines if line["event"] == "policy_names_no_processor"]
    assert line["log_level"] == "error"
