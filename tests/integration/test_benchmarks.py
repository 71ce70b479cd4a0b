"""The benchmarks run and count right. How long anything takes is not judged here."""

import itertools
import os
from collections.abc import Iterator

import pytest

from benchmarks import derived, forward, latency
from benchmarks.load.perceived import PerceivedServer
from benchmarks.load.sdp import read
from candor.settings import load


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What only makes figures steadier is left out. Benchmarks pin this process to a core; tests after them get theirs back."""
    monkeypatch.setattr(forward, "FLOOD_PACKETS", 1_000)
    for benchmark in (forward, latency):
        monkeypatch.setattr(benchmark, "WARM_UP_S", 0.2)
    before = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, before)


async def test_forward_counts_what_arrives() -> None:
    report = await forward.measure([1, 2], 1.0, 1, layers=True, recording_s=2)
    assert [row["subscribers"] for row in report["rows"]] == [1, 2]
    for row, name in itertools.product(report["rows"], ("candor", "candor_layers")):
        candor = row[name]
        measured = candor["rounds"][0]
        assert candor["lost"] == 0
        assert candor["rejected"] == 0
        assert measured["sent"] > 20
        # A second of media; the packets under way at both edges may fall on either side.
        assert abs(candor["forwarded"] - row["subscribers"] * measured["sent"]) <= 20 * row["subscribers"]
        assert candor["cpu_us_per_packet"] > 0
        assert row["bare_flood_us"] > 0
        assert candor["ratio_to_flood"] == pytest.approx(candor["cpu_us_per_packet"] / row["bare_flood_us"])


async def test_latency_reports_both_ways() -> None:
    report = await latency.measure(2, 1.0, 1, recording_s=2)
    for name in ("sfu", "control"):
        figures = report[name]["all"]
        assert figures["packets"] > 10
        assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"]


def test_derived_counts_the_pictures_that_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(derived, "WARM_UP_S", 0.5)
    row = derived.measure((160, 90), 1, 1.0, derived.frames_of(160, 90, 2))
    assert (row.size, row.tracks, row.given_up) == ("160x90", 1, 0)
    assert 0 < row.pictures_out_per_s <= 2 * derived.FRAMES_PER_S
    assert 0 < row.latency_p50_ms <= row.latency_p99_ms
    assert row.core_percent_per_track > 0
    assert row.kb_per_s > 0


async def test_the_server_of_the_perception_benchmark_has_all_its_hosts() -> None:
    server = PerceivedServer(min(os.sched_getaffinity(0)), load(arguments={"log_level": "error"}))
    try:
        await server.start()
        assert {"path", "watch"} <= set((await server.statistics())["taps"]["hosts"])
        assert (await server.watching())["shed_rungs"] == 0
    finally:
        await server.close()


def test_latency_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no stamped packet"):
        latency.summarize([])


def test_a_description_without_a_candidate_is_refused() -> None:
    with pytest.raises(ValueError, match="candidate"):
        read("a=ice-ufrag:abcd\r\na=ice-pwd:0123456789\r\na=fingerprint:sha-256 AA:BB\r\n")
