"""Keeps a machine's lease. It runs beside the processes that have the work: one of them may die and come back in between."""

import asyncio
import contextlib

import structlog

from signaling.cluster.settings import ClusterSettings
from signaling.cluster.store import Store, StoreError

log = structlog.get_logger()


class Membership:
    """This machine's place among the others, from `start` to `close`."""

    def __init__(self, settings: ClusterSettings, url: str) -> None:
        """`settings` as prepared; `url`: where clients reach this machine. Raises ValueError if Redis' address cannot be read."""
        self._settings = settings
        self._url = url
        self._store = Store(settings)
        self._in_touch: bool | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to renew the lease."""
        self._task = asyncio.create_task(self._renew(), name="cluster-membership")

    async def close(self) -> None:
        """Give the lease back, so that nobody has to wait for its end. Idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with contextlib.suppress(StoreError):
            await self._store.resign()
        await self._store.close()

    async def _renew(self) -> None:
        while True:
            try:
                alone = await self._store.renew(self._url)
            except StoreError as error:
                self._set_in_touch(False, str(error))
            else:
                if not alone and self._in_touch:
                    log.error("node_id_taken", node=self._settings.node_id)
                self._set_in_touch(True)
            await asyncio.sleep(self._settings.beat_s)

    def _set_in_touch(self, in_touch: bool, error: str = "") -> None:
        if in_touch is self._in_touch:
            return
        self._in_touch = in_touch
        if in_touch:
            log.info("cluster_joined", node=self._settings.node_id)
        else:
            log.warning("cluster_out_of_touch", node=self._settings.node_id, error=error)
