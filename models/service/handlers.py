"""What each route does. Parsing, keys and errors are `app`'s."""

import asyncio
import secrets
import time
from dataclasses import dataclass
from typing import TypeVar

import structlog
from aiohttp import web
from pydantic import BaseModel, ValidationError

from models.client import InferenceClient
from models.errors import InferenceError
from models.service import metrics, openapi, tasks
from models.service.asking import Asker, Desk
from models.service.auth import Authority, Caller
from models.service.changes import Changes
from models.service.deployments import Deployments
from models.service.errors import ServiceError, from_validation
from models.service.messages import (
    BatchAnswer,
    BatchRequest,
    BatchResult,
    Deleted,
    DeployRequest,
    Health,
    HealthDetails,
    HealthState,
    InferenceAnswer,
    InferenceRequest,
    ModelList,
    ModelStatus,
    ScaleRequest,
    UpdateRequest,
)
from models.service.metrics import Metrics
from models.service.statuses import Statuses, Told
from models.store import Store

B = TypeVar("B", bound=BaseModel)

audit = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(0)).bind(audit=True)
"""Who changed what; not silenced by any log level."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request of somebody who may make it."""

    caller: Caller
    path: dict[str, str]
    body: BaseModel | None


class Handlers:
    """By the names that `routes` has for them."""

    def __init__(
        self,
        store: Store,
        client: InferenceClient,
        desk: Desk,
        deployments: Deployments,
        changes: Changes,
        authority: Authority,
        counted: Metrics,
    ) -> None:
        self._store = store
        self._client = client
        self._desk = desk
        self._deployments = deployments
        self._changes = changes
        self._authority = authority
        self._metrics = counted
        self._statuses = Statuses(store, desk, deployments)
        self._began_s = time.monotonic()
        self._was_ready = False

    async def models(self, call: Call) -> ModelList:
        """Every model."""
        del call
        told = await self._told()
        return ModelList(models=await asyncio.to_thread(self._statuses.all, told, self._client.connected))

    async def status(self, call: Call) -> ModelStatus:
        """One model."""
        return await self._status(call.path["model_id"])

    async def deploy(self, call: Call) -> ModelStatus:
        """Load a model and keep it."""
        config = _body(call, DeployRequest).config

        async def change() -> None:
            version = await self._deployments.deploy(config)
            audit.info("model_deployed", caller=call.caller.id, model=config.model_id, version=version)

        await self._changes.make(change())
        return await self._status(config.model_id)

    async def update(self, call: Call) -> ModelStatus:
        """Exchange a model."""
        model_id, wanted = call.path["model_id"], _body(call, UpdateRequest)

        async def change() -> None:
            version = await self._deployments.update(model_id, wanted)
            told = wanted.model_dump(include={"traffic_split", "shadow", "rollback"}, exclude_defaults=True)
            audit.info("model_updated", caller=call.caller.id, model=model_id, version=version, **told)

        await self._changes.make(change())
        return await self._status(model_id)

    async def scale(self, call: Call) -> ModelStatus:
        """To none or one."""
        model_id, replicas = call.path["model_id"], _body(call, ScaleRequest).replicas

        async def change() -> None:
            await self._deployments.scale(model_id, replicas)
            audit.info("model_scaled", caller=call.caller.id, model=model_id, replicas=replicas)

        await self._changes.make(change())
        return await self._status(model_id)

    async def delete(self, call: Call) -> Deleted:
        """Answer no more for a model."""
        model_id = call.path["model_id"]

        async def change() -> None:
            await self._deployments.delete(model_id)
            audit.info("model_deleted", caller=call.caller.id, model=model_id)

        await self._changes.make(change())
        return Deleted(model_id=model_id, state="stopped")

    async def inference(self, call: Call) -> InferenceAnswer:
        """Ask the model of the path."""
        request = _body(call, InferenceRequest)
        if request.parameters.model is not None:
            raise ServiceError(422, "bad_request", "parameters.model: the path names the model")
        return await self._ask(call.caller, call.path["model_id"], request, _until(request.timeout))

    async def task(self, call: Call) -> InferenceAnswer:
        """Ask the model that is chosen for a task."""
        request = _body(call, InferenceRequest)
        until_s = _until(request.timeout)
        task = tasks.task_of(call.path["task_type"], request.input_data)
        entry = await asyncio.to_thread(tasks.choose, self._store, task, request.parameters)
        return await self._ask(call.caller, entry.name, request, until_s)

    async def batch_inference(self, call: Call) -> BatchAnswer:
        """Ask the model of the path much. Every item is charged to the caller's rate."""
        batch, model_id = _body(call, BatchRequest), call.path["model_id"]
        entry = await asyncio.to_thread(tasks.find, self._store, model_id)
        self._deployments.check(entry)
        self._authority.charge(call.caller, len(batch.requests) - 1)
        until_s = _until(batch.timeout)
        asking = [self._item(call.caller, model_id, index, item, until_s) for index, item in enumerate(batch.requests)]
        results = await asyncio.gather(*asking)
        failed = sum(result.error is not None for result in results)
        result = "ok" if not failed else "failed" if failed == len(results) else "partial"
        self._metrics.batches.labels(entry.name, result).inc()
        return BatchAnswer(model_id=model_id, succeeded=len(results) - failed, failed=failed, results=list(results))

    async def _item(self, caller: Caller, model_id: str, index: int, values: object, until_s: float) -> BatchResult:
        try:
            request = _item(values)
            until_s = min(until_s, _until(request.timeout))
            return BatchResult(index=index, answer=await self._ask(caller, model_id, request, until_s))
        except ServiceError as error:
            return BatchResult(index=index, error=error.problem())

    async def _ask(self, caller: Caller, model_id: str, request: InferenceRequest, until_s: float) -> InferenceAnswer:
        entry = await asyncio.to_thread(tasks.find, self._store, model_id)
        self._deployments.check(entry)
        caller_id, request_id = f"service:{caller.id}", f"service-{secrets.token_hex(8)}"
        track = request.parameters.track
        track_id = f"{caller_id}:{track}" if track else request_id
        asker = Asker(caller_id, request_id, until_s, request.priority, track_id)
        return await self._desk.answer(entry, request.input_data, request.parameters, asker)

    async def _status(self, model_id: str) -> ModelStatus:
        entry = await asyncio.to_thread(tasks.find, self._store, model_id)
        told = await self._told()
        return await asyncio.to_thread(self._statuses.one, entry, told, self._client.connected)

    async def _told(self) -> Told:
        """What the engine tells of its models; nothing while it is gone."""
        try:
            return await self._client.stats()
        except InferenceError:
            return {}

    async def health(self, call: Call) -> Health:
        """As `ready`."""
        return await self.ready(call)

    async def live(self, call: Call) -> Health:
        """The service answers: it lives."""
        del call
        return Health(status="ok")

    async def ready(self, call: Call) -> Health:
        """The engine is there, and has everything that was deployed, or tried to."""
        del call
        return Health(status=self._state())

    async def startup(self, call: Call) -> Health:
        """It has been ready once."""
        del call
        self._state()
        return Health(status="ok" if self._was_ready else "starting")

    async def detailed(self, call: Call) -> HealthDetails:
        """Why."""
        del call
        told, connected = await self._told(), self._client.connected
        return HealthDetails(
            status=self._state(),
            engine="connected" if connected else "gone",
            uptime_s=round(time.monotonic() - self._began_s, 1),
            engine_losses=self._deployments.losses,
            models=await asyncio.to_thread(self._statuses.deployed, told, connected),
        )

    def _state(self) -> HealthState:
        if self._client.connected and self._deployments.restored:
            self._was_ready = True
            return "degraded" if self._deployments.failed else "ok"
        return "down" if self._was_ready else "starting"

    async def metrics(self, call: Call) -> web.Response:
        """For Prometheus."""
        del call
        page = self._metrics.page(await self._told(), self._deployments.kept_loaded, self._desk.waiting())
        return web.Response(body=page, headers={"Content-Type": metrics.CONTENT_TYPE})

    async def openapi(self, call: Call) -> web.Response:
        """The document."""
        del call
        return web.json_response(text=openapi.text())


def _until(timeout_s: float) -> float:
    return asyncio.get_running_loop().time() + timeout_s


def _item(values: object) -> InferenceRequest:
    try:
        return InferenceRequest.model_validate(values)
    except ValidationError as error:
        raise from_validation(error) from error


def _body(call: Call, kind: type[B]) -> B:
    """The body, which `app` has read as the kind that `routes` says."""
    return kind.model_validate(call.body)
