"""Bodies of requests: JSON, or a form with a file in it. Each and all are bounded, in bytes and in time."""

import asyncio
import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.web_request import FileField
from pydantic import BaseModel, ValidationError

from models.service.errors import ServiceError, from_validation
from models.service.settings import ServiceSettings

B = TypeVar("B", bound=BaseModel)

JSON = "application/json"
FORM = "multipart/form-data"
PICTURES = (b"\x89PNG", b"\xff\xd8")
MAX_VALUES = 500_000
"""In a body. While Python reads one nobody else has a turn, and into 16 MiB there go millions."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
FIELDS = frozenset({"file", "text", "parameters", "timeout", "priority"})


class Intake:
    """How much of bodies is held at a time, from the first byte to the answer, and how long one may take to come."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._held_bytes = 0

    @contextmanager
    def room(self, request: web.Request) -> Iterator[None]:
        """Room for the body. Raises ServiceError: 413 for one that is too large, 503 if others leave none."""
        most = self._settings.max_body_bytes
        length = request.content_length
        if length is None or "Content-Encoding" in request.headers:  # nobody knows yet what it will be
            length = most
        if length > most:
            raise ServiceError(413, "too_large", f"a body may have {most} bytes")
        if self._held_bytes + length > self._settings.max_bodies_bytes:
            message = "the requests that are being answered are as large as they may be together"
            raise ServiceError(503, "overloaded", message, retryable=True, retry_s=1.0)
        self._held_bytes += length
        try:
            yield
        finally:
            self._held_bytes -= length

    async def read(self, request: web.Request, model: type[B], *, multipart: bool) -> B:
        """The body. Raises ServiceError (400, 408, 413, 415, 422)."""
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                return await _read(request, model, multipart=multipart)
        except TimeoutError as error:
            raise ServiceError(408, "too_slow", "the body did not come in time", retryable=True) from error


async def _read(request: web.Request, model: type[B], *, multipart: bool) -> B:
    kind = request.content_type
    if kind == FORM and multipart:
        values = await _form(request)
    elif kind == JSON:
        values = await _json(request)
    else:
        raise ServiceError(415, "unsupported_body", f"send {JSON}" + (f" or {FORM}" if multipart else ""))
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise from_validation(error) from error


async def _json(request: web.Request) -> Any:
    data = await request.read()
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise ServiceError(413, "too_large", f"the body has more than {MAX_VALUES} values")
    try:
        values = json.loads(data.decode())  # RFC 8259, section 8.1: always UTF-8
        if _SURROGATE.search(data):
            json.dumps(values, ensure_ascii=False).encode()
    except (
        ValueError,
        RecursionError,
    ) as error:  # among them half of a surrogate pair, which nobody could write down again
        raise ServiceError(400, "bad_json", "the body is not JSON") from error
    return values


async def _form(request: web.Request) -> dict[str, Any]:
    """As the JSON would have been. What kind of file it is its part says."""
    try:
        fields = await request.post()
    except (ValueError, LookupError) as error:  # LookupError: an encoding of which nobody has heard
        raise ServiceError(400, "bad_form", "the body is not a form") from error
    if unknown := set(fields) - FIELDS:
        raise ServiceError(422, "bad_request", f"a form has {', '.join(sorted(FIELDS))}, not {len(unknown)} others")
    values: dict[str, Any] = {name: fields[name] for name in ("timeout", "priority") if name in fields}
    if re.fullmatch("[0-9]", str(values.get("priority"))):
        values["priority"] = int(values["priority"])
    if "parameters" in fields:
        try:
            values["parameters"] = json.loads(str(fields["parameters"]))
        except (ValueError, RecursionError) as error:
            raise ServiceError(422, "bad_request", "parameters: not JSON") from error
    return values | {"input_data": _input(fields.get("file"), fields.get("text"))}


def _input(file: Any, text: Any) -> dict[str, str]:
    found = {} if text is None else {"text": str(text)}
    if isinstance(file, FileField):
        content = file.file.read()
        found[_kind(file.content_type, content)] = base64.b64encode(content).decode()
    return found


def _kind(content_type: str, content: bytes) -> str:
    """What the part says; where it says nothing, as curl does of a WAV file, what the first bytes say."""
    family = content_type.partition("/")[0]
    if family in ("audio", "video"):  # browsers call WebM sound a video
        return "audio"
    if family == "image":
        return "image"
    if content_type == "application/octet-stream":
        return "image" if content.startswith(PICTURES) else "audio"
    raise ServiceError(415, "unsupported_media", "the file's content type is neither audio nor image")
