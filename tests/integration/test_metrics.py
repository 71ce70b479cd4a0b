"""A node with a real call, as Prometheus sees it through the operator's port; and as it sees a death."""

import asyncio
import os
import shutil
import signal
import subprocess

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bots import MeetingBot
from candor import metrics_list
from candor.node import Node
from tests.e2e.meeting_kit import Ear, speech
from tests.until import until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

Key = tuple[str, frozenset[tuple[str, str]]]
HISTOGRAM_ENDINGS = ("_bucket", "_count", "_sum")


async def page_of(node: Node, path: str = "/metrics", *, port: str | None = None) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(f"{port or node.operator_url}{path}") as response:
        return response.status, await response.text()


class Scrape:
    """One look."""

    def __init__(self, page: str) -> None:
        self.page = page
        self.families = {family.name: family for family in text_string_to_metric_families(page)}
        self._values: dict[Key, float] = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def __call__(self, name: str, process: str, **labels: str) -> float:
        """A sample; 0 while its process tells none."""
        return self._values.get((name, frozenset({**labels, "process": process}.items())), 0.0)


async def scrape(node: Node) -> Scrape:
    status, page = await page_of(node)
    assert status == 200
    return Scrape(page)


def _missing_of_a_call(seen: Scrape) -> str:
    expected = {
        "a room": seen("candor_rooms", "signaling") >= 1,
        "participants": seen("candor_participants", "signaling", state="present") >= 2,
        "joins": seen("candor_joins_total", "signaling", result="new") >= 2,
        "how long joins took": seen("candor_join_seconds_count", "signaling") >= 2,
        "sockets": seen("candor_sockets", "signaling") >= 2,
        "packets in": seen("candor_packets_total", "worker-0", direction="in", kind="audio") > 50,
        "packets out": seen("candor_packets_total", "worker-0", direction="out", kind="audio") > 50,
        "latency": seen("candor_forward_latency_seconds_count", "worker-0", kind="audio", path="processed") > 0,
        "connections": seen("candor_transports", "worker-0", direction="publish", state="connected") >= 1,
        "sound in the path": seen("candor_transform_packets_total", "path", outcome="processed") > 0,
        "a denoiser at work": seen("candor_processor_tracks", "path", processor="denoise", state="on") >= 1,
        "findings": seen("candor_findings_total", "watch", kind="prosody") > 0,
        "questions to models": seen(
            "ai_model_inference_requests_total",
            "engine",
            model="pocketsphinx-en-us",
            task="speech_to_text",
            result="ok",
        )
        > 0,
    }
    return ", ".join(what for what, there in expected.items() if not there)


async def test_a_call_is_seen_and_a_dead_worker_too(server: Node) -> None:
    await server.hosts_attached()
    async with MeetingBot(server.url, "metrics", "Speaker", subscribe=False) as speaker:
        microphone = await speaker.publish_audio(await speech())
        async with Ear(server.url, "metrics") as ear:
            await ear.hears(microphone.track_id, 100)

            async def call() -> str:
                return _missing_of_a_call(await scrape(server))

            await until(call, 60)
            seen = await scrape(server)
            _check_families(seen)
            _check_with_promtool(seen.page)
            _check_silence_about_people(
                seen.page, [speaker.participant_id, microphone.track_id, "Speaker", '"metrics"']
            )
            await _check_bypass(server, ear, microphone.track_id)
            await _check_death_and_return(server)
            await ear.hears(microphone.track_id, 25, 60)

    async def left() -> str:
        return "" if (await scrape(server))("candor_rooms", "signaling") == 0 else "the end of the room"

    await until(left)


def _check_families(seen: Scrape) -> None:
    """Nothing is told but what the list says, with those labels."""
    listed = {family.name: {*family.labels, "process"} for _, family in metrics_list.declared()}
    for family in seen.families.values():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == listed[name], name


def _check_with_promtool(page: str) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        return  # the parser of the library has read it, and the unit test says what is missing
    done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def _check_silence_about_people(page: str, secrets: list[str]) -> None:
    assert [secret for secret in secrets if secret in page] == []


async def _check_death_and_return(server: Node) -> None:
    before = (await scrape(server))("candor_process_restarts_total", "worker-0")
    pid = server.supervisor.pid("worker-0")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)

    async def down() -> str:
        return "" if (await scrape(server))("candor_process_up", "worker-0") == 0 else "a worker that is down"

    async def back() -> str:
        seen = await scrape(server)
        again = seen("candor_process_up", "worker-0") == 1
        return (
            "" if again and seen("candor_process_restarts_total", "worker-0") == before + 1 else "a worker that is back"
        )

    await until(down)
    await until(back, 60)


async def _check_bypass(server: Node, ear: Ear, track_id: str) -> None:
    """The path host and its spare die: what goes around them is counted in seconds."""

    async def bypassed() -> str:
        seen = await scrape(server)
        seconds = seen("candor_bypass_seconds_total", "worker-0", kind="audio", reason="host_is_gone")
        return "" if seconds > 0 and seen("candor_hard_bypasses_total", "worker-0") > 0 else "seconds of bypass"

    for pid in (server.supervisor.spare_pid("path"), server.supervisor.pid("path")):
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
    await until(bypassed, 60)
    await ear.hears(track_id, 25, 60)


async def test_health_says_who_is_there(server: Node) -> None:
    async def well() -> str:
        status, body = await page_of(server, "/health/detailed")
        return "" if status == 200 and '"status": "ok"' in body else body

    await until(well, 60)
    assert (await page_of(server, "/health/ready"))[0] == 200


async def test_the_public_port_knows_nothing_of_it(server: Node) -> None:
    for path in ("/metrics", "/health/detailed", "/health/live"):
        status, body = await page_of(server, path, port=server.url)
        assert status == 404 and "candor_" not in body
    assert server.operator_url != server.url


async def test_many_who_ask_at_once_are_answered(server: Node) -> None:
    for status, page in await asyncio.gather(*(page_of(server) for _ in range(20))):
        assert status == 200 and 'candor_process_up{process="signaling"} 1.0' in page
