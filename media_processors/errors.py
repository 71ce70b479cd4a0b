"""What can go wrong in a processor. One small tree; the hosts map it to a status, never to a dead track.

ProcessorError
├── CodecError          libopus refused a packet or a setting
└── UnavailableError    a library or model file is missing: `reason` and the `command` that would help
"""

import traceback
from pathlib import Path


class ProcessorError(Exception):
    """Base of everything that a processor or a codec raises."""


class CodecError(ProcessorError):
    """libopus refused; the text is its own."""


class UnavailableError(ProcessorError):
    """Something that is needed is not here."""

    def __init__(self, reason: str, command: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.command = command


def place_of(error: BaseException) -> str:
    """Where it was raised, as `file.py:line`: with its type all that may be logged, for its text may quote what was heard."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
