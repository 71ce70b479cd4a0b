"""Why the service refuses something: an HTTP status, a stable code, a sentence, and the command that would help.

    ServiceError(status, code, message, retryable, command, retry_s)

What the engine says (`models.errors`) becomes one of these by `from_inference`; nothing else crosses the wire.
"""

from pydantic import ValidationError

from models.errors import InferenceError
from models.service.messages import Problem

STATUS: dict[str, int] = {
    "unavailable": 503,
    "overloaded": 503,
    "timeout": 504,
    "loading": 504,
    "engine_gone": 503,
    "failed": 502,
    "refused": 422,
}
"""Of the engine's codes."""


class ServiceError(Exception):
    """A request is refused, or could not be answered. `code` is stable; the message repeats nothing that a caller sent."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        command: str = "",
        retry_s: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retryable = retryable
        self.command = command
        self.retry_s = retry_s

    def problem(self) -> Problem:
        """As it is sent."""
        return Problem(code=self.code, message=self.message, retryable=self.retryable, command=self.command)


def from_inference(error: InferenceError) -> ServiceError:
    """The answer for what the engine said."""
    return ServiceError(
        STATUS.get(error.code, 502),
        error.code,
        error.message,
        retryable=error.retryable or error.retry_s > 0,
        command=error.command,
        retry_s=error.retry_s,
    )


def from_validation(error: ValidationError) -> ServiceError:
    """The answer for a body that does not fit its model; names the field and never repeats its value."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])[:100] or "body"
    return ServiceError(422, "bad_request", f"{field}: {first['msg']}")


def unknown_model() -> ServiceError:
    """For an id that neither the catalog nor the store has."""
    return ServiceError(404, "unknown_model", "no model has this id", command="candor models list")
