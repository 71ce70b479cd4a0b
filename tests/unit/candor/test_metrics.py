"""Metrics of all processes as one page; the list of them; the operator's port."""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from candor import metrics, metrics_list
from candor.metrics import NodeMetrics, merged, usage
from candor.operator_site import OperatorSite
from candor.supervisor import Child, Role, Supervisor
from sfu.channel import Channel, serve

FORBIDDEN_LABELS = {"room", "room_id", "participant", "participant_id", "track", "track_id", "name", "address", "le"}


def _page(value: str = "a") -> str:
    registry = CollectorRegistry()
    Counter("candor_things", 'How "many" {of} them', ("what",), registry=registry).labels(value).inc(2)
    Gauge("candor_plain", "No labels", registry=registry).set(1)
    return generate_latest(registry).decode()


@given(st.text(max_size=20))
def test_a_page_of_many_processes_can_be_read_and_has_each_family_once(value: str) -> None:
    page = merged({"worker-0": _page(value), "worker-1": _page(value)})
    families = [family for family in text_string_to_metric_families(page) if not family.name.endswith("_created")]
    assert [family.name for family in families] == ["candor_things", "candor_plain"]
    things, plain = families
    told = [(s.labels, s.value) for s in things.samples if s.name == "candor_things_total"]
    assert told == [({"process": f"worker-{index}", "what": value}, 2.0) for index in range(2)]
    assert [s.labels for s in plain.samples] == [{"process": "worker-0"}, {"process": "worker-1"}]


def test_usage_of_a_process_is_told_and_none_of_one_that_is_gone() -> None:
    mine = usage(os.getpid())
    assert mine is not None
    assert 0 < mine.cpu_s <= time.process_time() + 1
    assert mine.resident_bytes > 10 << 20
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert usage(gone.pid) is None


def test_the_list_in_the_repository_is_current() -> None:
    assert metrics_list.FILE.read_text(encoding="utf-8") == metrics_list.text(), "run python -m candor.metrics_list"


def test_names_units_and_labels_are_as_prometheus_wants_them() -> None:
    for _, family in metrics_list.declared():
        assert family.name.startswith(("candor_", "ai_model_")), family.name
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert not family.name.endswith(("_ms", "_us", "_ns", "_percent")), family.name
        assert not FORBIDDEN_LABELS & set(family.labels), family.name
        assert family.help


def test_a_family_that_is_declared_in_two_ways_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(registry: CollectorRegistry) -> None:
        Gauge("candor_rooms", "Something else", registry=registry)

    monkeypatch.setitem(metrics_list._DECLARING, "worker", other)
    with pytest.raises(ValueError, match="candor_rooms"):
        metrics_list.text()


class Node:
    """Processes that are only sockets: one that answers, one that never does, one that is not there."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.children = {name: Child(Role(name)) for name in ("signaling", "path", "watch")}
        self.ready_workers = 2
        self.servers: list[asyncio.Server] = []
        self.channels: list[Channel] = []

    def pid(self, label: str) -> int | None:
        return os.getpid() if label == "signaling" else None

    def spare_pid(self, label: str) -> int | None:
        return os.getpid() if label == "path" else None

    async def start(self) -> None:
        for name, answer in (("signaling", self._answer), ("path", self._never)):
            self.servers.append(await serve(self.run_dir / f"{name}.sock", partial(self._take, answer)))

    def _take(self, answer: Any, channel: Channel) -> None:
        channel.on_request = answer
        self.channels.append(channel)
        channel.start()

    async def _answer(self, method: str, params: dict[str, Any]) -> Any:
        return _page() if method == "metrics" else {"ready_workers": self.ready_workers}

    async def _never(self, method: str, params: dict[str, Any]) -> Any:
        await asyncio.Event().wait()

    async def close(self) -> None:
        for server in self.servers:
            server.close()
        for channel in self.channels:
            await channel.close()


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    monkeypatch.setattr(metrics, "ANSWER_TIMEOUT_S", 0.3)
    node = Node(tmp_path)
    await node.start()
    yield node
    await node.close()


@pytest.fixture
async def site(node: Node) -> AsyncIterator[OperatorSite]:
    site = OperatorSite("127.0.0.1", 0, NodeMetrics(cast(Supervisor, node), node.run_dir), node.run_dir)
    await site.start()
    yield site
    await site.close()


async def _get(site: OperatorSite, path: str, host: str = "localhost") -> tuple[int, str]:
    async with aiohttp.ClientSession() as http:
        url, headers = f"http://127.0.0.1:{site.port}{path}", {"Host": f"{host}:{site.port}"}
        async with http.get(url, headers=headers) as response:
            return response.status, await response.text()


async def test_who_does_not_answer_is_down_and_costs_the_others_nothing(site: OperatorSite, node: Node) -> None:
    node.children["path"].restarts = 3
    status, page = await _get(site, "/metrics")
    assert status == 200
    for line in (
        'candor_process_up{process="supervisor"} 1.0',
        'candor_process_up{process="signaling"} 1.0',
        'candor_process_up{process="path"} 0.0',
        'candor_process_up{process="watch"} 0.0',
        'candor_process_restarts_total{process="path"} 3.0',
        'candor_things_total{process="signaling",what="a"} 2.0',
    ):
        assert line in page.splitlines()
    for process in ("supervisor", "signaling", "path-spare"):
        assert f'candor_process_resident_memory_bytes{{process="{process}"}}' in page
    assert 'candor_process_resident_memory_bytes{process="watch"}' not in page


async def test_health_is_told(site: OperatorSite, node: Node) -> None:
    assert await _get(site, "/health/live") == (200, '{"status": "ok"}')
    assert await _get(site, "/health/ready") == (200, '{"status": "ok", "ready_workers": 2}')
    status, body = await _get(site, "/health/detailed")
    assert status == 200 and '"status": "degraded"' in body and '"signaling": {"up": true' in body
    node.ready_workers = 0
    assert (await _get(site, "/health/ready"))[0] == 503
    await node.close()
    status, body = await _get(site, "/health/detailed")
    assert status == 503 and '"status": "starting"' in body


async def test_on_loopback_other_host_names_are_refused(site: OperatorSite) -> None:
    assert (await _get(site, "/metrics", host="evil.example"))[0] == 421
    assert (await _get(site, "/health/live", host="127.0.0.1"))[0] == 200


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs Debian's prometheus (CI installs it)")
async def test_promtool_finds_nothing_to_say(site: OperatorSite) -> None:
    _, page = await _get(site, "/metrics")
    lines = [line for line in page.splitlines() if "_created" not in line]
    done = await asyncio.to_thread(
        subprocess.run, ["promtool", "check", "metrics"], input="\n".join([*lines, ""]), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
