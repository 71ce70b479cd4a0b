"""Bodies of requests: JSON, or a form with a file in it. All within `max_body_bytes`, which aiohttp watches while it reads."""

import base64
import json
import re
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.web_request import FileField
from pydantic import BaseModel, ValidationError

from models.service.errors import ServiceError, from_validation

B = TypeVar("B", bound=BaseModel)

JSON = "application/json"
FORM = "multipart/form-data"
PICTURES = (b"\x89PNG", b"\xff\xd8")
FIELDS = frozenset({"file", "text", "parameters", "timeout", "priority"})


async def read(request: web.Request, model: type[B], *, multipart: bool) -> B:
    """The body. Raises ServiceError (400, 413, 415, 422)."""
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
    try:
        return json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise ServiceError(400, "bad_json", "the body is not JSON") from error


async def _form(request: web.Request) -> dict[str, Any]:
    """As the JSON would have been. What kind of file it is its part says."""
    try:
        fields = await request.post()
    except ValueError as error:
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
