"""What survives: a lost socket, a page refresh, a lost worker, a lost signaling process."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sfu.channel.messages import ChannelMessage, DropParticipant, OpenSubscribe, PutParticipant, SetSubscriptions
from tests.integration.signaling_kit import MICROPHONE, ROOM, SECRET, Client, Meeting, meeting
from tests.until import until


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Meeting]:
    """Open rooms, as in development."""
    async with meeting(tmp_path) as one:
        yield one


async def resumed(one: Meeting, before: Client, **fields: object) -> Client:
    """A new socket for somebody who was here."""
    client = await one.client()
    result = await client.join("whatever", session_key=before.key, **fields)
    assert result["resumed"] is True
    assert result["participant_id"] == before.me
    return client


# --- a lost socket


async def test_who_comes_back_in_time_was_never_away(room: Meeting) -> None:
    ada, bert = await room.joined("Ada"), await room.joined("Bert")
    track_id = (await bert.publish())["0"]
    await bert.drop()
    back = await resumed(room, bert)
    assert back.key != bert.key
    await back.result("chat", {"text": "I am back"})
    assert (await ada.event("chat_message"))["line"]["name"] == "Bert"
    names = [name for name, _ in ada.log]
    assert "participant_left" not in names and "track_unpublished" not in names
    assert names.count("participant_joined") == 1
    assert track_id in room.worker.tracks
    assert not room.worker.requests(DropParticipant)


async def test_a_used_key_and_a_made_up_key_are_refused(room: Meeting) -> None:
    ada = await room.joined("Ada")
    await ada.drop()
    back = await resumed(room, ada)
    await back.result("chat", {"text": "I heard"})
    thief = await room.client()
    ask = {"room_id": ROOM, "name": "Ada"}
    for key in (ada.key, f"{ada.me}.{'A' * 22}", "nonsense", ""):
        assert await thief.code("join", {**ask, "session_key": key}) == "resume_refused"
    assert await thief.code("join", {**ask, "room_id": "other", "session_key": back.key}) == "resume_refused"
    await back.result("chat", {"text": "unharmed"})


async def test_a_lost_answer_to_a_resume_does_not_cost_the_seat(room: Meeting) -> None:
    ada = await room.joined("Ada")
    await ada.result("moderate", {"action": "lock"})
    await ada.drop()
    unheard = await resumed(room, ada)
    await unheard.drop()
    await room.restart_server()
    back = await resumed(room, ada)
    await back.result("report_quality", {"loss_percent": 0})
    notes = room.worker.participants
    await until(lambda: "the end of the spare key in the notes" if notes[ada.me].state["spare_digest"] else "")
    late = await room.client()
    for key in (ada.key, unheard.key):
        assert await late.code("join", {"room_id": ROOM, "name": "Ada", "session_key": key}) == "resume_refused"
    await resumed(room, back)


async def test_a_key_takes_over_from_a_socket_that_still_lives(room: Meeting) -> None:
    ada = await room.joined("Ada")
    second_tab = await resumed(room, ada)
    assert await ada.event("closed") == {"reason": "duplicate_identity"}
    assert await ada.code("chat", {"text": "me?"}) == "not_joined"
    await ada.close()
    await second_tab.result("chat", {"text": "me!"})


async def test_after_the_window_the_seat_is_gone(tmp_path: Path) -> None:
    async with meeting(tmp_path, resume_window_s=0.05) as one:
        ada, bert = await one.joined("Ada"), await one.joined("Bert")
        await bert.drop()
        assert await ada.event("participant_left") == {"participant_id": bert.me, "reason": "connection_lost"}
        late = await one.client()
        ask = {"room_id": ROOM, "name": "Bert", "session_key": bert.key}
        assert await late.code("join", ask) == "resume_refused"


async def test_an_expired_token_voids_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with meeting(tmp_path, open_rooms=False, secret=SECRET) as one:
        ada = await one.joined(token=one.token("ada", ttl_s=3600))
        await ada.drop()
        participant = one.server.rooms.participant(ada.me)
        assert participant is not None
        participant.expires_at = 1
        late = await one.client()
        ask = {"room_id": ROOM, "name": "Ada", "session_key": ada.key}
        assert await late.code("join", ask) == "token_expired"
        assert one.server.rooms.participant(ada.me) is None


async def test_a_stranger_cannot_end_the_seat_of_somebody_whose_token_expired(tmp_path: Path) -> None:
    async with meeting(tmp_path, open_rooms=False, secret=SECRET) as one:
        ada = await one.joined(token=one.token("ada", ttl_s=3600))
        seat = one.server.rooms.participant(ada.me)
        assert seat is not None
        seat.expires_at = 1
        stranger = await one.client()
        ask = {"room_id": ROOM, "name": "x", "session_key": f"{ada.me}.{'A' * 22}"}
        assert await stranger.code("join", ask) == "resume_refused"
        await ada.result("chat", {"text": "still here"})


async def test_a_locked_room_lets_its_own_people_back(room: Meeting) -> None:
    ada, bert = await room.joined("Ada"), await room.joined("Bert")
    await ada.result("moderate", {"action": "lock"})
    await bert.drop()
    await resumed(room, bert)


async def test_a_page_refresh_gets_new_transports_and_publishes_again(room: Meeting) -> None:
    ada, bert = await room.joined("Ada"), await room.joined("Bert")
    track_id = (await bert.publish())["0"]
    await bert.drop()
    back = await resumed(room, bert, fresh_transports=True)
    assert await ada.event("track_unpublished") == {"track_id": track_id, "participant_id": bert.me}
    opened = [one.fresh for one in room.worker.requests(OpenSubscribe) if one.participant_id == bert.me]
    assert opened[:2] == [False, True] and not any(opened[2:])
    await back.event("subscribe_offer")
    names = [name for name, _ in back.log]
    assert names.index("ack:join") < names.index("subscribe_offer")
    assert (await back.publish())["0"] == track_id
    assert (await ada.event("track_published", 2))["track"]["track_id"] == track_id
    assert "participant_left" not in [name for name, _ in ada.log]


async def test_an_offer_of_old_transports_on_its_way_does_not_reach_the_new_ones(room: Meeting) -> None:
    await room.joined("Ada")
    bert = await room.joined("Bert")
    await bert.drop()
    dropping = room.worker.hold_only(DropParticipant)
    coming = asyncio.create_task(resumed(room, bert, fresh_transports=True))
    await until(lambda: "" if room.worker.requests(DropParticipant) else "the end of the old transports")
    room.worker.subscribe[bert.me] = 40
    room.worker.offer(bert.me)
    participant = room.server.rooms.participant(bert.me)
    await until(lambda: "" if participant and participant.unseen_offer else "the old offer")
    dropping.set()
    back = await coming
    await back.event("subscribe_offer")
    assert 41 not in [offer["version"] for offer in back.events("subscribe_offer")]


async def test_an_offer_made_while_away_is_waiting(room: Meeting) -> None:
    ada, bert = await room.joined("Ada"), await room.joined("Bert")
    await bert.event("subscribe_offer")
    await bert.drop()
    participant = room.server.rooms.participant(bert.me)
    await until(lambda: "" if participant and participant.outlet is None else "Bert away")
    await ada.publish()
    await until(lambda: "" if any(one.tracks for one in room.worker.requests(SetSubscriptions)) else "subscription")
    room.worker.offer(bert.me)
    await until(lambda: "" if participant and participant.unseen_offer else "an offer that nobody saw")
    back = await resumed(room, bert)
    assert (await back.event("subscribe_offer"))["version"] == 2


async def test_leaving_while_away_is_possible_for_nobody_else(room: Meeting) -> None:
    ada = await room.joined("Ada")
    await ada.drop()
    stranger = await room.client()
    assert await stranger.code("leave") == "not_joined"
    await resumed(room, ada)


# --- removed while the worker is slow


@pytest.mark.parametrize("held", [DropParticipant, PutParticipant, OpenSubscribe])
async def test_who_is_removed_during_a_page_refresh_stays_removed(room: Meeting, held: type[ChannelMessage]) -> None:
    ada, bert = await room.joined("Ada"), await room.joined("Bert")
    await bert.drop()
    gate = room.worker.hold_only(held)
    back = await room.client()
    ask = {"room_id": ROOM, "name": "Bert", "session_key": bert.key, "fresh_transports": True}
    asked = len(room.worker.requests(held))
    resuming = asyncio.create_task(back.code("join", ask))
    await until(lambda: "" if len(room.worker.requests(held)) > asked else f"{held.__name__} at the worker")
    room.worker.hold = None
    await ada.result("moderate", {"action": "remove", "participant_id": bert.me})
    gate.set()
    assert await resuming == "not_joined"
    await until(lambda: "Bert is still on the worker" if bert.me in room.worker.participants else "")
    await nothing_is_wanted(room, bert.me)


async def nothing_is_wanted(one: Meeting, target: str) -> None:
    wishes = one.server.media._workers[0].desired._wishes
    await until(lambda: next((f"{method} is still wanted" for method, other in wishes if other == target), ""))


@pytest.mark.parametrize("held", [PutParticipant, OpenSubscribe])
async def test_an_end_during_a_join_leaves_nothing_behind(room: Meeting, held: type[ChannelMessage]) -> None:
    ada = await room.joined("Ada")
    bert = await room.client()
    gate = room.worker.hold_only(held)
    asked = len(room.worker.requests(held))
    joining = asyncio.create_task(bert.code("join", {"room_id": ROOM, "name": "Bert"}))
    await until(lambda: "" if len(room.worker.requests(held)) > asked else f"{held.__name__} at the worker")
    room.worker.hold = None
    await ada.result("moderate", {"action": "end"})
    gate.set()
    assert await joining == "room_ended"
    desired = room.server.media._workers[0].desired
    await until(lambda: "the room is on the worker" if room.worker.rooms or room.worker.participants else "")
    await until(lambda: f"nothing wanted but {list(desired._wishes)}" if desired._wishes else "")


# --- a lost worker


async def test_a_replaced_worker_is_told_everything_and_clients_build_anew(room: Meeting) -> None:
    ada, bert = await room.joined("Ada"), await room.joined("Bert")
    track_id = (await bert.publish())["0"]
    await room.worker.close()
    await until(lambda: "the loss of the worker" if room.server.media.ready_workers else "")
    answer = await ada.ask("publish", {"sdp": "v=0", "tracks": MICROPHONE})
    assert (answer["error"]["code"], answer["error"]["retryable"]) == ("media_unavailable", True)
    late = await room.client()
    assert await late.code("join", {"room_id": "other", "name": "Late"}) == "media_unavailable"
    room.worker.forget()
    await room.worker.start()
    for client in (ada, bert):
        await client.event("transport_replace")
        await client.event("subscribe_offer", 2)
        names = [name for name, _ in client.log]
        assert names.index("transport_replace") < len(names) - 1 - names[::-1].index("subscribe_offer")
    assert set(room.worker.participants) == {ada.me, bert.me}
    assert (await ada.event("track_unpublished"))["track_id"] == track_id
    assert (await bert.publish())["0"] == track_id
    await until(lambda: "" if room.worker.tracks[track_id].processors else "processing of the new producer")


async def test_a_broken_link_alone_changes_nothing(room: Meeting) -> None:
    ada, bert = await room.joined("Ada"), await room.joined("Bert")
    track_id = (await bert.publish())["0"]
    await room.worker.close()
    await until(lambda: "the loss of the worker" if room.server.media.ready_workers else "")
    await bert.result("leave")
    await room.worker.start()
    await until(lambda: "Bert is still on the worker" if bert.me in room.worker.participants else "")
    assert not ada.events("transport_replace")
    assert track_id not in room.worker.tracks


async def test_who_was_away_when_the_worker_died_builds_anew_at_resume(room: Meeting) -> None:
    ada = await room.joined("Ada")
    await ada.drop()
    await room.worker.close()
    await until(lambda: "the loss of the worker" if room.server.media.ready_workers else "")
    room.worker.forget()
    await room.worker.start()
    await until(lambda: "" if ada.me in room.worker.subscribe else "a new subscribe transport")
    back = await resumed(room, ada)
    await back.event("subscribe_offer")
    names = [name for name, _ in back.log]
    assert names.index("ack:join") < names.index("transport_replace") < names.index("subscribe_offer")


async def test_a_refresh_while_the_worker_is_away_may_be_tried_again(room: Meeting) -> None:
    ada = await room.joined("Ada")
    await ada.drop()
    await room.worker.close()
    await until(lambda: "the loss of the worker" if room.server.media.ready_workers else "")
    back = await room.client()
    ask = {"room_id": ROOM, "name": "Ada", "session_key": ada.key, "fresh_transports": True}
    assert await back.code("join", ask) == "media_unavailable"
    await room.worker.start()
    await until(lambda: "" if room.server.media.ready_workers else "the worker")
    assert (await back.result("join", ask))["participant_id"] == ada.me


# --- a lost signaling process


async def test_a_new_signaling_process_adopts_what_the_worker_holds(room: Meeting) -> None:
    ada, bert = await room.joined("Ada"), await room.joined("Bert")
    track_id = (await ada.publish())["0"]
    await ada.result("set_processor", {"processor": "denoise", "on": False})
    await ada.result("moderate", {"action": "lock"})
    await until(lambda: "" if room.worker.rooms[ROOM]["locked"] else "the lock in the worker's notes")
    await room.restart_server()
    assert await bert.event("closed") == {"reason": "server_shutdown"}
    room.worker.asked.clear()

    ada2 = await room.client()
    result = await ada2.join("Ada", session_key=ada.key)
    assert (result["resumed"], result["host"], result["room"]["locked"]) == (True, True, True)
    assert {one["participant_id"] for one in result["room"]["participants"]} == {ada.me, bert.me}
    assert [track["track_id"] for track in result["room"]["participants"][0]["tracks"]] == [track_id]
    bert2 = await resumed(room, bert)
    assert room.worker.tracks[track_id].processors["denoise"] is False
    assert room.worker.tracks[track_id].epoch == 1
    assert not room.worker.requests(DropParticipant)
    await ada2.result("mute", {"track_id": track_id, "muted": True})
    assert (await bert2.event("track_muted"))["track_id"] == track_id
    thief = await room.client()
    ask = {"room_id": ROOM, "name": "Ada", "session_key": ada.key}
    assert await thief.code("join", ask) == "resume_refused"


async def test_adopted_people_who_do_not_come_back_leave(tmp_path: Path) -> None:
    async with meeting(tmp_path, resume_window_s=1.0) as one:
        ada, bert = await one.joined("Ada"), await one.joined("Bert")
        await one.restart_server()
        back = await resumed(one, ada)
        assert await back.event("participant_left") == {"participant_id": bert.me, "reason": "connection_lost"}
        await until(lambda: "Bert is still on the worker" if bert.me in one.worker.participants else "")


async def test_a_bypass_that_stands_is_told_by_a_new_signaling_process(room: Meeting) -> None:
    ada = await room.joined("Ada")
    track_id = (await ada.publish())["0"]
    room.worker.bypass(track_id, "late")
    await until(lambda: "" if ["bypass", "late"] in told(ada, track_id) else "the bypass")
    await room.restart_server()
    back = await resumed(room, ada)
    await until(lambda: "" if ["bypass", "late"] in told(back, track_id) else "the bypass that still stands")
    room.worker.bypass(track_id, None)
    await until(lambda: "the bypass that is over" if ["bypass", "late"] in told(back, track_id) else "")


async def test_a_bypass_that_ended_while_the_link_was_broken_is_over(room: Meeting) -> None:
    ada = await room.joined("Ada")
    track_id = (await ada.publish())["0"]
    room.worker.bypass(track_id, "late")
    await until(lambda: "" if ["bypass", "late"] in told(ada, track_id) else "the bypass")
    await room.worker.close()
    await until(lambda: "the loss of the worker" if room.server.media.ready_workers else "")
    room.worker.bypass(track_id, None)
    await room.worker.start()
    await until(lambda: "the bypass that is over" if ["bypass", "late"] in told(ada, track_id) else "")


def told(client: Client, track_id: str) -> list[list[str]]:
    """What the processors of a track do, as somebody was told the last time."""
    changes = client.events("processors_changed")
    return [
        [one["state"], one["reason"]]
        for one in (changes[-1]["status"] if changes else [])
        if one["track_id"] == track_id
    ]


async def test_malformed_notes_are_not_adopted(room: Meeting) -> None:
    room.worker.rooms["broken"] = {"what": "is this"}
    await room.restart_server()
    assert room.server.rooms.find("broken") is None
    await until(lambda: "the broken room" if "broken" in room.worker.rooms else "")


async def test_the_worker_never_sees_a_session_key(room: Meeting) -> None:
    ada = await room.joined("Ada")
    notes = json.dumps(room.worker.participants[ada.me].state)
    assert ada.key not in notes and ada.key.partition(".")[2] not in notes
