"""`candor models serve`: models over HTTP, with an engine of its own unless told of one that runs."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from prometheus_client import disable_created_metrics

from candor.run_dir import run_directory
from candor.settings import ConfigurationError, Settings, model_settings
from candor.supervisor import Role, Supervisor
from candor.tracing import checked_telemetry
from models.engine import SOCKET_NAME
from models.service.server import ModelService

NICE = 5
"""Behind the media of a node on the same machine. An engine of our own is as nice as a node's."""


async def serve(settings: Settings, engine: Path | None) -> int:
    """Run until interrupted. `engine`: the socket of an engine that runs. Raises ConfigurationError."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        checked_telemetry(settings.telemetry)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    os.nice(NICE)
    disable_created_metrics()  # type: ignore[no-untyped-call]  # they ship no types for it; when a series began nobody asks
    async with _engine(settings, engine) as socket_path:
        try:
            service = ModelService(model_settings(settings), socket_path, shared=engine is not None)
            await service.start()
        except (ValueError, OSError) as error:
            raise ConfigurationError(str(error)) from error
        try:
            sys.stdout.write(f"\n  Models are served at {service.url}/ (interface: {service.url}/api/openapi.json)\n\n")
            sys.stdout.flush()
            await stop.wait()
        finally:
            await service.close()
    return 0


@contextlib.asynccontextmanager
async def _engine(settings: Settings, engine: Path | None) -> AsyncIterator[Path]:
    """The socket of the engine that was told, or of one that is kept running inside the block."""
    if engine is not None:
        yield engine
        return
    with run_directory() as run_dir:
        supervisor = Supervisor(settings, run_dir, [Role("engine")], niced=NICE)
        try:
            await supervisor.start()
            yield run_dir / SOCKET_NAME
        finally:
            await supervisor.stop()
