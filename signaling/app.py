"""The HTTP side: the web client, `/api/v1/config`, health, security headers; Socket.IO is attached to the same app."""

import traceback
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from signaling.gateway import Gateway
from signaling.media import MediaPlane
from signaling.settings import SignalingSettings, is_loopback
from signaling.turn import IceServers

# connect-src names ws: and wss: because Safari does not count a WebSocket to the own host as 'self'.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "connect-src 'self' ws: wss:",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "style-src 'self'",
        "script-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(self), display-capture=(self)",
}
log = structlog.get_logger()

NOT_BUILT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Candor</title>
<h1>The web client is not built</h1>
<p>Build it with <code>make run</code>, or with <code>npm ci &amp;&amp; npm run build</code> in <code>web/</code>,
then reload this page. Expected in <code>{place}</code>.</p></html>
"""


def create_app(
    settings: SignalingSettings, gateway: Gateway, media: MediaPlane, ice: IceServers, web_root: Path, version: str
) -> web.Application:
    """The whole application. `web_root` is the folder of the built web client; it need not exist."""
    app = web.Application(
        middlewares=[_report_mistakes, _host_check(settings)], client_max_size=settings.max_message_bytes
    )
    app.on_response_prepare.append(_add_headers)
    _Api(settings, media, ice, version).attach(app)
    gateway.attach(app)
    _Pages(web_root).attach(app)
    return app


class _Api:
    """REST, as far as a client needs it before it joins."""

    def __init__(self, settings: SignalingSettings, media: MediaPlane, ice: IceServers, version: str) -> None:
        self._settings = settings
        self._media = media
        self._ice = ice
        self._version = version

    def attach(self, app: web.Application) -> None:
        app.router.add_get("/api/v1/config", self._config)
        app.router.add_get("/api/v1/health/live", self._live)
        app.router.add_get("/api/v1/health/ready", self._ready)

    async def _config(self, _: web.Request) -> web.Response:
        """What a page needs before it joins. ICE servers come without credentials here; `join` brings those."""
        settings = self._settings
        secure = settings.public_url if (settings.public_url or "").startswith("https:") else ""
        body = {
            "open_rooms": settings.open_rooms,
            "demo_room": settings.demo_room,
            "secure_hint": secure,
            "ice_servers": [{"urls": urls} for urls in self._ice.public()],
            "version": self._version,
        }
        return web.json_response(body, headers={"Cache-Control": "no-store"})

    async def _live(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _ready(self, _: web.Request) -> web.Response:
        workers = self._media.ready_workers
        status = {"status": "ok" if workers else "starting", "ready_workers": workers}
        return web.json_response(status, status=200 if workers else 503)


class _Pages:
    """The built web client: one page, hashed assets, and a few files beside them."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def attach(self, app: web.Application) -> None:
        app.router.add_get("/", self._index)
        app.router.add_get("/r/{room}", self._index)
        app.router.add_get("/assets/{name}", self._asset)
        app.router.add_get("/{name}", self._file)

    async def _index(self, _: web.Request) -> web.StreamResponse:
        page = self._root / "index.html"
        if page.is_file():
            return web.FileResponse(page, headers={"Cache-Control": "no-cache"})
        text = NOT_BUILT.format(place=escape(f"{self._root.parent.name}/{self._root.name}/"))
        return web.Response(text=text, content_type="text/html", status=503)

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        forever = {"Cache-Control": "public, max-age=31536000, immutable"}  # names carry a hash of the content
        return self._send(self._root / "assets", request.match_info["name"], forever)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return self._send(self._root, request.match_info["name"], {"Cache-Control": "no-cache"})

    def _send(self, folder: Path, name: str, headers: dict[str, str]) -> web.StreamResponse:
        """A file directly in `folder`; the name is only compared with what lies there, never joined to a path."""
        found = next((one for one in folder.glob("*") if one.name == name and one.is_file()), None)
        if found is None:
            raise web.HTTPNotFound
        return web.FileResponse(found, headers=headers)


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers[name] = value


@web.middleware
async def _report_mistakes(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A mistake of ours is logged by its place alone: what aiohttp would log names the client's address and its headers."""
    try:
        return await handler(request)
    except web.HTTPException:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        log.error("http_failed", error=type(error).__name__, where=f"{place.filename}:{place.lineno}")
        return web.Response(status=500, text="something went wrong on the server\n")


def host_name(host: str) -> str:
    """The name in a Host header, without its port; empty for one that cannot be read."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _host_check(settings: SignalingSettings) -> Middleware:
    """While we listen on loopback only, refuse names that are not ours.

    Otherwise a page anywhere could point its own name to 127.0.0.1 (DNS rebinding) and be the "same origin".
    """
    urls = [*settings.allowed_origins, settings.public_url or ""]
    names = {urlsplit(url).hostname for url in urls if url}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        name = host_name(request.host)
        if settings.loopback and not is_loopback(name) and name not in names:
            raise web.HTTPMisdirectedRequest(text="unknown host name; set public_url\n")
        return await handler(request)

    return check
