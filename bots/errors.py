"""What can go wrong, as the caller sees it.

BotError                the server refused a request: `code`, `retryable`
└── ConnectionLost      no server, or no answer in time: code `timeout`, retryable
BotClosed               the bot left or was removed; `reason`
"""

from signaling.protocol.codes import CloseReason, ErrorCode


class BotError(Exception):
    """A request was refused. `retryable`: the same request may succeed later."""

    def __init__(self, code: ErrorCode, message: str, retryable: bool) -> None:
        super().__init__(f"{code.value}: {message}")
        self.code = code
        self.retryable = retryable


class ConnectionLost(BotError):  # noqa: N818  a state of the world that callers wait out, not a mistake
    """The server cannot be reached or did not answer in time."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.TIMEOUT, message, retryable=True)


class BotClosed(Exception):  # noqa: N818  the ordinary end of a bot, not a mistake
    """The bot is no longer in the room."""

    def __init__(self, reason: CloseReason) -> None:
        super().__init__(reason.value)
        self.reason = reason
