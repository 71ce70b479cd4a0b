"""The in-path state machine under every order of arrival, answer, loss, death and return."""

import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfu.errors import DropReason
from sfu.path import (
    DEADLINE_NS,
    HELD_MAX,
    HITS_TO_RETURN,
    LEFT_ALONE_MAX_NS,
    LEFT_ALONE_NS,
    PATIENCE_PACKETS,
    QUIET_RUN_PACKETS,
    AudioPacket,
    PathMode,
    TrackPath,
)
from sfu.rtp import opus

MS = 1_000_000
SPEECH, QUIET = 25, 90
RAW = b"\x78raw"  # 20 ms of hybrid Opus, by its first byte


class Rig:
    """A path with a host that answers when told to, and a record of everything that went out."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.taking = True
        self.given: list[tuple[int, bool]] = []
        self.released: list[tuple[int, bool]] = []
        self.drops: list[DropReason] = []
        self.modes: list[PathMode] = []
        self.path = TrackPath(
            self._send, self._release, self.drops.append, lambda mode, reason: self.modes.append(mode)
        )

    def _send(self, packet: AudioPacket, restart: bool) -> bool:
        if self.taking:
            self.given.append((packet.seq_ext, restart))
        return self.taking

    def _release(self, packet: AudioPacket, payload: bytes, level: int, processed: bool) -> None:
        seam = bool(self.released) and self.released[-1][1] is not processed
        assert payload == (opus.silence(960) if seam else b"processed" if processed else RAW)
        self.released.append((packet.seq_ext, processed))

    def submit(self, seq: int, level: int = SPEECH) -> None:
        self.path.submit(AudioPacket(seq, 0, seq * 960, level, self.now_ns, RAW), self.now_ns)

    def answer(self, seq: int) -> None:
        self.path.result(seq & 0xFFFF, b"processed", 30, False, self.now_ns)

    def wait(self, ms: float) -> None:
        self.now_ns += int(ms * MS)
        self.path.expire(self.now_ns)

    def exchange(self, seq: int, level: int = SPEECH) -> None:
        self.submit(seq, level)
        self.wait(2)
        self.answer(seq)
        self.wait(18)


def test_without_a_host_everything_is_raw_at_once() -> None:
    rig = Rig()
    rig.submit(1)
    rig.submit(2)
    assert rig.released == [(1, False), (2, False)]
    assert rig.given == []


def test_a_new_track_is_processed_from_its_first_packet() -> None:
    rig = Rig()
    rig.path.attach()
    for seq in range(5):
        rig.exchange(seq)
    assert rig.released == [(seq, True) for seq in range(5)]
    assert rig.path.counters.processed == 5


def test_a_single_late_packet_is_dropped_not_replaced() -> None:
    rig = Rig()
    rig.path.attach()
    rig.exchange(0)
    rig.submit(1)
    rig.wait(21)
    rig.answer(1)
    rig.exchange(2)
    assert rig.released == [(0, True), (2, True)]
    assert rig.drops == [DropReason.PATH_DEADLINE, DropReason.PATH_STRAY]
    assert rig.path.mode is PathMode.PROCESSED


def test_an_empty_answer_is_a_miss_and_nothing_is_sent() -> None:
    rig = Rig()
    rig.path.attach()
    rig.exchange(0)
    rig.submit(1)
    rig.path.result(1, b"", 127, False, rig.now_ns)
    assert rig.released == [(0, True)]
    assert rig.drops == [DropReason.PATH_DEADLINE]
    rig.submit(2)
    rig.path.result(2, b"", 127, False, rig.now_ns)
    assert rig.path.mode is PathMode.BYPASS
    assert rig.released == [(0, True), (2, False)]


def test_an_answer_for_the_next_packet_settles_the_one_before() -> None:
    rig = Rig()
    rig.path.attach()
    rig.submit(0)
    rig.submit(1)
    rig.answer(1)
    assert rig.released == [(1, True)]
    assert rig.drops == [DropReason.PATH_DEADLINE]


def test_the_second_miss_in_a_row_makes_the_whole_track_raw() -> None:
    rig = Rig()
    rig.path.attach()
    rig.exchange(0)
    rig.submit(1)
    rig.wait(10)
    rig.submit(2)
    rig.submit(3)
    rig.wait(25)
    assert rig.path.mode is PathMode.BYPASS
    assert rig.released == [(0, True), (2, False), (3, False)]
    rig.submit(4)
    assert rig.released[-1] == (4, False)


def test_a_death_releases_what_is_held_raw_and_in_order() -> None:
    rig = Rig()
    rig.path.attach()
    rig.exchange(0)
    for seq in (1, 2, 3):
        rig.submit(seq)
    rig.path.detach("gone")
    assert rig.released == [(0, True), (1, False), (2, False), (3, False)]
    assert rig.drops == []


@pytest.mark.parametrize(
    ("sent", "released"),
    [
        ([b"\x58 of 60 ms", RAW], [opus.silence(2_880), RAW]),
        ([b"", RAW], [b"", RAW]),  # not Opus
    ],
)
def test_after_a_death_the_first_raw_packet_is_silence_of_its_length(sent: list[bytes], released: list[bytes]) -> None:
    heard: list[bytes] = []
    path = TrackPath(
        lambda packet, restart: True,
        lambda packet, payload, level, processed: heard.append(payload),
        lambda reason: None,
        lambda mode, reason: None,
    )
    path.attach()
    path.submit(AudioPacket(0, 0, 0, SPEECH, 0, RAW), 0)
    path.result(0, b"processed", 30, False, 0)
    path.detach("gone")
    for payload in sent:
        path.submit(AudioPacket(1 + len(heard), 0, 0, SPEECH, 0, payload), 0)
    assert heard[1:] == released


def test_it_returns_only_in_a_pause_and_restarts_the_encoder() -> None:
    rig = Rig()
    rig.path.attach()
    rig.exchange(0)
    rig.path.detach("gone")
    rig.path.attach()
    seq = 1
    for _ in range(10):  # pauses are known from before
        rig.exchange(seq, QUIET)
        seq += 1
    for _ in range(HITS_TO_RETURN + 10):
        rig.exchange(seq, SPEECH)
        seq += 1
    assert rig.path.mode is PathMode.BYPASS
    for _ in range(3):
        rig.exchange(seq, QUIET)
        seq += 1
    assert rig.path.mode is PathMode.PROCESSED
    assert [restart for _, restart in rig.given].count(True) == 1
    assert rig.released[-1] == (seq - 1, True)


def test_it_returns_in_the_end_to_somebody_who_never_pauses() -> None:
    rig = Rig()
    rig.path.attach()
    rig.exchange(0, level=127)
    rig.path.detach("gone")
    rig.path.attach()
    seq = 1
    while rig.path.mode is PathMode.BYPASS and seq < 1000:
        rig.exchange(seq, level=127 if seq % 50 == 0 else 0)  # one quiet packet is no pause
        seq += 1
    latest = HITS_TO_RETURN + PATIENCE_PACKETS + QUIET_RUN_PACKETS
    assert latest - 10 <= seq <= latest + 1


def test_steady_noise_has_pauses_too() -> None:
    rig = Rig()
    rig.submit(0)
    rig.path.attach()
    for seq in range(1, 200):
        rig.exchange(seq, 20 if seq % 50 < 40 else 38)  # never quieter than -38 dBov
    assert rig.path.mode is PathMode.PROCESSED


def test_a_full_socket_is_a_miss() -> None:
    rig = Rig()
    rig.path.attach()
    rig.exchange(0)
    rig.taking = False
    rig.submit(1)
    assert rig.drops == [DropReason.PATH_DEADLINE]
    rig.submit(2)
    assert rig.path.mode is PathMode.BYPASS
    assert rig.released == [(0, True), (2, False)]


def test_never_holds_more_than_its_bound() -> None:
    rig = Rig()
    rig.path.attach()
    for seq in range(3 * HELD_MAX):
        rig.submit(seq)
    assert len(rig.released) + len(rig.drops) >= 3 * HELD_MAX - HELD_MAX


def test_a_host_that_fails_a_track_is_left_alone_ever_longer() -> None:
    rig = Rig()
    rig.submit(0)
    rig.path.attach()
    pauses: list[int] = []
    asked_ns = 0
    for seq in range(1, 6_000):
        given = len(rig.given)
        rig.submit(seq)  # and no answer
        if len(rig.given) > given:
            if rig.now_ns - asked_ns > 900 * MS:
                pauses.append(rig.now_ns - asked_ns)
            asked_ns = rig.now_ns
        rig.wait(20)
    assert len(rig.released) == 6_000, "people are heard all the time"
    assert len(pauses) >= 4
    for number, pause_ns in enumerate(pauses):
        length_ns = min(LEFT_ALONE_MAX_NS, LEFT_ALONE_NS * 2**number)
        assert 0.5 * length_ns <= pause_ns <= 1.5 * length_ns + 40 * MS
    assert len(rig.given) < 0.4 * 6_000


def test_a_new_host_is_asked_at_once_whatever_the_last_one_did() -> None:
    rig = Rig()
    rig.submit(0)
    rig.path.attach()
    seq = 1
    while seq - len(rig.given) < 50:
        rig.submit(seq)
        rig.wait(20)
        seq += 1
    rig.path.detach("gone")
    rig.path.attach()
    for number in range(HITS_TO_RETURN + QUIET_RUN_PACKETS + 1):
        rig.exchange(seq + number, QUIET)
    assert rig.path.mode is PathMode.PROCESSED


def test_a_hiccup_is_no_reason_to_leave_a_host_alone() -> None:
    rig = Rig()
    rig.path.attach()
    seq = 0
    for _ in range(10):
        while rig.path.mode is PathMode.PROCESSED and seq % 75:
            rig.exchange(seq, QUIET)
            seq += 1
        for _ in range(2):
            rig.submit(seq)
            rig.wait(21)
            seq += 1
        while rig.path.mode is PathMode.BYPASS:
            rig.exchange(seq, QUIET)
            seq += 1
    assert rig.path.counters.switches == 10
    assert len(rig.given) == seq


def test_a_hiccup_while_a_pause_is_awaited_costs_no_more_than_the_hits() -> None:
    rig = Rig()
    rig.submit(0)
    rig.path.attach()
    for seq in range(1, 110):  # beyond what it may take to earn the return; nobody pauses
        rig.exchange(seq, level=127 if seq == 1 else 0)
    assert rig.path.mode is PathMode.BYPASS
    for seq in range(110, 130):
        rig.submit(seq, 0)
        rig.path.result(seq, b"", 127, False, rig.now_ns)
    asked = len(rig.given)
    for seq in range(130, 170):
        rig.exchange(seq, QUIET)
    assert rig.path.mode is PathMode.PROCESSED
    assert len(rig.given) == asked + 40


class BusyHost:
    """Needs 2 ms for a packet, 0.1 ms for one that has waited too long already: it has time for eight tracks, one by one."""

    def __init__(self, tracks: int) -> None:
        self.rigs = [Rig() for _ in range(tracks)]
        self.order = random.Random(1)  # of arrival, another one in each turn: nobody is always first
        self.waiting: deque[tuple[Rig, int, int]] = deque()
        self.free_ns = 0

    def turn(self, seq: int, now_ns: int) -> None:
        """20 ms: everybody sends a packet, then it works."""
        for rig in self.order.sample(self.rigs, len(self.rigs)):
            rig.now_ns = now_ns
            given = len(rig.given)
            rig.submit(seq, QUIET if seq % 50 > 40 else SPEECH)
            if len(rig.given) > given:
                self.waiting.append((rig, seq, now_ns))
        for at_ns in range(now_ns + MS, now_ns + 20 * MS + 1, MS):
            while self.waiting and self.free_ns < at_ns:
                rig, number, since_ns = self.waiting.popleft()
                begun_ns = max(self.free_ns, since_ns)
                late = begun_ns - since_ns > 15 * MS
                self.free_ns = begun_ns + (MS // 10 if late else 2 * MS)
                payload = b"" if late else b"processed"
                rig.path.result(number & 0xFFFF, payload, 30, False, self.free_ns)
            for rig in self.rigs:
                rig.now_ns = at_ns
                rig.path.expire(at_ns)


def test_a_host_with_time_for_half_of_the_tracks_processes_many_not_none() -> None:
    host = BusyHost(16)
    for rig in host.rigs:
        rig.path.attach()
    for seq in range(3_000):
        host.turn(seq, seq * 20 * MS)
    before = sum(rig.path.counters.processed for rig in host.rigs)
    for seq in range(3_000, 6_000):
        host.turn(seq, seq * 20 * MS)
    processed = sum(rig.path.counters.processed for rig in host.rigs) - before
    assert processed > 3 * 3_000, "asked for all of them all the time it would do none"


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(0, 3)),
        st.tuples(st.just("answer"), st.integers(0, 6)),
        st.tuples(st.just("wait"), st.integers(1, 30)),
        st.tuples(st.just("attach"), st.just(0)),
        st.tuples(st.just("detach"), st.just(0)),
        st.tuples(st.just("full"), st.integers(0, 1)),
    ),
    max_size=200,
)


@settings(max_examples=300, deadline=None)
@given(ACTIONS)
def test_every_packet_goes_out_at_most_once_and_processed_ones_in_order(actions: list[tuple[str, int]]) -> None:
    rig = Rig()
    rig.path.attach()
    pending: list[int] = []
    submitted: set[int] = set()
    highest = 0
    for action, value in actions:
        if action == "submit":  # out of order by up to three, but never twice: the receiver filtered duplicates
            seq = highest + 1 if value == 0 else highest + 1 + value
            if value == 3 and highest - 2 not in submitted and highest > 2:
                seq = highest - 2
            submitted.add(seq)
            highest = max(highest, seq)
            pending.append(seq)
            rig.submit(seq, QUIET if value else SPEECH)
        elif action == "answer" and pending:
            rig.answer(pending.pop(min(value, len(pending) - 1)))
        elif action == "wait":
            rig.wait(value)
        elif action == "attach":
            rig.path.attach()
        elif action == "detach":
            rig.path.detach("gone")
        elif action == "full":
            rig.taking = not value
    rig.wait(DEADLINE_NS / MS + 1)
    rig.wait(DEADLINE_NS / MS + 1)
    released = [seq for seq, _ in rig.released]
    assert len(released) == len(set(released))
    assert set(released) <= submitted
    processed = [seq for seq, was in rig.released if was]
    assert processed == sorted(processed)
    counters = rig.path.counters
    assert counters.processed + counters.bypassed + counters.dropped == len(submitted)
