"""Events on their way to clients: turned into what is sent once, however many receive it."""

from dataclasses import dataclass
from typing import Any

from signaling.protocol.messages import EVENTS, Message

NAMES = {model: name for name, model in EVENTS.items()}


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the protocol: its name, and its body ready for JSON."""

    name: str
    body: dict[str, Any]

    @classmethod
    def of(cls, message: Message) -> "Event":
        """The event that carries `message`. Raises KeyError if that is no event of the protocol."""
        return cls(NAMES[type(message)], message.model_dump(mode="json"))
