"""A service in the process of the test."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from models import shelf as shelf_module
from models.catalog import ModelEntry
from models.engine import SOCKET_NAME, Engine
from models.errors import UnavailableError
from models.service.server import ModelService
from models.service.settings import ServiceSettings
from models.settings import ModelSettings
from models.store import Located, Missing, Store
from tests.unit.service import kit
from tests.unit.service.kit import Http, Runner
from tests.until import until


class HereStore(Store):
    """Has the models that the test runs, at version 1."""

    def __init__(self, root: Path, here: Mapping[str, Runner]) -> None:
        super().__init__(root)
        self.here = here
        self.version = "1"
        self.earlier: list[str] = []
        self.tuned: dict[str, Any] = {}
        """In what precision each model was loaded last."""

    def locate(self, entry: ModelEntry, version: str | None = None) -> Any:
        if entry.name not in self.here:
            return super().locate(entry, version)
        if version not in (None, self.version, *self.earlier):
            return Missing(f"its version {version} is not here", f"candor models pull {entry.name}")
        return Located(self.root, version or self.version)

    def versions(self, entry: ModelEntry) -> list[str]:
        return [self.version, *self.earlier] if entry.name in self.here else super().versions(entry)


@pytest.fixture
def runners() -> dict[str, Runner]:
    return kit.runners()


@pytest.fixture
def store(tmp_path: Path, runners: dict[str, Runner], monkeypatch: pytest.MonkeyPatch) -> HereStore:
    store = HereStore(tmp_path / "store", runners)
    store.root.mkdir()

    def create(
        entry: ModelEntry, _: Store, __: ModelSettings, tuned: Any = None, version: Any = None
    ) -> tuple[Runner, str]:
        store.tuned[entry.name] = tuned
        version = version or store.version
        if entry.name not in runners:
            raise kit.missing(entry.name)
        if isinstance(found := store.locate(entry, version), Missing):
            raise UnavailableError(found.reason, found.command)
        return runners.get(f"{entry.name}@{version}", runners[entry.name]), version

    monkeypatch.setattr(shelf_module, "create_runner", create)
    return store


@pytest.fixture
async def engine(tmp_path: Path, store: HereStore) -> AsyncIterator[Engine]:
    engine = Engine(tmp_path / SOCKET_NAME, ModelSettings(models_dir=store.root), store=store)
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture
def options() -> dict[str, Any]:
    """Of the settings of the service; a test may ask for others by parametrize."""
    return {}


@pytest.fixture
async def service(
    tmp_path: Path, store: HereStore, engine: Engine, options: dict[str, Any]
) -> AsyncIterator[ModelService]:
    settings = ModelSettings(models_dir=store.root, service=ServiceSettings(port=0, **options))
    service = ModelService(settings, tmp_path / SOCKET_NAME, store)
    await service.start()
    http = Http(service.url)

    async def not_ready() -> str:
        return "" if (await http("GET", "/api/v1/health/ready"))[0] == 200 else "the service to be ready"

    await until(not_ready)
    yield service
    await service.close()


@pytest.fixture
def http(service: ModelService) -> Http:
    return Http(service.url)
