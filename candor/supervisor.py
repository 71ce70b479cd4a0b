"""Starts the processes of one node and keeps them running: signaling, media workers, path host, watch host, model engine, and
a video host where a setting asks for a video transform.

A child that dies is started again: at once as long as it has quick restarts left, else as soon as it has earned one. Settings
go to a child through its standard input, never through its arguments or environment, and secrets only to signaling; when that
pipe closes, because the supervisor is gone, the child ends itself.

The path host, by which people are heard, has a spare: a second process with everything loaded, which waits for its turn. What
takes seconds on a busy machine, a new interpreter and its libraries, is then done before it is needed.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from candor.settings import PREFIX, Settings, dump
from signaling.policy import WATERMARK

log = structlog.get_logger()

STOP_TIMEOUT_S = 5.0
STOP_ORDER = ("signaling", "worker", "path", "video", "watch", "engine")
"""Clients are told first; then whoever asks before whoever answers, so that nobody misses anybody."""
QUICK_RESTARTS = 20
EARN_RESTART_S = 5.0
ASKS_MODELS = frozenset({"watch", "video"})
WITH_SPARE = frozenset({"path"})
SPARE_AFTER_S = 2.0
"""After a child began: a node that starts, or comes back, has better things to do at first."""
SPARE_LOOK_S, SPARE_LOOK_MAX_S = 5.0, 80.0
"""How often it is made sure that the spare is there."""


@dataclass(frozen=True, slots=True)
class Role:
    """A kind of child process."""

    name: str
    index: int = 0

    @property
    def label(self) -> str:
        """For logs and process lists."""
        return f"{self.name}-{self.index}" if self.name == "worker" else self.name


@dataclass(slots=True)
class Restarts:
    """The quick restarts that a child has left: `QUICK_RESTARTS`, of which every `EARN_RESTART_S` gives one back.

    A child that is killed every few seconds is back at once, however often. One that cannot start uses them up within seconds
    and is then started once per `EARN_RESTART_S`, which is all that the machine has to bear. How long a child lived does not
    matter: some that are broken fail at their start, others at the first packet.
    """

    left: float = QUICK_RESTARTS
    """Below zero: the next one is being waited for."""
    died_s: float = 0.0

    def delay_s(self, now_s: float) -> float:
        """The child died now: how long to wait until it is started again."""
        self.left = min(QUICK_RESTARTS, self.left + (now_s - self.died_s) / EARN_RESTART_S) - 1
        self.died_s = now_s
        return max(0.0, -self.left * EARN_RESTART_S)


@dataclass(slots=True)
class Child:
    """A role and the process that plays it now."""

    role: Role
    process: asyncio.subprocess.Process | None = None
    spare: asyncio.subprocess.Process | None = None
    restarts: int = 0


def worker_count(settings: Settings) -> int:
    """One media worker per four cores unless told otherwise."""
    return settings.sfu.workers or max(1, (os.cpu_count() or 1) // 4)


def video_transforms(settings: Settings) -> frozenset[str]:
    """What the video host runs; if it is nothing, there is none."""
    labels = {WATERMARK} if settings.signaling.policy.labels_somewhere else set()
    return frozenset(settings.processing.video_transforms) | labels


def node_roles(settings: Settings) -> list[Role]:
    """All children of one node."""
    roles = [Role("worker", index) for index in range(worker_count(settings))]
    if settings.models.backend == "local":
        roles.insert(0, Role("engine"))
    roles += [Role("path"), Role("watch"), Role("signaling")]
    if video_transforms(settings):
        roles.append(Role("video"))
    return roles


class Supervisor:
    """Children that are kept running. `roles`: those of a node, unless told.

    `niced`: by how much this process has made itself nicer, which children inherit; they count their own from before that.
    """

    def __init__(
        self, settings: Settings, run_dir: Path, roles: Sequence[Role] | None = None, *, niced: int = 0
    ) -> None:
        self._settings = settings
        self._run_dir = run_dir
        self._niced = niced
        roles = node_roles(settings) if roles is None else roles
        self.children = {role.label: Child(role) for role in roles}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start every child; they find each other by sockets in the run directory and wait for those not there yet."""
        for child in self.children.values():
            self._tasks.append(asyncio.create_task(self._keep(child), name=f"keep-{child.role.label}"))

    def pid(self, label: str) -> int | None:
        """The process id of a child, e.g. `worker-0`; None while it is not running."""
        return _pid(self.children[label].process)

    def spare_pid(self, label: str) -> int | None:
        """The process that would take its place now; None if there is none, or none yet."""
        return _pid(self.children[label].spare)

    async def stop(self) -> None:
        """End every child in `STOP_ORDER`. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        for child in sorted(self.children.values(), key=lambda child: STOP_ORDER.index(child.role.name)):
            for process in (child.spare, child.process):
                await self._end(child.role, process)

    async def _end(self, role: Role, process: asyncio.subprocess.Process | None) -> None:
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            log.warning("child_killed", child=role.label)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _keep(self, child: Child) -> None:
        """Run a child again and again; `stop` cancels this."""
        restarts = Restarts()
        while True:
            try:
                code: int | str = await self._run(child)
            except OSError as error:  # no memory or no process left to start it with: try again, like after a death
                code = type(error).__name__
            child.restarts += 1
            delay_s = restarts.delay_s(time.monotonic())
            log.warning("child_died", child=child.role.label, exit_status=code, restart_in_s=round(delay_s, 1))
            await asyncio.sleep(delay_s)

    async def _run(self, child: Child) -> int:
        """One life of a child: the spare's, if there is one."""
        spare, child.spare = child.spare, None
        if spare is not None and spare.returncode is None:
            process = child.process = spare
        else:
            process = child.process = await self._spawn(child.role)
            await self._configure(child.role, process)
        log.info("child_started", child=child.role.label, pid=process.pid)
        await _write(process, b"\n")  # its turn
        if child.role.name in WITH_SPARE:
            await self._keep_spare(child, process)
        return await process.wait()

    async def _keep_spare(self, child: Child, process: asyncio.subprocess.Process) -> None:
        """Until the process has ended: one that waits, and another when that dies, ever later if it never lives."""
        look_s, pid = SPARE_AFTER_S, None
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), look_s)
                return
            if pid is not None and _pid(child.spare) is not None:
                look_s = SPARE_LOOK_S
                continue
            if pid is not None:
                look_s = min(SPARE_LOOK_MAX_S, 2 * look_s)
                log.warning("spare_died", child=child.role.label, pid=pid)
            await self._prepare_spare(child)
            pid = _pid(child.spare)

    async def _prepare_spare(self, child: Child) -> None:
        try:
            child.spare = await self._spawn(child.role)
        except OSError as error:  # no memory or no process left: then without
            log.warning("no_spare", child=child.role.label, error=type(error).__name__)
            return
        await self._configure(child.role, child.spare)

    async def _spawn(self, role: Role) -> asyncio.subprocess.Process:
        arguments = [sys.executable, "-m", "candor.process", role.name, str(role.index), str(self._run_dir)]
        arguments.append(str(self._niced))
        # A process group of its own, so that Ctrl-C reaches only us; but our session: with the kernel's autogroups, nice values
        # count only within one.
        return await asyncio.create_subprocess_exec(
            *arguments, stdin=asyncio.subprocess.PIPE, process_group=0, env=_environment()
        )

    async def _configure(self, role: Role, process: asyncio.subprocess.Process) -> None:
        line = dump(self._settings, secrets=role.name == "signaling", asks_models=role.name in ASKS_MODELS)
        await _write(process, line.encode() + b"\n")


def _pid(process: asyncio.subprocess.Process | None) -> int | None:
    return process.pid if process is not None and process.returncode is None else None


async def _write(process: asyncio.subprocess.Process, line: bytes) -> None:
    if process.stdin is not None:
        with contextlib.suppress(ConnectionError):
            process.stdin.write(line)
            await process.stdin.drain()


def _environment() -> dict[str, str]:
    """Ours without the settings, whose secrets not every child may have; they come through the pipe."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
