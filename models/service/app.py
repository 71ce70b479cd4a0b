"""The application: keys, bodies, errors and headers around the handlers, from the table of routes."""

import math
import re
import traceback
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pydantic import BaseModel

from models.service import bodies
from models.service.auth import Authority
from models.service.errors import ServiceError
from models.service.handlers import Call, Handlers
from models.service.messages import Health
from models.service.routes import ROUTES, Route
from models.service.settings import ServiceSettings, is_loopback

HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
_PASSED_ON = re.compile(r"(x-forwarded-.*|x-real-ip|forwarded|via)$", re.IGNORECASE)
"""RFC 7239, section 4; RFC 9110, section 7.6.3; and what came before them."""
_HTTP_CODES = {404: "no_such_route", 405: "wrong_method", 413: "too_large"}

log = structlog.get_logger()

Answering = Callable[[Call], Awaitable[BaseModel | web.Response]]


def create_app(settings: ServiceSettings, authority: Authority, handlers: Handlers) -> web.Application:
    """The whole application."""
    app = web.Application(middlewares=[_errors, _strangers(settings)], client_max_size=settings.max_body_bytes)
    app.on_response_prepare.append(_add_headers)
    intake = bodies.Intake(settings)
    for route in ROUTES:
        answering: Answering = getattr(handlers, route.name)
        app.router.add_route(route.method, route.path, _handler(route, authority, intake, answering))
    return app


def _handler(route: Route, authority: Authority, intake: bodies.Intake, answering: Answering) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        path = dict(request.match_info)
        if route.scope is None:
            caller = authority.nobody()
        else:
            caller = authority.caller(request.headers.get("Authorization", ""), request.headers.get("X-API-Key", ""))
            caller.demand(route.scope)
            authority.charge(caller)
        if route.body is None:
            return _response(await answering(Call(caller, path, None)), route.status)
        with intake.room(request):
            body = await intake.read(request, route.body, multipart=route.multipart)
            return _response(await answering(Call(caller, path, body)), route.status)

    return handle


def _response(answer: BaseModel | web.Response, status: int) -> web.Response:
    if isinstance(answer, web.Response):
        return answer
    if isinstance(answer, Health) and answer.status in ("starting", "down"):
        status = 503
    return web.Response(status=status, text=answer.model_dump_json(), content_type=bodies.JSON)


def _refused(error: ServiceError) -> web.Response:
    headers = {"Retry-After": str(math.ceil(error.retry_s))} if error.retry_s > 0 else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    text = error.problem().model_dump_json()
    return web.Response(status=error.status, text=text, content_type=bodies.JSON, headers=headers)


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error is a `Problem`. A mistake of ours is logged by its place alone: a request may hold what somebody said."""
    try:
        return await handler(request)
    except ServiceError as error:
        return _refused(error)
    except web.HTTPException as error:
        code = _HTTP_CODES.get(error.status, "bad_request")
        return _refused(ServiceError(error.status, code, error.reason.lower()))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        log.error("http_failed", error=type(error).__name__, where=f"{place.filename}:{place.lineno}")
        return _refused(ServiceError(500, "internal", "something went wrong in the service"))


def _strangers(settings: ServiceSettings) -> Middleware:
    """No page of another origin may ask: it would with the rights of whoever opened it, which on this computer are all.

    While we listen on loopback only, names that are not this computer's are refused too (DNS rebinding). While nobody needs a
    key, so is what a proxy tells to have passed on: it may come from anywhere. One that tells nothing is not noticed.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        if origin is not None and _place(origin) != request.host:
            raise ServiceError(403, "wrong_origin", "pages of another origin may not ask")
        if settings.loopback and not is_loopback(_name(request.host)):
            raise ServiceError(421, "wrong_host", "unknown host name")
        if settings.open and any(_PASSED_ON.match(name) for name in request.headers):
            raise ServiceError(
                403, "key_needed", "a proxy passed this on: with one, keys are needed", command="candor models key NAME"
            )
        return await handler(request)

    return check


def _place(origin: str) -> str:
    """Empty if it is no address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers[name] = value
