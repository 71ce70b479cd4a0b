"""Signaling as clients see it: a real server on loopback, real Socket.IO clients, a scripted worker."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from structlog.testing import capture_logs

from media_processors.findings import Prosody, VoiceAuthenticity
from sfu.channel.messages import DropParticipant, DropRoom, PublishOffer, SetMuted, SetProcessing, SetSubscriptions
from signaling import auth
from signaling.auth import LINEAGE_MAX
from tests.integration.signaling_kit import IMG, MICROPHONE, ROOM, SECRET, Client, Meeting, caption, meeting
from tests.until import until


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Meeting]:
    """Open rooms, as in development."""
    async with meeting(tmp_path) as one:
        yield one


@pytest.fixture
async def closed_room(tmp_path: Path) -> AsyncIterator[Meeting]:
    """Rooms that need a token."""
    async with meeting(tmp_path, open_rooms=False, secret=SECRET, room_capacity=3) as one:
        yield one


# --- coming and going


async def test_join_gives_a_snapshot_and_tells_the_others(room: Meeting) -> None:
    ada = await room.joined("Ada")
    bert = await room.client()
    result = await bert.join("Bert")
    assert [one["name"] for one in result["room"]["participants"]] == ["Ada", "Bert"]
    assert result["resumed"] is False
    assert result["invite_url"].endswith(f"/r/{ROOM}")
    assert [info["name"] for info in result["room"]["processors"]] == ["captions", "denoise", "emotion"]
    joined = await ada.event("participant_joined")
    assert joined["participant"]["participant_id"] == bert.me
    assert not bert.events("participant_joined")


async def test_the_first_offer_comes_after_the_ack_of_join(room: Meeting) -> None:
    for _ in range(5):
        client = await room.joined()
        await client.event("subscribe_offer")
        names = [name for name, _ in client.log]
        assert names.index("ack:join") < names.index("subscribe_offer")


async def test_leave_tells_the_others_and_an_empty_room_is_dropped(room: Meeting) -> None:
    ada, bert = await room.joined("Ada"), await room.joined("Bert")
    assert await bert.result("leave") is None
    left = await ada.event("participant_left")
    assert left == {"participant_id": bert.me, "reason": "left"}
    assert await bert.code("chat", {"text": "still here?"}) == "not_joined"
    await ada.result("leave")
    await until(lambda: "" if room.worker.requests(DropRoom) else "drop_room")
    assert not room.worker.rooms
    assert await ada.join("Ada") and room.worker.rooms


async def test_joining_twice_on_one_socket_is_refused(room: Meeting) -> None:
    ada = await room.joined()
    assert await ada.code("join", {"room_id": ROOM, "name": "Ada"}) == "already_joined"


async def test_the_first_person_of_an_open_room_is_host_and_hands_it_on(room: Meeting) -> None:
    bot = await room.client()
    assert (await bot.join("Bot", bot=True))["host"] is False
    ada = await room.client()
    assert (await ada.join("Ada"))["host"] is True
    assert (await bot.event("participant_joined"))["participant"]["host"] is True
    bert = await room.client()
    assert (await bert.join("Bert"))["host"] is False
    await ada.result("leave")
    assert (await bert.event("room_changed")) == {"locked": False, "hosts": [bert.me]}


# --- tokens


async def test_tokens(closed_room: Meeting) -> None:
    client = await closed_room.client()
    ask = {"room_id": ROOM, "name": "Ada"}
    assert await client.code("join", ask) == "bad_token"
    assert await client.code("join", {**ask, "token": "nonsense"}) == "bad_token"
    foreign = auth.mint("f" * 32, ROOM)
    assert await client.code("join", {**ask, "token": foreign}) == "bad_token"
    other_room = closed_room.token(room="other")
    assert await client.code("join", {**ask, "token": other_room}) == "bad_token"
    expired = closed_room.token(ttl_s=-60)
    assert await client.code("join", {**ask, "token": expired}) == "token_expired"
    result = await client.join(token=closed_room.token("ada", name="Ada L.", host=True))
    assert result["host"] is True
    assert result["room"]["participants"][0]["name"] == "Ada L."


async def test_the_invite_link_lets_a_guest_in_but_not_as_host(closed_room: Meeting) -> None:
    host = await closed_room.client()
    link = (await host.join(token=closed_room.token("ada", host=True)))["invite_url"]
    token = link.partition("?token=")[2]
    guest = await closed_room.client()
    assert (await guest.join("Bert", token=token))["host"] is False


@pytest.mark.parametrize("host", [True, False])
async def test_an_invite_does_not_outlive_the_token_of_the_inviter(closed_room: Meeting, host: bool) -> None:
    own = closed_room.token("ada", host=host, ttl_s=600)
    client = await closed_room.client()
    link = link_token(await client.join(token=own))
    expiry = [auth.verify(SECRET, token, ROOM).exp for token in (own, link)]
    assert expiry[1] <= expiry[0]


async def test_a_full_room_and_a_locked_room(closed_room: Meeting) -> None:
    host = await closed_room.joined(token=closed_room.token("host", host=True))
    await closed_room.joined(token=closed_room.token("b"))
    late = await closed_room.client()
    await host.result("moderate", {"action": "lock"})
    ask = {"room_id": ROOM, "name": "Late", "token": closed_room.token("late")}
    assert await late.code("join", ask) == "room_locked"
    await host.result("moderate", {"action": "unlock"})
    await closed_room.joined(token=closed_room.token("c"))
    answer = await late.ask("join", ask)
    assert (answer["error"]["code"], answer["error"]["retryable"]) == ("room_full", True)
    assert [one["locked"] for one in host.events("room_changed")] == [True, False]


async def test_the_same_identity_replaces_itself_even_in_a_full_locked_room(closed_room: Meeting) -> None:
    host = await closed_room.joined(token=closed_room.token("host", host=True))
    first = await closed_room.joined(token=closed_room.token("bert"))
    await closed_room.joined(token=closed_room.token("cleo"))
    await host.result("moderate", {"action": "lock"})
    second = await closed_room.joined(token=closed_room.token("bert"))
    assert await first.event("closed") == {"reason": "duplicate_identity"}
    assert await host.event("participant_left") == {"participant_id": first.me, "reason": "duplicate_identity"}
    assert second.me != first.me
    assert await first.code("join", {"room_id": ROOM, "name": "B", "session_key": first.key}) == "resume_refused"


# --- hosts


async def test_only_hosts_moderate(room: Meeting) -> None:
    ada, bert = await room.joined("Ada"), await room.joined("Bert")
    track_id = (await ada.publish())["0"]
    for action in ("lock", "unlock", "end"):
        assert await bert.code("moderate", {"action": action}) == "forbidden"
    assert await bert.code("moderate", {"action": "mute", "track_id": track_id}) == "forbidden"
    assert await bert.code("moderate", {"action": "remove", "participant_id": ada.me}) == "forbidden"
    assert await ada.code("moderate", {"action": "mute"}) == "bad_message"
    assert await ada.code("moderate", {"action": "mute", "track_id": "t_none"}) == "no_such_track"
    assert await ada.code("moderate", {"action": "remove", "participant_id": "p_none"}) == "no_such_participant"


async def test_a_host_mutes_and_only_the_owner_unmutes(room: Meeting) -> None:
    ada, bert = await room.joined("Ada"), await room.joined("Bert")
    track_id = (await bert.publish())["0"]
    await ada.result("moderate", {"action": "mute", "track_id": track_id})
    assert await bert.event("track_muted") == {"track_id": track_id, "muted": True, "by_host": True}
    assert room.worker.tracks[track_id].muted
    assert await ada.code("mute", {"track_id": track_id, "muted": False}) == "no_such_track"
    await bert.result("mute", {"track_id": track_id, "muted": False})
    assert not room.worker.tracks[track_id].muted
    assert await ada.event("track_muted", 2) == {"track_id": track_id, "muted": False, "by_host": False}


async def test_publishing_again_does_not_undo_a_mute(room: Meeting) -> None:
    ada, bert = await room.joined("Ada"), await room.joined("Bert")
    track_id = (await bert.publish())["0"]
    await ada.result("moderate", {"action": "mute", "track_id": track_id})
    await bert.publish([{"mid": "0", "source": "microphone", "muted": False}])
    assert room.worker.requests(PublishOffer)[-1].tracks[0].muted
    assert room.worker.tracks[track_id].muted
    assert [event["muted"] for event in ada.events("track_muted")] == [True]
    await bert.result("mute", {"track_id": track_id, "muted": False})
    await bert.publish([{"mid": "0", "source": "microphone", "muted": True}])
    assert (await ada.event("track_muted", 3))["muted"] is True


async def test_a_mute_during_an_offer_stands(room: Meeting) -> None:
    ada, bert = await room.joined("Ada"), await room.joined("Bert")
    track_id = (await bert.publish())["0"]
    room.worker.hold = gate = asyncio.Event()
    offered = asyncio.create_task(bert.publish())
    await until(lambda: "" if len(room.worker.requests(PublishOffer)) == 2 else "the offer at the worker")
    room.worker.hold = None
    await ada.result("moderate", {"action": "mute", "track_id": track_id})
    gate.set()
    await offered
    await until(lambda: "" if room.worker.tracks[track_id].muted else "the mute, once more")


async def test_who_was_removed_cannot_come_back(closed_room: Meeting) -> None:
    host = await closed_room.joined(token=closed_room.token("host", host=True))
    bert = await closed_room.joined(token=closed_room.token("bert"))
    await host.result("moderate", {"action": "remove", "participant_id": bert.me})
    assert await bert.event("closed") == {"reason": "removed"}
    ask = {"room_id": ROOM, "name": "Bert"}
    assert await bert.code("join", {**ask, "session_key": bert.key}) == "resume_refused"
    assert await bert.code("join", {**ask, "token": closed_room.token("bert")}) == "forbidden"
    await until(lambda: "" if room_has_dropped(closed_room, bert.me) else "drop_participant")


async def test_who_was_removed_cannot_return_through_links_that_come_from_them(tmp_path: Path) -> None:
    async with meeting(tmp_path, open_rooms=False, secret=SECRET) as one:
        host = await one.client()
        ada_link = link_token(await host.join("Ada", token=one.token("ada", host=True)))
        mallory, guest, second = await one.client(), await one.client(), await one.client()
        own_link = link_token(await mallory.join("Mallory", token=one.token("mallory")))
        passed_on = link_token(await guest.join("Guest", token=own_link))
        guests_link = link_token(await second.join("Second", token=ada_link))
        for target in (mallory, second):
            await host.result("moderate", {"action": "remove", "participant_id": target.me})
        again = await one.client()
        for token in (own_link, passed_on, guests_link):
            answer = await again.ask("join", {"room_id": ROOM, "name": "x", "token": token})
            assert answer["error"]["code"] == "forbidden" and "removed" in answer["error"]["message"]
        await again.join("Somebody else", token=ada_link)


async def test_links_of_guests_of_guests_end_after_eight_generations(closed_room: Meeting) -> None:
    token = closed_room.token("ada", host=True)
    for _ in range(LINEAGE_MAX):
        guest = await closed_room.client()
        token = link_token(await guest.join(token=token))
        await guest.result("leave")
        assert token and "ada" not in jwt.decode(token, options={"verify_signature": False})["inv"]
    last = await closed_room.client()
    assert not link_token(await last.join(token=token))


def link_token(joined: Any) -> str:
    """The token in the invite link of a `JoinResult`."""
    return str(joined["invite_url"]).partition("?token=")[2]


def room_has_dropped(one: Meeting, participant_id: str) -> bool:
    return participant_id in [drop.participant_id for drop in one.worker.requests(DropParticipant)]


async def test_a_host_ends_the_meeting(room: Meeting) -> None:
    ada, bert = await room.joined("Ada"), await room.joined("Bert")
    await ada.result("moderate", {"action": "end"})
    assert await bert.event("closed") == {"reason": "room_ended"}
    assert await bert.code("chat", {"text": "hello?"}) == "room_ended"
    assert await bert.code("join", {"room_id": ROOM, "name": "B", "session_key": bert.key}) == "resume_refused"
    await until(lambda: "the room is still on the worker" if room.worker.rooms else "")


# --- tracks


async def test_publish_announces_stable_ids_and_subscribes_the_others(room: Meeting) -> None:
    ada, bert = await room.joined("Ada"), await room.joined("Bert")
    tracks = [*MICROPHONE, {"mid": "1", "source": "camera", "muted": True}]
    ids = await ada.publish(tracks)
    published = [(await bert.event("track_published", count))["track"] for count in (1, 2)]
    assert [(track["track_id"], track["kind"], track["muted"]) for track in published] == [
        (ids["0"], "audio", False),
        (ids["1"], "video", True),
    ]
    assert not ada.events("track_published")
    assert await ada.publish(tracks) == ids
    await ada.publish(MICROPHONE)
    assert await bert.event("track_unpublished") == {"track_id": ids["1"], "participant_id": ada.me}
    assert len(bert.events("track_published")) == 2
    await until(lambda: "" if wanted_by(room, bert) == [ids["0"]] else f"only {ids['0']} for Bert")
    assert wanted_by(room, ada) == []


def wanted_by(one: Meeting, client: Client) -> list[str]:
    asked = [request for request in one.worker.requests(SetSubscriptions) if request.participant_id == client.me]
    return [track.track_id for track in asked[-1].tracks] if asked else []


async def test_subscribe_is_desired_state(room: Meeting) -> None:
    ada, bert = await room.joined("Ada"), await room.joined("Bert")
    ids = await ada.publish([*MICROPHONE, {"mid": "1", "source": "camera"}])
    tile = {"track_id": ids["1"], "width": 320, "height": 180}
    await bert.result("subscribe", {"auto": False, "only": [ids["1"], "t_later"], "tiles": [tile]})
    last = [one for one in room.worker.requests(SetSubscriptions) if one.participant_id == bert.me][-1]
    assert [track.model_dump() for track in last.tracks] == [tile]


async def test_refused_offers_and_bad_publishes(room: Meeting) -> None:
    ada = await room.joined()
    assert await ada.code("publish", {"sdp": "v=0 refuse-me", "tracks": MICROPHONE}) == "bad_sdp"
    assert await ada.code("publish", {"sdp": "v=0", "tracks": MICROPHONE * 2}) == "bad_message"
    two = [*MICROPHONE, {"mid": "1", "source": "microphone"}]
    assert await ada.code("publish", {"sdp": "v=0", "tracks": two}) == "bad_message"
    assert await ada.code("publish", {"sdp": "x" * 300_000, "tracks": MICROPHONE}) == "too_large"
    assert await ada.code("mute", {"track_id": "t_none", "muted": True}) == "no_such_track"
    assert not room.worker.requests(SetMuted)


async def test_what_the_worker_says_reaches_the_room(room: Meeting) -> None:
    ada, bert = await room.joined("Ada"), await room.joined("Bert")
    track_id = (await ada.publish())["0"]
    speaker = {"participant_id": ada.me, "track_id": track_id, "level_dbov": -30}
    room.worker.notify("speakers", room_id=ROOM, speakers=[speaker])
    assert (await bert.event("active_speakers"))["speakers"] == [speaker]
    figures = {"uplink_loss_percent": 12.0, "downlink_loss_percent": 0.0, "rtt_ms": 20.0, "estimate_bps": None}
    layer = {"track_id": track_id, "layer": "low", "reason": "loss"}
    room.worker.notify("quality", participant_id=bert.me, **figures, layers=[layer])
    assert await ada.event("connection_quality") == {"participant_id": bert.me, "score": 1, "layers": []}
    assert (await bert.event("connection_quality"))["layers"] == [layer]
    room.worker.notify("track_gone", track_id=track_id, participant_id=ada.me)
    assert (await bert.event("track_unpublished"))["track_id"] == track_id


async def test_a_malformed_notification_is_counted_and_harms_nobody(room: Meeting) -> None:
    ada = await room.joined()
    room.worker.notify_raw("offer", {"participant_id": ada.me, "sdp": 7})
    room.worker.notify_raw("no_such_thing", {})
    worker = room.server.media._workers[0]
    await until(lambda: "" if worker.malformed == 2 else "two malformed notifications")
    await ada.result("chat", {"text": "all well"})


# --- processors


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
    room.worker.notify("processing_state", track_id=track_id, state="bypass", reason="deadline")
    await until(lambda: "" if ["bypass", "deadline"] in states_of(ada) else "a bypass")


def denoise_of(client: Client) -> dict[str, Any]:
    changes = client.events("processors_changed")
    return next((one for one in changes[-1]["processors"] if one["name"] == "denoise"), {}) if changes else {}


def states_of(client: Client) -> list[list[str]]:
    return [[one["state"], one["reason"]] for one in client.events("processors_changed")[-1]["status"]]


# --- chat and markup


async def test_markup_in_names_and_chat_stays_text(room: Meeting) -> None:
    ada, bert = await room.joined(IMG), await room.joined("Bert")
    await ada.result("chat", {"text": IMG})
    line = (await bert.event("chat_message"))["line"]
    assert (line["name"], line["text"]) == (IMG, IMG)
    cleo = await room.client()
    snapshot = (await cleo.join("Cleo"))["room"]
    assert snapshot["participants"][0]["name"] == IMG
    assert snapshot["chat"] == [line]
