"""What a server needs beside itself: models, Redis, a TURN relay."""

from bots.relay import RelayError, relayed_address
from candor.doctor.line import Line
from candor.settings import Settings
from models import catalog
from models.store import CorruptModelError, Missing, Store
from signaling.cluster.store import Store as ClusterStore
from signaling.cluster.store import StoreError
from signaling.rooms import Rooms
from signaling.turn import IceServers


def models(settings: Settings) -> list[Line]:
    """Which of the default models are here. Hashes are compared by `candor models verify`."""
    if settings.models.backend != "local":
        return [Line("ok", "models", f"asked elsewhere ({settings.models.backend})")]
    store = Store(settings.models.store_dir)
    try:
        store.lock()
    except CorruptModelError as error:
        return [Line("fix", "models", str(error), "candor models pull")]
    here, missing = [], []
    for entry in catalog.load().model:
        if entry.by_default and entry.runner:
            located = store.locate(entry)
            if isinstance(located, Missing):
                missing.append(Line("note", f"model {entry.name}", located.reason, located.command))
            else:
                here.append(entry.name)
    if not here:
        return [Line("note", "models", "none of the default ones is here"), *missing]
    return [Line("ok", "models", f"here: {', '.join(here)}"), *missing]


async def redis(settings: Settings) -> list[Line]:
    """Whether it answers, and how fast."""
    if settings.cluster.redis_url is None:
        return [Line("note", "Redis", "not configured: one machine")]
    store = ClusterStore(settings.cluster)
    try:
        await store.ping()
    except StoreError as error:
        return [Line("fix", "Redis", str(error), "start it, or mend cluster.redis_url")]
    finally:
        await store.close()
    return [Line("ok", "Redis", "answers")]


async def turn(settings: Settings) -> list[Line]:
    """Whether the relay gives a relayed address for the credentials that clients get."""
    relay = settings.signaling.turn
    if not relay.urls:
        return [Line("note", "TURN", "not configured: who cannot be reached by UDP has no media", "deploy/README.md")]
    *_, server = IceServers([], relay, Rooms()).of("doctor")
    try:
        address = await relayed_address(server)
    except RelayError as error:
        remedy = "the same secret in coturn (static-auth-secret) and in signaling.turn.secret; its port open"
        return [Line("fix", "TURN", f"{relay.urls[0]}: {error}", remedy)]
    return [Line("ok", "TURN", f"{relay.urls[0]} relays by {address}")]
