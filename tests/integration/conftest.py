"""A real node: supervisor, signaling, media worker, path host, watch host and engine as processes of their own."""

from collections.abc import AsyncIterator

import pytest_asyncio

from candor.node import Node, node
from candor.settings import load


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Node]:
    """A node on a free port, one for all tests of a module: each meets in a room of its own at `server.url`."""
    settings = load(arguments={"log_level": "warning", "signaling": {"port": 0}})
    async with node(settings) as running:
        yield running
