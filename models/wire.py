"""Messages between a host, the engine and its pool: a 4-byte big-endian length and a msgpack map.

Over HTTP (`models.remote`) the same maps go without the length. An answer is `{ok: true, result}` or `{ok: false, error}`.
"""

import asyncio
import struct
from typing import Any, BinaryIO

import msgpack

from models.errors import FailedError, InferenceError, from_wire

MAX_MESSAGE_BYTES = 2 << 20
_LENGTH = struct.Struct("!I")


def pack(message: dict[str, Any]) -> bytes:
    """A message with its length in front. Raises ValueError if it is too large."""
    return frame(encode(message))


def encode(message: dict[str, Any]) -> bytes:
    """A message without its length."""
    body: bytes = msgpack.packb(message)
    return body


def decode(body: bytes) -> dict[str, Any]:
    """The message that `encode` made. Raises ValueError on anything else."""
    try:
        message = msgpack.unpackb(body)
    except (msgpack.UnpackException, TypeError) as error:
        raise ValueError(f"not msgpack: {error}") from error
    if not isinstance(message, dict):
        raise ValueError("a message must be a map")
    return message


def frame(body: bytes) -> bytes:
    """Bytes with their length in front. Raises ValueError if they are too many."""
    if len(body) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message of {len(body)} bytes")
    return _LENGTH.pack(len(body)) + body


def answer(result: Any) -> dict[str, Any]:
    """What is sent for a result, or for the InferenceError that there is instead."""
    if isinstance(result, InferenceError):
        return {"ok": False, "error": result.to_wire()}
    return {"ok": True, "result": result}


def result_of(message: dict[str, Any]) -> Any:
    """The result in an answer. Raises InferenceError: the one that was sent, or FailedError if it is no answer."""
    if message.get("ok"):
        return message.get("result")
    error = message.get("error")
    if not isinstance(error, dict):
        raise FailedError("malformed answer")
    try:
        raise from_wire(error)
    except (TypeError, ValueError) as malformed:
        raise FailedError("malformed answer") from malformed


async def read(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The next message. Raises asyncio.IncompleteReadError at the end, ValueError on anything malformed."""
    return decode(await read_frame(reader))


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """The next message, whatever is in it. Raises asyncio.IncompleteReadError at the end, ValueError if it is too large."""
    length = _length(await reader.readexactly(_LENGTH.size))
    return await reader.readexactly(length)


def read_blocking(file: BinaryIO) -> dict[str, Any] | None:
    """The next message from a pipe, None at its end. Raises ValueError on anything malformed."""
    head = file.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    body = file.read(length := _length(head))
    return decode(body) if len(body) == length else None


def _length(head: bytes) -> int:
    length: int = _LENGTH.unpack(head)[0]
    if length > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message of {length} bytes")
    return length
