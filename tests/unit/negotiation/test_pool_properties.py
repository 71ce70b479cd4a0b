"""Whatever people do, in whatever order answers come: the pool offers what is wanted, nothing twice, nothing under a stale SSRC."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sfu.negotiation.offer import SectionPool, SectionState, Wanted, parse_answer
from tests.unit.negotiation.clients import LOCAL, ssrcs

TRACKS = [Wanted(f"t{number}", f"p{number // 2}", "audio" if number % 2 else "video") for number in range(8)]
STEP = st.one_of(st.sets(st.sampled_from(TRACKS)), st.just("offer"), st.just("answer"))


def answer_to(offer: str) -> str:
    """A client that takes everything: the offer, mirrored."""
    mirrored = offer.replace("a=setup:actpass", "a=setup:active").replace("a=sendonly", "a=recvonly")
    return mirrored.replace("a=ssrc", "a=x-ssrc")


class Session:
    """A pool and its client; `attached` is what the media plane would forward, by mid."""

    def __init__(self, stable_ssrcs: bool) -> None:
        self.pool = SectionPool(stable_ssrcs=stable_ssrcs, random_ssrc=ssrcs())
        self.stable_ssrcs = stable_ssrcs
        self.wanted: list[Wanted] = []
        self.offer = ""
        self.attached: dict[str, str] = {}
        self.ssrcs_of: dict[str, list[int]] = {}

    def step(self, what: set[Wanted] | str) -> None:
        if what == "answer":
            self.take_answer()
        elif what == "offer":
            self.make_offer()
        else:
            self.wanted = sorted(what)
            self.make_offer()
        tracks = [section.track_id for section in self.pool.sections if section.track_id]
        assert sorted(tracks) == sorted(track.track_id for track in self.wanted)
        numbers = [n for section in self.pool.sections for n in (section.ssrc, section.rtx_ssrc) if n]
        assert len(set(numbers)) == len(numbers)

    def make_offer(self) -> None:
        needed = self.pool.reconcile(self.wanted)
        for section in self.pool.sections:
            if section.state is not SectionState.LIVE:
                self.attached.pop(section.mid, None)
        if needed and not self.pool.in_flight:
            self.offer = self.pool.offer(LOCAL, session_id=1, version=1)

    def take_answer(self) -> None:
        if not self.pool.in_flight:
            return
        answer = parse_answer(answer_to(self.offer), max_media=len(self.pool.sections))
        attached, freed = self.pool.answered(answer)
        for section in attached:
            assert section.mid not in self.attached
            assert f"a=msid:{section.participant_id} {section.track_id}\r\n" in self.offer
            assert f"a=ssrc:{section.ssrc} " in self.offer
            self.attached[section.mid] = section.track_id or ""
            used = self.ssrcs_of.setdefault(section.mid, [])
            assert (section.ssrc in used) is (self.stable_ssrcs and bool(used))
            used.append(section.ssrc)
        assert all(section.mid not in self.attached for section in freed)


@given(st.lists(STEP, max_size=30), st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_order_of_events(steps: list[set[Wanted] | str], stable_ssrcs: bool) -> None:
    session = Session(stable_ssrcs)
    for step in steps:
        session.step(step)
    for _ in range(3):  # until nothing is left to be said
        session.make_offer()
        session.take_answer()
    assert sorted(session.attached.values()) == sorted(track.track_id for track in session.wanted)
    assert not session.pool.reconcile(session.wanted)
