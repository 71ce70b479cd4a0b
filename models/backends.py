"""Whom a host of meetings asks: the engine of its node, or one elsewhere, as the settings say."""

from pathlib import Path

from models.client import InferenceClient
from models.inventory import Inventory
from models.settings import ModelSettings
from models.store import Store


def connect(settings: ModelSettings, engine: Path) -> tuple[InferenceClient, Inventory]:
    """A client that is not started yet, and what its engine has. `engine`: the socket of the node's own."""
    if settings.backend == "local" or settings.backend_url is None:
        return InferenceClient(engine), Store(settings.store_dir)
    from models.remote import HttpTransport  # brings aiohttp, which a host needs for nothing else

    key = settings.backend_key.get_secret_value() if settings.backend_key else ""
    transport = HttpTransport(settings.backend_url, key)
    return InferenceClient(transport), transport.inventory
