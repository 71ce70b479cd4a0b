"""What the lobby asks before it opens a room, and the answers of a machine that is alone."""

from typing import Protocol


class Claims(Protocol):
    """Who has which room."""

    @property
    def others(self) -> list[str]:
        """Addresses of other machines, for clients of ours whom we might leave alone one day."""

    @property
    def origins(self) -> list[str]:
        """Where pages may come from, besides our own: other machines, also those that have died since."""

    async def claim(self, room_id: str, hops: int) -> str | None:
        """Make sure that a room is ours; else where it is. Raises `SignalingError`.

        A room of which another machine has left notes is open afterwards, and everybody in it away.
        """

    def unused(self, room_id: str) -> None:
        """Nobody got in: give the room up, unless it is open."""

    def changed(self, room_id: str) -> None:
        """What is noted of a room changed, or it ended."""


class Alone:
    """There is no other machine: every room is ours."""

    @property
    def others(self) -> list[str]:
        """None."""
        return []

    @property
    def origins(self) -> list[str]:
        """None."""
        return []

    async def claim(self, room_id: str, hops: int) -> str | None:
        """Ours."""
        return None

    def unused(self, room_id: str) -> None:
        """Nobody else wants it."""

    def changed(self, room_id: str) -> None:
        """The workers keep what must be known."""
