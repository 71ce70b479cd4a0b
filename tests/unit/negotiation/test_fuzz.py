"""Whatever comes in as SDP: a result or a ValueError, and an answer that is well-formed SDP itself."""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from sfu.negotiation import description
from sfu.negotiation.answer import answer, parse_offer
from sfu.negotiation.offer import parse_answer
from tests.unit.negotiation.clients import FIXTURES, LOCAL

TEXTS = [path.read_bytes().decode() for path in sorted(FIXTURES.glob("*.sdp"))]
LINES = sorted({line for text in TEXTS for line in text.split("\r\n") if line})
FRAGMENT = st.one_of(
    st.text(max_size=12), st.sampled_from(LINES), st.sampled_from(["\r\n", "\n", " ", ";", ":", "0", "999999999999"])
)
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), FRAGMENT), min_size=1, max_size=6)


def mutated(text: str, edits: list[tuple[float, int, str]]) -> str:
    """Cut out and put in here and there."""
    for where, length, fragment in edits:
        at = int(where * len(text))
        text = text[:at] + fragment + text[at + length :]
    return text


def read(text: str) -> None:
    """Both parsers; what is understood as an offer is answered, and the answer must parse."""
    with contextlib.suppress(ValueError):
        parse_answer(text, max_media=4)
    try:
        offer = parse_offer(text)
    except ValueError:
        return
    wanted = {entry.mid for entry in offer.media if entry.published}
    sdp, agreed = answer(offer, LOCAL, session_id=1, version=1, wanted_mids=wanted, processed_mids=wanted)
    parsed = description.parse(sdp, max_length=1 << 20, max_media=32)
    assert [section.mid for section in parsed.media] == [entry.mid for entry in offer.media]
    assert {media.mid for media in agreed} <= wanted
    assert set(parsed.bundle) <= wanted


@given(st.text(max_size=300))
@settings(max_examples=100, deadline=None)
def test_random_text(text: str) -> None:
    read("v=0\r\n" + text)
    read(text)


@given(st.lists(st.sampled_from(LINES), max_size=60))
@settings(max_examples=150, deadline=None)
def test_shuffled_lines(lines: list[str]) -> None:
    read("\r\n".join(["v=0", *lines]))


@given(st.sampled_from(TEXTS), EDITS)
@settings(max_examples=400, deadline=None)
def test_mutated_fixtures(text: str, edits: list[tuple[float, int, str]]) -> None:
    read(mutated(text, edits))
