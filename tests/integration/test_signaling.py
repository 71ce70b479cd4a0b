"""Signaling as clients see it: a real server on loopback, real Socket.IO clients, a scripted worker."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from sfu.channel.messages import DropParticipant, DropRoom, PublishOffer, SetMuted, SetSubscriptions
from signaling import auth
from signaling.auth import LINEAGE_MAX
from tests.integration.signaling_kit import IMG, MICROPHONE, ROOM, SECRET, Client, Meeting, meeting
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
