"""The entry of every child process: `python -m candor.process ROLE INDEX RUN_DIR NICED`.

NICED: how nice our parent has made itself, which we are with it from the start; it counts towards our own.
On standard input comes a line of JSON, the settings; later another line, when it is this process's turn.
"""

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

from prometheus_client import disable_created_metrics

import candor.logs
from candor import tracing
from candor.settings import Settings, restore
from candor.supervisor import video_transforms, worker_count

NICE = {"video": 5, "watch": 10, "engine": 15}
"""Media first: the kernel gives these what the others leave."""


def main() -> None:
    """Play one role until told to stop."""
    role, index, run_dir = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    settings = restore(_first_line())
    disable_created_metrics()  # type: ignore[no-untyped-call]  # they ship no types for it; when a series began nobody asks
    candor.logs.configure(settings.log_level, role)
    os.nice(NICE.get(role, 0) - int(sys.argv[4]))
    turn = threading.Event()
    threading.Thread(target=_end_with_parent, args=[turn], daemon=True).start()
    if role == "path":
        from media_processors import path_host

        path_host.main(settings.processing, settings.models.store_dir, run_dir, worker_count(settings), turn.wait)
    else:
        with tracing.exported(settings.telemetry, role, index):
            asyncio.run(_until_told(role, index, run_dir, settings))


def _first_line() -> bytes:
    line = bytearray()
    while not line.endswith(b"\n") and (byte := os.read(sys.stdin.fileno(), 1)):
        line += byte
    return bytes(line)


def _end_with_parent(turn: threading.Event) -> None:
    """Our standard input is a pipe from the supervisor. It writes when it is our turn; the pipe ends when the supervisor does."""
    while os.read(sys.stdin.fileno(), 1):  # unbuffered: a thread inside a buffered read would hold up our exit
        turn.set()
    os.kill(os.getpid(), signal.SIGTERM)


async def _until_told(role: str, index: int, run_dir: Path, settings: Settings) -> None:
    task = asyncio.create_task(_play(role, index, run_dir, settings))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return


async def _play(role: str, index: int, run_dir: Path, settings: Settings) -> None:
    """Imports are per role, so that a media worker never loads what only an engine needs."""
    if role == "worker":
        from sfu import worker

        await worker.run(settings.sfu, run_dir, index, tracing.frames_between(settings.telemetry))
    elif role == "signaling":
        from signaling import server

        await server.serve(
            settings.signaling,
            run_dir,
            worker_count(settings),
            settings.web_root,
            video_host=bool(video_transforms(settings)),
            cluster=settings.cluster,
        )
    elif role == "watch":
        from media_processors import watch_host

        await watch_host.run(settings.processing, settings.models, run_dir, worker_count(settings))
    elif role == "video":
        from media_processors import video_host

        transforms = video_transforms(settings)
        await video_host.run(settings.processing, settings.models, run_dir, worker_count(settings), transforms)
    elif role == "engine":
        from models import engine

        await engine.run(settings.models, run_dir)
    else:
        raise SystemExit(f"unknown role {role}")


if __name__ == "__main__":
    main()
