"""What the load needs of a server that it measures."""

from collections.abc import Callable
from typing import Protocol

from benchmarks.load.processes import Scheduled

MakeAnswer = Callable[[str], str]
"""From the server's offer to the client's answer; the client begins to connect meanwhile."""


class Server(Protocol):
    """A server in a process of its own, on a core of its own, with one room."""

    name: str

    async def start(self) -> None:
        """Start it and wait until it takes requests."""

    async def publish(self, offer: str) -> str:
        """The answer to the publisher's offer."""

    async def subscribe(self, index: int, make_answer: MakeAnswer) -> None:
        """Subscribe to everything of the publisher; the server offers, `make_answer` answers."""

    def scheduled(self) -> Scheduled:
        """What its process had of its core so far."""

    async def close(self) -> None:
        """Stop it; idempotent."""
