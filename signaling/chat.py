"""The last lines of a room's chat, bounded by their number and by the bytes that they add to every snapshot."""

import json
from collections import deque

from signaling.protocol.messages import ChatLine

CHAT_LINES = 200
CHAT_BYTES = 128 * 1024


class ChatHistory:
    """The oldest line is dropped when there are more than `CHAT_LINES`, or more than `CHAT_BYTES` of JSON as it is sent."""

    def __init__(self) -> None:
        self._lines: deque[tuple[ChatLine, int]] = deque()
        self._bytes = 0

    def append(self, line: ChatLine) -> None:
        """Add a line."""
        size = len(json.dumps(line.model_dump(mode="json")))
        self._lines.append((line, size))
        self._bytes += size
        while len(self._lines) > CHAT_LINES or self._bytes > CHAT_BYTES:
            _, dropped = self._lines.popleft()
            self._bytes -= dropped

    def lines(self) -> list[ChatLine]:
        """What is kept, oldest first."""
        return [line for line, _ in self._lines]
