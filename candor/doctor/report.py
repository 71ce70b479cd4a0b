"""All checks in turn, printed as they come."""

import asyncio
from collections.abc import AsyncIterator

from candor.doctor import network, outside, services, system
from candor.doctor.line import Line
from candor.settings import Settings


async def local(settings: Settings) -> AsyncIterator[Line]:
    """Of this machine."""
    for line in network.configuration(settings):
        yield line
    for line in await network.ports(settings):
        yield line
    yield network.buffers()
    yield system.files()
    yield system.disk(settings)
    yield system.clock()
    yield await system.cores()
    yield system.gpu()
    for line in await asyncio.to_thread(services.models, settings):
        yield line
    for check in (services.redis, services.turn):
        for line in await check(settings):
            yield line


async def examine(settings: Settings, url: str | None, token: str | None, room: str) -> int:
    """Print every line; 1 if something must be fixed, else 0."""
    lines = outside.look(url, token, room) if url else local(settings)
    fixes = 0
    async for line in lines:
        print(line, flush=True)  # a command line prints  # noqa: T201
        fixes += line.level == "fix"
    print(f"{fixes} to fix." if fixes else "Nothing to fix.")  # noqa: T201  # a command line prints
    return int(fixes > 0)
