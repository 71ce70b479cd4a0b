"""What can go wrong between a question to a model and its answer.

    InferenceError(code, message, retryable, command)
    ├── UnavailableError   the model cannot run here; `command` is what would help
    ├── OverloadedError    shed: the queue was full and this was the oldest of the busiest room
    ├── DeadlineError      the answer is no longer wanted
    │   └── LoadingError   because the model was still being loaded
    ├── EngineGoneError    the engine process is not there; it is being restarted
    └── FailedError        the model or its process broke on this request
        └── RefusedError   the model does not take this question; it would not tomorrow either

`code` is stable and crosses the socket; `ERRORS` maps it back to the class.
"""

from typing import Any, ClassVar


class InferenceError(Exception):
    """Base of the tree."""

    code: ClassVar[str] = "inference_failed"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str = "", command: str = "", retry_s: float = 0.0) -> None:
        super().__init__(message or self.code)
        self.message = message or self.code
        self.command = command
        self.retry_s = retry_s
        """When it may be different by itself; 0 if nobody knows, or never."""

    def to_wire(self) -> dict[str, Any]:
        """`{code, message, command, retry_s}` for the socket."""
        return {"code": self.code, "message": self.message, "command": self.command, "retry_s": self.retry_s}


class UnavailableError(InferenceError):
    """Weights, package or language are missing. `command` says what would help."""

    code = "unavailable"


class OverloadedError(InferenceError):
    """Dropped from a full queue."""

    code = "overloaded"
    retryable = True


class DeadlineError(InferenceError):
    """The deadline of the request passed before its answer was there."""

    code = "timeout"
    retryable = True


class LoadingError(DeadlineError):
    """The deadline passed while the model was being loaded: nobody is too slow, and the next question may be answered at once."""

    code = "loading"


class EngineGoneError(InferenceError):
    """No connection to the engine."""

    code = "engine_gone"
    retryable = True


class FailedError(InferenceError):
    """The runner raised, or its process died, on this request."""

    code = "failed"
    retryable = True


class RefusedError(FailedError):
    """The question is malformed, of the wrong kind, or of a size that this model does not take."""

    code = "refused"
    retryable = False


ERRORS: dict[str, type[InferenceError]] = {
    error.code: error
    for error in (
        UnavailableError,
        OverloadedError,
        DeadlineError,
        LoadingError,
        EngineGoneError,
        FailedError,
        RefusedError,
    )
}


def from_wire(error: dict[str, Any]) -> InferenceError:
    """The exception that `to_wire` described. An unknown code becomes the base class."""
    kind = ERRORS.get(str(error.get("code")), InferenceError)
    return kind(str(error.get("message", "")), str(error.get("command", "")), float(error.get("retry_s", 0.0)))
