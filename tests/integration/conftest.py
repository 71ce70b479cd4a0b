"""A real node: supervisor, signaling, media worker, path host, watch host and engine as processes of their own."""

from collections.abc import AsyncIterator

import pytest_asyncio

from candor.node import Node, node
from candor.settings import load


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Node]:
    """A fresh node on a free port; `server.url` is where it is, `server.supervisor` has its children."""
    settings = load(arguments={"log_level": "warning", "signaling": {"port": 0}})
    async with node(settings) as running:
        yield running
