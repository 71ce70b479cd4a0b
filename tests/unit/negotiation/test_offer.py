"""The pool of m-lines: states, reuse, and what the offers say."""

import itertools
import re

import pytest

from sfu.negotiation.offer import (
    PAYLOAD_TYPES,
    AnsweredMedia,
    Section,
    SectionPool,
    SectionState,
    SubscribeAnswer,
    Wanted,
    parse_answer,
)
from sfu.negotiation.sections import RemoteTransport
from tests.unit.negotiation.clients import ALICE, BOB, FIXTURES, LOCAL, STEPS, ssrcs

REMOTE = RemoteTransport("abcd", "abcdefghijklmnopqrstuv", "sha-256", ":".join(["AB"] * 32), "active")


def pool_of(*, stable_ssrcs: bool = False) -> SectionPool:
    return SectionPool(stable_ssrcs=stable_ssrcs, random_ssrc=ssrcs())


def offered(pool: SectionPool) -> str:
    return pool.offer(LOCAL, session_id=7, version=1)


def answer_of(pool: SectionPool, *, refused: frozenset[str] = frozenset()) -> SubscribeAnswer:
    media = {}
    for section in pool.sections:
        receives = section.track_id is not None and section.mid not in refused
        media[section.mid] = AnsweredMedia(frozenset({111, 96}), {}, "recvonly" if receives else "inactive")
    return SubscribeAnswer(REMOTE, media)


def negotiate(pool: SectionPool, wanted: list[Wanted]) -> tuple[list[Section], list[Section]]:
    assert pool.reconcile(wanted)
    offered(pool)
    return pool.answered(answer_of(pool))


def states(pool: SectionPool) -> list[SectionState]:
    return [section.state for section in pool.sections]


def block(sdp: str, mid: str) -> str:
    return next(text for text in sdp.split("\r\nm=")[1:] if f"\r\na=mid:{mid}\r\n" in text)


def test_the_first_offer_has_two_empty_sections() -> None:
    pool = pool_of()
    assert pool.reconcile([])
    sdp = offered(pool)
    assert "a=group:BUNDLE 0 1\r\n" in sdp
    assert sdp.count("a=inactive") == 2
    assert sdp.count("m=audio 9 ") == sdp.count("m=video 9 ") == sdp.count("a=setup:actpass") // 2 == 1
    assert "a=ssrc" not in sdp
    assert "a=msid:" not in sdp
    assert pool.answered(answer_of(pool)) == ([], [])
    assert not pool.reconcile([])


def test_a_track_is_attached_only_by_the_answer() -> None:
    pool = pool_of()
    assert pool.reconcile(ALICE)
    sdp = offered(pool)
    assert list(pool.offered_tracks()) == ["0", "1"]
    assert states(pool) == [SectionState.OFFERED] * 2
    video = pool.sections[1]
    text = block(sdp, "1")
    assert "a=sendonly\r\n" in text
    assert "a=msid:alice alice-cam\r\n" in text
    assert f"a=ssrc-group:FID {video.ssrc} {video.rtx_ssrc}\r\n" in text
    assert f"a=ssrc:{video.rtx_ssrc} cname:alice" in text
    assert "ssrc-group" not in block(sdp, "0")
    attached, freed = pool.answered(answer_of(pool))
    assert [section.track_id for section in attached] == ["alice-mic", "alice-cam"]
    assert freed == []
    assert states(pool) == [SectionState.LIVE] * 2


def test_every_codec_of_the_room_is_in_every_video_section() -> None:
    pool = pool_of()
    sdp = offered(pool)
    for codec, (payload_type, rtx) in PAYLOAD_TYPES.items():
        text = block(sdp, "0" if codec == "opus" else "1")
        assert re.search(rf"a=rtpmap:{payload_type} {codec}/", text, re.IGNORECASE)
        assert rtx is None or f"a=fmtp:{rtx} apt={payload_type}\r\n" in text


@pytest.mark.parametrize("stable", [False, True])
def test_a_section_is_retired_freed_and_reused(stable: bool) -> None:
    pool = pool_of(stable_ssrcs=stable)
    negotiate(pool, ALICE)
    old = pool.sections[1].ssrc, pool.sections[1].rtx_ssrc
    assert pool.reconcile([])
    assert states(pool) == [SectionState.RETIRING] * 2
    assert pool.offered_tracks() == {}
    sdp = offered(pool)
    assert sdp.count("a=inactive") == 2
    assert "m=video 0" not in sdp
    _, freed = pool.answered(answer_of(pool))
    assert [section.mid for section in freed] == ["0", "1"]
    assert states(pool) == [SectionState.FREE] * 2
    attached, _ = negotiate(pool, [BOB[1]])
    assert [section.mid for section in attached] == ["1"]
    assert ((attached[0].ssrc, attached[0].rtx_ssrc) == old) is stable
    assert attached[0].uses == 2
    assert len(pool.sections) == 2


def test_a_track_that_goes_away_while_offered_is_retired_with_the_next_offer() -> None:
    pool = pool_of()
    pool.reconcile(ALICE)
    offered(pool)
    answer = answer_of(pool)
    assert pool.reconcile([]), "the client was told of a track that is gone"
    assert pool.answered(answer) == ([], [])
    assert states(pool) == [SectionState.RETIRING] * 2
    assert pool.reconcile([])
    assert offered(pool).count("a=inactive") == 2
    assert pool.answered(answer_of(pool))[1] == pool.sections


def test_a_change_while_an_offer_is_in_flight_waits_for_the_next() -> None:
    pool = pool_of()
    pool.reconcile(ALICE)
    offered(pool)
    answer = answer_of(pool)
    assert pool.in_flight
    assert pool.reconcile(ALICE + BOB)
    with pytest.raises(RuntimeError, match="in flight"):
        offered(pool)
    attached, _ = pool.answered(answer)
    assert [section.participant_id for section in attached] == ["alice", "alice"]
    assert pool.reconcile(ALICE + BOB)
    assert "a=msid:bob bob-cam" in offered(pool)
    attached, _ = pool.answered(answer_of(pool))
    assert [section.participant_id for section in attached] == ["bob", "bob"]
    assert not pool.reconcile(ALICE + BOB)


def test_a_track_that_was_never_offered_needs_no_offer_to_go() -> None:
    pool = pool_of()
    negotiate(pool, ALICE)
    assert pool.reconcile(ALICE + BOB)
    assert not pool.reconcile(ALICE)
    assert states(pool) == [SectionState.LIVE] * 2 + [SectionState.FREE] * 2


def test_a_track_that_comes_back_before_it_is_retired_gets_another_section() -> None:
    pool = pool_of()
    negotiate(pool, ALICE)
    pool.reconcile([])
    pool.reconcile(ALICE)
    assert states(pool) == [SectionState.RETIRING] * 2 + [SectionState.OFFERED] * 2


def test_a_refused_track_is_not_attached_and_not_offered_again_and_again() -> None:
    pool = pool_of()
    pool.reconcile(ALICE)
    offered(pool)
    attached, _ = pool.answered(answer_of(pool, refused=frozenset({"1"})))
    assert [section.track_id for section in attached] == ["alice-mic"]
    assert not pool.reconcile(ALICE)


def test_answers_that_answer_nothing_of_ours() -> None:
    pool = pool_of()
    with pytest.raises(ValueError, match=r"^sdp: no offer"):
        pool.answered(answer_of(pool))
    offered(pool)
    foreign = SubscribeAnswer(REMOTE, {"9": AnsweredMedia(frozenset(), {}, "recvonly")})
    with pytest.raises(ValueError, match=r"^mid: not in the offer"):
        pool.answered(foreign)
    assert pool.in_flight


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ([Wanted("a b", "p", "audio")], "track id: not"),
        ([Wanted("a", "p\r\na=x", "audio")], "participant id: not"),
        ([Wanted("a", "x" * 65, "audio")], "participant id: not"),
        ([Wanted("a", "p", "audio"), Wanted("a", "p", "video")], "track id: wanted twice"),
    ],
)
def test_ids_that_would_break_an_offer(wanted: list[Wanted], reason: str) -> None:
    pool = pool_of()
    negotiate(pool, ALICE)
    with pytest.raises(ValueError, match=f"^{reason}"):
        pool.reconcile(wanted)
    assert states(pool) == [SectionState.LIVE] * 2


def test_ssrcs_never_collide() -> None:
    numbers = itertools.chain([0, 5, 5, 6, 5, 6, 7], itertools.count(8))
    pool = SectionPool(stable_ssrcs=False, random_ssrc=lambda: next(numbers))
    negotiate(pool, ALICE + BOB)
    used = [ssrc for section in pool.sections for ssrc in (section.ssrc, section.rtx_ssrc) if ssrc]
    assert len(set(used)) == len(used) == 6


@pytest.mark.parametrize("client", ["chromium", "aiortc"])
def test_recorded_answers_of_real_clients(client: str) -> None:
    pool = pool_of(stable_ssrcs=client == "aiortc")
    carried = set()
    for step, wanted in STEPS:
        assert pool.reconcile(wanted)
        offered(pool)
        answer = parse_answer(answer_text(f"{client}-answer-{step}"), max_media=len(pool.sections))
        assert answer.remote.setup == "active"
        for mid, section in pool.offered_tracks().items():
            media = answer.media[mid]
            assert media.direction == "recvonly"
            assert media.payload_types >= ({111} if section.kind == "audio" else {96, 97, 102, 103})
            assert media.extension_ids["mid"] == 4
        attached, freed = pool.answered(answer)
        carried |= {section.track_id for section in attached}
        carried -= {track.track_id for track in ALICE} if freed else set()
        assert carried == {track.track_id for track in wanted}


def answer_text(name: str = "chromium-answer-alice") -> str:
    return (FIXTURES / f"{name}.sdp").read_bytes().decode()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("a=setup:active", "a=setup:actpass", "setup: actpass"),
        ("UDP/TLS/RTP/SAVPF", "UDP", None),
        (" 9 UDP", " 0 UDP", "sdp: every m-line is rejected"),
        ("BUNDLE 0 1", "BUNDLE 1", "group: not everything"),
        ("a=group:BUNDLE 0 1\r\n", "", "group: not everything"),
        ("a=ice-pwd:", "a=ice-pwd:!", "ice-pwd: not 22"),
    ],
)
def test_bad_answers(old: str, new: str, reason: str | None) -> None:
    text = answer_text()
    assert old in text
    if reason is None:
        assert parse_answer(text.replace(old, new), max_media=2).media
        return
    with pytest.raises(ValueError, match=f"^{reason}"):
        parse_answer(text.replace(old, new), max_media=2)


def test_a_rejected_section_is_not_in_the_answer() -> None:
    text = answer_text().replace("m=audio 9", "m=audio 0")
    assert list(parse_answer(text, max_media=2).media) == ["1"]


@pytest.mark.parametrize(
    ("filling", "reason"),
    [
        ("a=x\n" * 512, "sdp: more than 512 lines"),
        ("a=" + "x" * 32 * 1024, "sdp: longer than 32768 characters"),
        ("m=audio 0 UDP 0\na=mid:7\n", "sdp: more than 2 m-lines"),
    ],
)
def test_an_answer_is_no_longer_than_the_offer_makes_it(filling: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}"):
        parse_answer(answer_text() + filling, max_media=2)
