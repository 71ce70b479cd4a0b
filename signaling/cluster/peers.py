"""Asks the other machines whether they see Redis: if one does and we do not, it is us who are cut off."""

import asyncio
from collections.abc import Iterable

import aiohttp

PATH = "/api/v1/health/cluster"


class Peers:
    """Questions to other machines, over the addresses that clients use, too."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s

    async def redis_is_gone(self, urls: Iterable[str]) -> bool:
        """Whether every other machine says that it does not see Redis either. One that does not answer has not said so."""
        limit = aiohttp.ClientTimeout(total=self._limit_s)
        async with aiohttp.ClientSession(timeout=limit) as http:
            answers = await asyncio.gather(*(self._sees_redis(http, url) for url in urls))
        return all(sees is False for sees in answers)

    async def _sees_redis(self, http: aiohttp.ClientSession, url: str) -> bool | None:
        """None: no answer."""
        try:
            async with http.get(f"{url}{PATH}", allow_redirects=False) as response:
                answer = await response.json() if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None
        sees = answer.get("redis") if isinstance(answer, dict) else None
        return sees if isinstance(sees, bool) else None
