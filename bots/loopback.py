"""Media over 127.0.0.1, which aioice leaves out when it gathers candidates.

Neither `RTCConfiguration` nor any other public setting of aiortc 1.16 / aioice 0.13 adds an address to gather. aioice asks
one module-level function, `aioice.ice.get_host_addresses`, each time; it is wrapped here, once, and answers differently only
inside `gathering(loopback=True)`, so other users of aioice in the same process see no difference.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from urllib.parse import urlsplit

import aioice.ice

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

_loopback: ContextVar[bool] = ContextVar("bots_gather_loopback", default=False)
_host_addresses = aioice.ice.get_host_addresses


def _with_loopback(use_ipv4: bool, use_ipv6: bool) -> list[str]:
    addresses: list[str] = _host_addresses(use_ipv4=use_ipv4, use_ipv6=use_ipv6)
    if _loopback.get() and use_ipv4:
        return ["127.0.0.1", *addresses]
    return addresses


aioice.ice.get_host_addresses = _with_loopback


def is_loopback(url: str) -> bool:
    """Whether the server at `url` is this machine by name, so that its media address may be 127.0.0.1."""
    return urlsplit(url).hostname in LOOPBACK_HOSTS


@contextlib.contextmanager
def gathering(loopback: bool) -> Iterator[None]:
    """Candidates gathered inside include 127.0.0.1 if `loopback`. Tasks started inside inherit it."""
    token = _loopback.set(loopback)
    try:
        yield
    finally:
        _loopback.reset(token)
