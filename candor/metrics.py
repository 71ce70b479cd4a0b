"""What a node tells Prometheus: each process its own, gathered over the sockets that they have, and what the supervisor knows.

Every sample gets the label `process`. A process that does not answer within `ANSWER_TIMEOUT_S` is left out and has
`candor_process_up 0`; the others are told all the same.
"""

import asyncio
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from candor.supervisor import Supervisor
from models.client import InferenceClient
from models.errors import InferenceError
from sfu.channel import ChannelError, connect

ANSWER_TIMEOUT_S = 2.0
SUPERVISOR = "supervisor"
ENGINE = "engine"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Usage(NamedTuple):
    """Of one process, without those that it started (proc(5))."""

    cpu_s: float
    resident_bytes: int


def usage(pid: int) -> Usage | None:
    """None if the process is gone, or nobody tells (anything but Linux)."""
    folder = Path(f"/proc/{pid}")
    try:
        after_name = folder.joinpath("stat").read_text().rpartition(")")[2].split()
        resident_pages = int(folder.joinpath("statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    ticks = int(after_name[11]) + int(after_name[12])  # utime and stime, the fields 14 and 15
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), resident_pages * os.sysconf("SC_PAGE_SIZE"))


class ProcessMetrics(Collector):
    """What the supervisor knows of its children, as of the latest look."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.up: dict[str, bool] = {}
        self.restarts: dict[str, int] = {}
        self.usages: dict[str, Usage] = {}
        self._registry = registry
        registry.register(self)

    def page(self) -> str:
        """The text for Prometheus (text format 0.0.4). The label `process` is in it already."""
        return generate_latest(self._registry).decode()

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        up = GaugeMetricFamily(
            "candor_process_up", "1: the process answered this scrape; 0: it did not", labels=("process",)
        )
        for process, answered in self.up.items():
            up.add_metric((process,), answered)
        text = "How often the process ended and was started again"
        restarts = CounterMetricFamily("candor_process_restarts", text, labels=("process",))
        for process, count in self.restarts.items():
            restarts.add_metric((process,), count)
        text = (
            "CPU time of the process since it began, without processes that it started; path-spare: the one that waits"
        )
        cpu = CounterMetricFamily("candor_process_cpu_seconds", text, labels=("process",))
        text = "Memory of the process, without processes that it started"
        memory = GaugeMetricFamily("candor_process_resident_memory_bytes", text, labels=("process",))
        for process, used in self.usages.items():
            cpu.add_metric((process,), used.cpu_s)
            memory.add_metric((process,), used.resident_bytes)
        yield from (up, restarts, cpu, memory)


class NodeMetrics:
    """All metrics of a node."""

    def __init__(self, supervisor: Supervisor, run_dir: Path) -> None:
        self._supervisor = supervisor
        self._run_dir = run_dir
        self._processes = ProcessMetrics(CollectorRegistry())
        self._engine = InferenceClient(run_dir / f"{ENGINE}.sock") if ENGINE in supervisor.children else None

    def start(self) -> None:
        """Begin to connect to the engine; the others are connected to when they are asked."""
        if self._engine is not None:
            self._engine.start()

    async def close(self) -> None:
        """Disconnect; idempotent."""
        if self._engine is not None:
            await self._engine.close()

    async def page(self) -> str:
        """The text for Prometheus (text format 0.0.4)."""
        pages = await self.ask()
        self._look(pages)
        answered = {process: text for process, text in pages.items() if text is not None}
        return merged({"": self._processes.page(), **answered})

    async def ask(self) -> dict[str, str | None]:
        """By process, what it tells; None if it does not answer in time."""
        labels = list(self._supervisor.children)
        return dict(zip(labels, await asyncio.gather(*(self._page_of(label) for label in labels)), strict=True))

    async def processes(self) -> dict[str, dict[str, Any]]:
        """Of each process whether it answers, how often it was started again, and its id."""
        pages = await self.ask()
        return {
            label: {"up": pages[label] is not None, "restarts": child.restarts, "pid": self._supervisor.pid(label)}
            for label, child in self._supervisor.children.items()
        }

    def _look(self, pages: Mapping[str, str | None]) -> None:
        supervisor, seen = self._supervisor, self._processes
        seen.up = {SUPERVISOR: True} | {process: page is not None for process, page in pages.items()}
        seen.restarts = {label: child.restarts for label, child in supervisor.children.items()}
        pids = {SUPERVISOR: os.getpid()}
        for label in supervisor.children:
            pids |= {label: supervisor.pid(label) or 0, f"{label}-spare": supervisor.spare_pid(label) or 0}
        seen.usages = {name: used for name, pid in pids.items() if pid and (used := usage(pid)) is not None}

    async def _page_of(self, label: str) -> str | None:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                text = await (
                    self._engine_page() if label == ENGINE else channel_request(self._run_dir, label, "metrics")
                )
        except (OSError, TimeoutError, ChannelError, InferenceError):
            return None
        return text if isinstance(text, str) else None

    async def _engine_page(self) -> object:
        if self._engine is None:
            return None
        return await self._engine.request("metrics", {}, ANSWER_TIMEOUT_S * 1000)


async def channel_request(run_dir: Path, label: str, method: str) -> object:
    """Ask a process over a channel of its own, for this once. Raises OSError, ChannelError."""
    channel = await connect(run_dir / f"{label}.sock")
    channel.start()
    try:
        return await channel.request(method, timeout_s=ANSWER_TIMEOUT_S)
    finally:
        await channel.close()


@dataclass(slots=True)
class _Family:
    heads: list[str]
    samples: list[str] = field(default_factory=list)


def merged(pages: Mapping[str, str]) -> str:
    """Pages of the text format as one, in which each family stands once. `pages`: by process; that of `""` is labelled already.

    What several processes have is declared alike in all of them; the first declaration counts.
    """
    families: dict[str, _Family] = {}
    for process, page in pages.items():
        name = ""
        for line in page.split("\n"):
            if line.startswith("# HELP "):
                name = line.split(" ", 3)[2]
                families.setdefault(name, _Family([line]))
            elif line.startswith("#"):
                family = families[name]
                if len(family.heads) < 2:
                    family.heads.append(line)
            elif line:
                families[name].samples.append(_labelled(line, process) if process else line)
    return "".join(f"{line}\n" for family in families.values() for line in (*family.heads, *family.samples))


def _labelled(sample: str, process: str) -> str:
    """`name{a="b"} 1` or `name 1`, with one label more. A name holds neither braces nor blanks."""
    label = f'process="{process}"'
    brace, blank = sample.find("{"), sample.find(" ")
    if 0 <= brace < blank:
        return f"{sample[: brace + 1]}{label},{sample[brace + 1 :]}"
    return f"{sample[:blank]}{{{label}}}{sample[blank:]}"
