"""Hostile bytes for parsers: noise, and real packets with bytes changed, cut off or put in."""

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st

fuzzed = settings(max_examples=100, deadline=None)  # no deadline: a busy machine is not a failure


@st.composite
def hostile(draw: st.DrawFn, originals: tuple[bytes, ...]) -> bytes:
    if draw(st.booleans()):
        return draw(st.binary(max_size=80))
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data[: draw(st.integers(0, len(data)))]) if draw(st.booleans()) else bytes(data)


def parses_or_names_a_field(parse: Callable[[bytes], object], data: bytes) -> None:
    """Any exception but ValueError fails the test by itself; a ValueError must say `field: what is wrong`."""
    try:
        parse(data)
    except ValueError as error:
        field, colon, problem = str(error).partition(": ")
        assert field and colon and problem
