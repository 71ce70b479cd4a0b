"""Consent, policy and findings as clients see them: a real signaling server, scripted worker and hosts."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from media_processors.findings import Prosody, VoiceAuthenticity
from sfu.channel.messages import SetProcessing
from tests.integration.signaling_kit import IMG, MICROPHONE, ROOM, Client, Meeting, caption, meeting
from tests.until import until


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Meeting]:
    """Open rooms, as in development."""
    async with meeting(tmp_path) as one:
        yield one


async def test_microphones_are_processed_and_music_is_not(room: Meeting) -> None:
    ada = await room.joined()
    ids = await ada.publish([*MICROPHONE, {"mid": "1", "source": "music"}])
    await until(lambda: "" if room.worker.requests(SetProcessing) else "set_processing")
    tracks = room.worker.tracks
    assert tracks[ids["0"]].processors == {"captions": True, "denoise": True, "emotion": False}
    assert tracks[ids["1"]].processors == {}


async def test_one_microphone_of_a_participant_is_processed_also_when_it_moves(room: Meeting) -> None:
    ada = await room.joined()
    await ada.publish()
    moved = (await ada.publish([{"mid": "1", "source": "microphone"}]))["1"]
    await until(
        lambda: "" if [*room.worker.tracks] == [moved] and room.worker.tracks[moved].processors else "one track"
    )
    assert [status["track_id"] for status in (await ada.event("processors_changed", 2))["status"]] == [moved] * 3


async def test_consent_is_revoked_with_a_new_epoch_and_old_findings_are_dropped(room: Meeting) -> None:
    ada, bert = await room.joined("Ada"), await room.joined("Bert")
    track_id = (await ada.publish())["0"]
    room.watch_host.notify("finding", caption(ada.me, track_id, epoch=0))
    assert (await bert.event("finding"))["finding"]["text"] == IMG
    await ada.result("set_processor", {"processor": "captions", "on": False})
    assert room.worker.tracks[track_id].processors["captions"] is False
    assert room.worker.tracks[track_id].epoch == 1
    room.watch_host.notify("finding", caption(ada.me, track_id, epoch=0))
    await until(lambda: "" if room.server.insights.dropped["old_epoch"] else "a dropped finding")
    assert len(bert.events("finding")) == 1
    await until(lambda: "" if state_of(bert, "captions") == "off" else "captions off")


async def test_nothing_is_told_after_the_ack_of_a_revoke_whatever_dies_or_comes_back(room: Meeting) -> None:
    ada, bert = await room.joined("Ada"), await room.joined("Bert")
    track_id = (await ada.publish())["0"]
    dropped = room.server.insights.dropped

    def twenty(epoch: int) -> None:
        for _ in range(20):
            room.watch_host.notify("finding", caption(ada.me, track_id, epoch))

    twenty(epoch=0)
    await until(lambda: "" if len(bert.events("finding")) == 20 else "what was found before")
    revoking = asyncio.create_task(ada.result("set_processor", {"processor": "captions", "on": False}))
    twenty(epoch=0)  # in flight
    await revoking
    twenty(epoch=0)

    def unaccounted() -> str:
        missing = 60 - len(ada.events("finding")) - dropped["old_epoch"]
        return f"{missing} of sixty, told before the ack or dropped" if missing else ""

    await until(unaccounted)
    assert dropped["old_epoch"] >= 20  # all that came after the ack
    told = len(ada.events("finding"))
    await room.watch_host.close()  # it is killed, and another one still has what the first one heard
    await room.watch_host.start()
    await until(lambda: "" if room.watch_host.connected else "signaling's way back to the host")
    before = dropped["old_epoch"]
    twenty(epoch=0)
    await until(lambda: "" if dropped["old_epoch"] == before + 20 else "twenty dropped, of the host that came back")
    await ada.drop()
    back = await room.client()
    assert (await back.join("Ada", session_key=ada.key))["resumed"] is True
    twenty(epoch=0)
    await until(lambda: "" if dropped["old_epoch"] == before + 40 else "twenty dropped, after the way back")
    await back.result("set_processor", {"processor": "captions", "on": True})
    room.watch_host.notify("finding", caption(ada.me, track_id, epoch=2))
    assert (await back.event("finding"))["finding"]["epoch"] == 2
    assert len(back.events("finding")) == 1
    await until(lambda: "" if len(bert.events("finding")) == told + 1 else "the one finding of the new consent")


def prosody(participant_id: str, track_id: str) -> dict[str, Any]:
    return Prosody(
        room_id=ROOM,
        participant_id=participant_id,
        track_id=track_id,
        epoch=0,
        start_ms=0,
        end_ms=900,
        model="prosody@1",
        level_dbfs=-20.0,
        pitch_hz=180.0,
        syllables_per_s=4.0,
        speech_ms=900,
    ).model_dump()


async def test_a_choice_that_stands_is_confirmed_and_not_made_again(room: Meeting) -> None:
    ada = await room.joined("Ada")
    track_id = (await ada.publish())["0"]
    for on in (False, False, True, False):
        await ada.result("set_processor", {"processor": "captions", "on": on})
    assert room.worker.tracks[track_id].epoch == 3
    assert room.worker.tracks[track_id].processors["captions"] is False
    await until(lambda: "" if state_of(ada, "captions") == "off" else "the last of it")


def state_of(client: Client, processor: str) -> str:
    """The last that a client heard of a processor, in a room with one microphone."""
    changes = client.events("processors_changed")
    return (
        next((str(one["state"]) for one in changes[-1]["status"] if one["processor"] == processor), "")
        if changes
        else ""
    )


async def test_what_a_policy_locks_nobody_switches_and_everybody_sees(tmp_path: Path) -> None:
    rules = {"on": ["captions"], "rooms": {ROOM: {"off": ["denoise"]}}}
    async with meeting(tmp_path, policy=rules) as room:
        ada = await room.client()
        result = await ada.join("Ada")
        shown = {info["name"]: (info["locked"], info["locked_by"]) for info in result["room"]["processors"]}
        assert shown == {"captions": ("on", "server"), "denoise": ("off", "room"), "emotion": (None, "")}
        track_id = (await ada.publish())["0"]
        await until(lambda: "" if room.worker.requests(SetProcessing) else "set_processing")
        assert await ada.code("set_processor", {"processor": "denoise", "on": True}) == "forbidden"
        assert await ada.code("set_processor", {"processor": "captions", "on": False}) == "forbidden"
        assert room.worker.tracks[track_id].processors == {"captions": True, "denoise": False, "emotion": False}
        assert room.worker.tracks[track_id].epoch == 0


async def test_every_change_of_consent_is_a_line_of_the_audit(room: Meeting) -> None:
    ada = await room.joined("Ada")
    with capture_logs() as lines:
        for on in (False, False, True):
            await ada.result("set_processor", {"processor": "captions", "on": on})
    audit = [line for line in lines if line.get("audit")]
    assert [(line["event"], line["on"], line["epoch"]) for line in audit] == [
        ("consent_changed", False, 1),
        ("consent_changed", True, 2),
    ]
    assert {(line["room"], line["participant"], line["processor"]) for line in audit} == {(ROOM, ada.me, "captions")}


async def test_prosody_is_for_the_speaker_alone(room: Meeting) -> None:
    ada, bert = await room.joined("Ada"), await room.joined("Bert")
    track_id = (await ada.publish())["0"]
    room.watch_host.notify("finding", prosody(ada.me, track_id))
    assert (await ada.event("finding"))["finding"]["kind"] == "prosody"
    room.watch_host.notify("finding", caption(ada.me, track_id, epoch=0))
    assert (await bert.event("finding"))["finding"]["kind"] == "caption"


async def test_authenticity_is_for_the_person_and_the_hosts(room: Meeting) -> None:
    host, ada, bert = await room.joined("Host"), await room.joined("Ada"), await room.joined("Bert")
    track_id = (await ada.publish())["0"]
    evidence = VoiceAuthenticity(
        room_id=ROOM,
        participant_id=ada.me,
        track_id=track_id,
        epoch=0,
        start_ms=0,
        end_ms=30_000,
        model="test@1",
        verdict="inconclusive",
        reason="",
        likelihood=0.5,
        score=-1.5,
        evidence_ms=12_000,
        windows=3,
        known_errors="often wrong",
    )
    room.watch_host.notify("finding", evidence.model_dump())
    for reader in (host, ada):
        assert (await reader.event("finding"))["finding"]["kind"] == "voice_authenticity"
    room.watch_host.notify("finding", caption(ada.me, track_id, epoch=0))
    assert (await bert.event("finding"))["finding"]["kind"] == "caption"


async def test_processors_that_cannot_run_say_why(room: Meeting) -> None:
    ada = await room.joined()
    assert await ada.code("set_processor", {"processor": "telepathy", "on": True}) == "no_such_processor"
    answer = await ada.ask("set_processor", {"processor": "emotion", "on": True})
    assert answer["error"]["code"] == "processor_unavailable"
    assert "make models" in answer["error"]["message"]


async def test_a_lost_host_is_shown_and_what_was_wanted_stands(room: Meeting) -> None:
    ada = await room.joined()
    track_id = (await ada.publish())["0"]
    await room.path_host.close()
    await until(lambda: "" if denoise_of(ada).get("reason") == "host is restarting" else "denoise unavailable")
    assert room.worker.tracks[track_id].processors["denoise"] is True
    await room.path_host.start()
    await until(lambda: "" if denoise_of(ada).get("available") else "denoise back")
    room.worker.bypass(track_id, "deadline")
    await until(lambda: "" if ["bypass", "deadline"] in states_of(ada) else "a bypass")


def denoise_of(client: Client) -> dict[str, Any]:
    changes = client.events("processors_changed")
    return next((one for one in changes[-1]["processors"] if one["name"] == "denoise"), {}) if changes else {}


def states_of(client: Client) -> list[list[str]]:
    return [[one["state"], one["reason"]] for one in client.events("processors_changed")[-1]["status"]]
