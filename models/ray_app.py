"""Models on Ray Serve, for many machines: a deployment per model, and one before them that speaks the engine's wire over HTTP.

It is started by `serve run FILE` or `serve deploy FILE` (`import_path: models.ray_app:build`, `args:` as `RaySettings`; an example
is in the README). Candor's nodes attach to it by address: `models.backend = "http"`, `models.backend_url` the address of Serve.
Only this module imports ray, which lives in an environment of its own (`requirements/ray.txt`); Candor's never has it.

A replica is an engine with one model on its shelf: the same batcher, so that deadlines, turns of rooms and shedding are the same
as everywhere; Ray's `@serve.batch` has none of them. A replica whose model cannot be loaded lives, and answers `unavailable`
with the command. `user_config` of a deployment (`LiveConfig`) is changed while calls run.
"""

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

import structlog
from ray import serve
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from models import catalog, journal, wire
from models.errors import (
    DeadlineError,
    EngineGoneError,
    FailedError,
    InferenceError,
    OverloadedError,
    RefusedError,
    UnavailableError,
)
from models.inventory import described
from models.journal import Journal
from models.operations import Operations
from models.ray_settings import LiveConfig, RaySettings, ScaledModel
from models.remote import MEDIA_TYPE, PREFIX
from models.service.auth import Authority
from models.service.engine_port import EnginePort, Request
from models.service.errors import ServiceError
from models.service.settings import ServiceSettings
from models.settings import ModelSettings
from models.shelf import Shelf
from models.store import Store

CHANGE_COMMAND = "serve deploy FILE, with another user_config"
HEALTH_S = 5.0
MAX_OPEN = 1_000
"""Questions that one ingress has open; Serve's proxy holds further ones back."""
QUIET = {"enable_access_log": False}
"""A line per question is more than the question is worth."""

log = structlog.get_logger()


class Replica:
    """One model, loaded."""

    def __init__(self, name: str, settings: ModelSettings) -> None:
        os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
        self._name = name
        self._live: LiveConfig | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="candor-ray-")
        self._store = Store(settings.store_dir)
        kept = Journal(Path(self._folder.name) / journal.NAME)
        self._shelf = Shelf(catalog.load(), self._store, settings, kept)
        self._operations = Operations(self._shelf)

    async def reconfigure(self, values: dict[str, Any]) -> None:
        """Ray calls it before the first question and when `user_config` changes. What cannot be had leaves all as it was."""
        wanted, before = LiveConfig.model_validate(values), self._live
        self._live = wanted
        try:
            if before is None:
                await self._shelf.get_in(self._name, wanted.precision)
            elif wanted != before:
                await self._shelf.reload(self._name, wanted.precision)
        except InferenceError as error:
            log.error("model_unavailable", model=self._name, reason=error.message, command=error.command)
            return
        loaded = self._shelf.loaded()[self._name].version
        if wanted.version is not None and wanted.version != loaded:
            log.error("version_not_here", model=self._name, wanted=wanted.version, loaded=loaded)

    async def answer(self, operation: str, body: bytes) -> bytes:
        """The maps of the wire, in bytes: Ray need not know what is in them."""
        if operation == "stats":
            counters = {name: model.stats() for name, model in self._shelf.loaded().items()}
            return wire.encode(wire.answer(counters))
        return wire.encode(await self._operations.reply({**wire.decode(body), "op": operation}))

    async def check_health(self) -> None:
        """Ray replaces a replica in which this raises, or whose event loop does not get to it."""
        for name, model in self._shelf.loaded().items():
            if model.state == "closed":
                raise RuntimeError(f"{name} has stopped")

    async def __del__(self) -> None:
        """Ray awaits it before a replica goes."""
        await self._shelf.close()
        self._folder.cleanup()


class Ingress:
    """Speaks `models.service.engine_port` on Serve's port."""

    def __init__(self, settings: RaySettings, replicas: dict[str, DeploymentHandle]) -> None:
        self._replicas = replicas
        self._store = Store(settings.models_dir)
        per_s = settings.requests_per_s
        service = ServiceSettings(
            api_keys=settings.api_keys, requests_per_s=per_s, request_burst=max(1, round(per_s * 5))
        )
        self._port = EnginePort(Authority(service), self)

    async def __call__(self, request: HttpRequest) -> Response:
        """One of HTTP's requests."""
        prefix, _, operation = request.url.path.rpartition("/")
        if not prefix.endswith(PREFIX):
            return Response(status_code=404)
        headers = request.headers
        authorization, api_key = headers.get("Authorization", ""), headers.get("X-API-Key", "")
        asked = Request(request.method, operation, authorization, api_key, lambda most: _read(request, most))
        try:
            return Response(await self._port.answer(asked), media_type=MEDIA_TYPE)
        except ServiceError as error:
            return Response(error.problem().model_dump_json(), error.status, media_type="application/json")

    async def request(self, operation: str, fields: dict[str, Any], timeout_ms: float) -> Any:
        """`engine_port.Answering`: by a replica of the model. Raises InferenceError."""
        if operation == "stats":
            return await self._stats(timeout_ms)
        if operation != "ask" and (operation != "load" or fields.get("precision") is not None):
            raise RefusedError(f"on Ray Serve models are changed by: {CHANGE_COMMAND}")
        name = str(fields.get("model"))
        if name not in self._replicas:
            raise self._not_deployed(name)
        return wire.result_of(await self._ask(self._replicas[name], operation, fields, timeout_ms))

    def _not_deployed(self, name: str) -> UnavailableError:
        known = self._store.find(name) is not None
        reason = f"{name} is not deployed on Ray Serve" if known else f"no model {name!r}"
        return UnavailableError(reason, "serve deploy FILE, with the model in it" if known else "candor models list")

    async def _stats(self, timeout_ms: float) -> dict[str, Any]:
        """Of each model the counters of one replica: Serve chooses which."""
        asked = [self._ask(replica, "stats", {}, timeout_ms) for replica in self._replicas.values()]
        told: dict[str, Any] = {}
        for answer in await asyncio.gather(*asked):
            told.update(wire.result_of(answer))
        return told

    async def _ask(
        self, replica: DeploymentHandle, operation: str, fields: dict[str, Any], timeout_ms: float
    ) -> dict[str, Any]:
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return wire.decode(await replica.answer.remote(operation, wire.encode(fields)))
        except TimeoutError as error:
            raise DeadlineError("no replica answered before the deadline") from error
        except BackPressureError as error:
            raise OverloadedError("more is asked of this model than its replicas can answer") from error
        except (RayActorError, DeploymentUnavailableError) as error:
            raise EngineGoneError("the replica died; Ray Serve starts another") from error
        except RayError as error:
            raise FailedError(type(error).__name__) from error

    async def models(self) -> dict[str, Any]:
        """`engine_port.Answering`: what the store has, of the models that are deployed."""
        told = await described(self._store)
        for name in [name for name in told["versions"] if name not in self._replicas]:
            del told["versions"][name]
            error = self._not_deployed(name)
            told["missing"][name] = (error.message, error.command)
        return told


def build(settings: RaySettings) -> serve.Application:
    """The application, for `serve run` and `serve deploy`."""
    shared = ModelSettings(
        models_dir=settings.models_dir,
        max_queued=settings.max_queued,
        pocketsphinx_decoders=settings.pocketsphinx_decoders,
    )
    replicas = {model.name: _deployment(model, shared) for model in settings.models}
    ingress = serve.deployment(
        Ingress,
        name="candor",
        num_replicas=settings.ingress_replicas,
        max_ongoing_requests=MAX_OPEN,
        ray_actor_options={"num_cpus": 0},
        logging_config=QUIET,
    )
    return ingress.bind(settings, replicas)


def _deployment(model: ScaledModel, settings: ModelSettings) -> serve.Application:
    """Serve hands a replica as much as its batcher holds, and a little more, so that the batcher does the shedding."""
    deployment = serve.deployment(
        Replica,
        name=model.name,
        max_ongoing_requests=2 * settings.max_queued,
        autoscaling_config={
            "min_replicas": model.min_replicas,
            "max_replicas": model.max_replicas,
            "target_ongoing_requests": model.target_ongoing,
        },
        user_config=model.live.model_dump(),
        health_check_period_s=HEALTH_S,
        logging_config=QUIET,
        ray_actor_options={"num_cpus": model.num_cpus, "num_gpus": model.num_gpus},
    )
    return deployment.bind(model.name, settings)


async def _read(request: HttpRequest, most: int) -> bytes:
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > most:
            raise ServiceError(413, "too_large", f"more than {most} bytes")
    return bytes(content)
