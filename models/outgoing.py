"""The one way by which a server of ours fetches an address that somebody else has told it.

https alone, hosts of an allow-list alone, no address that is not public; checked again at each redirect, and the connection goes to
the very address that was checked, so a name that resolves to something else a moment later changes nothing (OWASP, Server-Side
Request Forgery Prevention). What is sent has no cookies and no credentials; what comes is capped in bytes and in time.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

CHUNK_BYTES = 1 << 16
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_EMBEDDED = tuple((ipaddress.ip_network(net), shift) for net, shift in (("64:ff9b::/96", 0), ("2002::/16", 80)))
"""Blocks of IPv6 in which an IPv4 address lies, so many bits from the right (RFC 6052, RFC 3056)."""

Resolve = Callable[[str, int], Awaitable[Iterable[str]]]


class OutgoingError(Exception):
    """An address may not be fetched, or did not give what it should; the message says why."""


@dataclass(frozen=True, slots=True)
class OutgoingRules:
    """What may be fetched."""

    hosts: frozenset[str]
    """Names, in lower case. None of them: nothing may be fetched."""
    max_bytes: int
    timeout_s: float
    """For everything, redirects and body included."""
    max_redirects: int = 3


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet, also where an IPv4 address hides in one of IPv6."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        for network, shift in _EMBEDDED:
            if ip in network:
                return is_public(str(ipaddress.IPv4Address(int(ip) >> shift & 0xFFFFFFFF)))
    return ip.is_global and not ip.is_multicast


async def system_resolve(host: str, port: int) -> list[str]:
    """What the system's resolver says. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Outgoing:
    """Fetches by rules. `resolve`, `allowed` and `tls` are for tests, which have no public address."""

    def __init__(
        self,
        rules: OutgoingRules,
        resolve: Resolve = system_resolve,
        allowed: Callable[[str], bool] = is_public,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._rules = rules
        self._resolve = resolve
        self._allowed = allowed
        self._tls = tls

    async def fetch(self, url: str, take: Callable[[bytes], None]) -> int:
        """Give the body of `url` to `take` in pieces; returns its length in bytes. Raises OutgoingError, and what `take` raises.

        After an error what was taken is worth nothing.
        """
        try:
            async with asyncio.timeout(self._rules.timeout_s):
                return await self._follow(url, take)
        except TimeoutError as error:
            raise OutgoingError(f"it took longer than {self._rules.timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise OutgoingError(f"it cannot be fetched: {type(error).__name__}") from error

    async def _follow(self, url: str, take: Callable[[bytes], None]) -> int:
        target = _parsed(url)
        for _ in range(self._rules.max_redirects + 1):
            connector = aiohttp.TCPConnector(resolver=_Checked(await self._addresses(target)), use_dns_cache=False)
            # A session for each hop: nothing of one host is told to the next.
            async with (
                aiohttp.ClientSession(
                    connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
                ) as session,
                session.get(
                    target,
                    allow_redirects=False,
                    ssl=self._tls if self._tls is not None else True,
                    headers={"User-Agent": "candor", "Accept-Encoding": "identity"},
                ) as response,
            ):
                if response.status not in REDIRECTS:
                    return await self._body(response, take)
                try:
                    target = _parsed(str(target.join(URL(response.headers.get("Location", "")))))
                except ValueError as error:
                    raise OutgoingError("it redirects to what is no address") from error
        raise OutgoingError(f"more than {self._rules.max_redirects} redirects")

    async def _addresses(self, target: URL) -> list[str]:
        """Where a host is, if that may be asked. One address that may not spoils the others: honest hosts have none."""
        host = (target.host or "").rstrip(".").lower()
        if target.scheme != "https":
            raise OutgoingError("https only")
        if target.user is not None or target.password is not None:
            raise OutgoingError("an address with a name or password in it")
        if host not in self._rules.hosts:
            raise OutgoingError("its host is not on the list of those that may be asked")
        addresses = list(await self._resolve(host, target.port or 443))
        if not addresses or not all(self._allowed(address) for address in addresses):
            raise OutgoingError("its host is not at a public address")
        return addresses

    async def _body(self, response: aiohttp.ClientResponse, take: Callable[[bytes], None]) -> int:
        if response.status != 200:
            raise OutgoingError(f"HTTP {response.status}")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise OutgoingError("a compressed answer, which was not asked for")
        limit = self._rules.max_bytes
        if (response.content_length or 0) > limit:
            raise OutgoingError(f"more than {limit} bytes")
        length = 0
        async for piece in response.content.iter_chunked(CHUNK_BYTES):
            length += len(piece)
            if length > limit:
                raise OutgoingError(f"more than {limit} bytes")
            take(piece)
        return length


class _Checked(AbstractResolver):
    """Knows the addresses that were checked, and no others."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self._addresses = list(addresses)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """All of them."""
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


def _parsed(url: str) -> URL:
    """Raises OutgoingError."""
    try:
        return URL(url)
    except (ValueError, TypeError) as error:
        raise OutgoingError("that is no address") from error
