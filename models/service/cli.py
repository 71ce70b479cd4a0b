"""Commands that ask a model service over HTTP (`candor models status`, `infer`, `deploy`, `scale`, `split`, `rollback`), and `key`
and `token`: who may ask it."""

import argparse
import asyncio
import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import ValidationError

from models.precision import PRECISIONS
from models.service.auth import mint, new_key
from models.service.settings import SCOPES, ServiceSettings
from models.service.tasks import TASK_TYPES

COMMANDS = frozenset({"status", "infer", "deploy", "scale", "split", "rollback", "key", "token"})
PICTURES = frozenset({".jpg", ".jpeg", ".png"})
EXTRA_S = 10.0
"""How much longer than the time-out of a question the client waits for the service to say that it passed."""
DEPLOY_S = 130.0


class ClientError(Exception):
    """The service cannot be asked, or refuses; the message says why."""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands to those of `models`. `serve` is run by whoever can start an engine."""
    serve = commands.add_parser("serve", help="serve models over HTTP until interrupted")
    serve.add_argument("--host", help="address to listen on (default 127.0.0.1; others need a key)")
    serve.add_argument("--port", type=int, help="default 8090")
    serve.add_argument("--engine", type=Path, help="the socket of an engine that runs; without it one is started")
    status = commands.add_parser("status", help="ask a model service about its models")
    status.add_argument("name", nargs="?", help="all it tells of one model; without it a line of each")
    _add_infer(commands)
    deploy = commands.add_parser("deploy", help="have a model service load a model and keep it")
    deploy.add_argument("name", help="as `candor models status` shows it")
    deploy.add_argument("--version", default="latest", help="refused unless the store of the service has it")
    deploy.add_argument("--precision", choices=PRECISIONS, help="of models that have a choice")
    scale = commands.add_parser("scale", help="have a model service stop a model (0) or start it (1)")
    scale.add_argument("name")
    scale.add_argument("replicas", type=int)
    split = commands.add_parser("split", help="have a model service ask two versions of a model; VERSION=1 ends that")
    split.add_argument("name")
    split.add_argument("share", nargs="*", type=_share, metavar="VERSION=WEIGHT", help="they sum to 1")
    split.add_argument("--shadow", metavar="VERSION", help="asked as well and shown nobody; '' for none")
    split.add_argument("--sticky", choices=("track", "room"), help="what stays with its version")
    rollback = commands.add_parser(
        "rollback", help="have a model service end a split, or go back to the version before"
    )
    rollback.add_argument("name")
    key = commands.add_parser("key", help="make an API key, and the lines of configuration that let it in")
    key.add_argument("name", help="of the program that will use it; it is logged")
    token = commands.add_parser("token", help="sign a token with the secret of the service")
    token.add_argument("--ttl-s", type=int, default=3600, help="validity in seconds (default one hour)")
    for parser in (key, token):
        parser.add_argument(
            "--scope", action="append", choices=SCOPES, help="may be repeated (default: read and infer)"
        )


def _share(text: str) -> tuple[str, float]:
    version, _, weight = text.rpartition("=")
    return version, float(weight)


def _add_infer(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    infer = commands.add_parser("infer", help="ask a model service")
    infer.add_argument("name", help=f"a model, or a task: {', '.join(TASK_TYPES)}")
    what = infer.add_mutually_exclusive_group(required=True)
    what.add_argument("--text")
    what.add_argument("--file", type=Path, help="JPEG or PNG; everything else is sent as sound")
    infer.add_argument("--language", help="ISO 639-1; a text's must be told")
    infer.add_argument("--timeout", type=float, default=30.0, help="seconds (default %(default)s)")
    infer.add_argument("--priority", default="normal", choices=("low", "normal", "high"))
    infer.add_argument("--out", type=Path, help="where the sound or picture that comes back is written")


def run(arguments: argparse.Namespace, settings: ServiceSettings) -> int:
    """Do what was asked. Returns the exit status."""
    try:
        match arguments.models_command:
            case "key":
                return _key(arguments)
            case "token":
                return _token(arguments, settings)
            case _:
                return asyncio.run(over_http(arguments, settings))
    except (ClientError, ValidationError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _key(arguments: argparse.Namespace) -> int:
    key, kept = new_key(arguments.name, arguments.scope or list(SCOPES[:2]))
    sys.stdout.write(
        f"# Shown once: {key}\n"
        "[[models.service.api_keys]]\n"
        f"id = {json.dumps(kept.id)}\n"
        f"sha256 = {json.dumps(kept.sha256)}\n"
        f"scopes = {json.dumps(kept.scopes)}\n"
    )
    return 0


def _token(arguments: argparse.Namespace, settings: ServiceSettings) -> int:
    if settings.secret is None:
        raise ClientError("set CANDOR_SIGNALING__SECRET or CANDOR_MODELS__SERVICE__SECRET, as the service has it")
    scopes = arguments.scope or list(SCOPES[:2])
    sys.stdout.write(f"{mint(settings.secret.get_secret_value(), scopes, arguments.ttl_s)}\n")
    return 0


async def over_http(arguments: argparse.Namespace, settings: ServiceSettings) -> int:
    """Ask the service of the settings; returns the exit status. Raises ClientError, OSError."""
    service = _Service(settings)
    match arguments.models_command:
        case "status":
            await _status(service, arguments.name)
        case "infer":
            await _infer(service, arguments)
        case "deploy":
            _say(await _deploy(service, arguments))
        case "split" | "rollback":
            _say(await service.ask("PUT", f"/api/v1/models/{arguments.name}", _rerouted(arguments), DEPLOY_S))
        case _:
            path = f"/api/v1/models/{arguments.name}/scale"
            _say(await service.ask("POST", path, {"replicas": arguments.replicas}, DEPLOY_S))
    return 0


class _Service:
    """The service of the settings."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._url = settings.url
        key = settings.key
        self._headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}

    async def ask(self, method: str, path: str, body: Any = None, timeout_s: float = 30.0) -> Any:
        """The answer. Raises ClientError."""
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        headers = self._headers | ({} if body is None else {"Content-Type": "application/json"})
        data = None if body is None else io.BytesIO(json.dumps(body).encode())
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
                session.request(method, self._url + path, data=data) as response,
            ):
                answer = await response.json()
        except (aiohttp.ClientError, ValueError) as error:
            raise ClientError(
                f"no model service answers at {self._url} ({type(error).__name__}): `candor models serve` is one; "
                "CANDOR_MODELS__SERVICE__URL says where another is"
            ) from error
        except TimeoutError as error:
            raise ClientError(f"{self._url} did not answer within {timeout_s:g} s") from error
        if response.status >= 400:
            fix = f": {answer['command']}" if answer.get("command") else ""
            raise ClientError(f"{answer.get('code')}: {answer.get('message')}{fix}")
        return answer


async def _status(service: _Service, name: str | None) -> None:
    if name is not None:
        _say(await service.ask("GET", f"/api/v1/models/{name}/status"))
        return
    rows = [("model", "task", "state", "version", "p50 ms")]
    for model in (await service.ask("GET", "/api/v1/models"))["models"]:
        p50 = model["latency"]["p50_ms"]
        rows.append(
            (
                model["model_id"],
                model["task"],
                model["state"],
                model["version"] or "-",
                "-" if p50 is None else f"{p50:.0f}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(f"{line.rstrip()}\n")


async def _infer(service: _Service, arguments: argparse.Namespace) -> None:
    name, file = arguments.name, arguments.file
    path = f"/inference/{name}" if name in TASK_TYPES else f"/api/v1/models/{name}/inference"
    if file is None:
        data = {"text": arguments.text}
    else:
        kind = "image" if file.suffix.lower() in PICTURES else "audio"
        data = {kind: base64.b64encode(file.read_bytes()).decode()}
    parameters = {"language": arguments.language} if arguments.language else {}
    body = {
        "input_data": data,
        "parameters": parameters,
        "timeout": arguments.timeout,
        "priority": arguments.priority,
    }
    answer = await service.ask("POST", path, body, arguments.timeout + EXTRA_S)
    media = answer["result"].get("audio") or answer["result"].get("image")
    if media and arguments.out:
        arguments.out.write_bytes(base64.b64decode(media))
        answer["result"] = {name: arguments.out.name for name in ("audio", "image") if answer["result"].get(name)}
    _say(answer)


async def _deploy(service: _Service, arguments: argparse.Namespace) -> Any:
    model = await service.ask("GET", f"/api/v1/models/{arguments.name}/status")
    config = {
        "model_id": model["model_id"],
        "name": model["name"],
        "version": arguments.version,
        "model_type": model["task"],
        "framework": model["framework"],
        "precision": arguments.precision,
    }
    return await service.ask("POST", "/api/v1/models/deploy", {"config": config}, DEPLOY_S)


def _rerouted(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.models_command == "rollback":
        return {"rollback": True}
    wanted = {"traffic_split": dict(arguments.share) or None, "shadow": arguments.shadow, "sticky": arguments.sticky}
    if wanted["traffic_split"] is None and wanted["shadow"] is None:
        raise ClientError("say which versions: `candor models split NAME VERSION=0.8 VERSION=0.2`, or --shadow VERSION")
    return {name: value for name, value in wanted.items() if value is not None}


def _say(answer: Any) -> None:
    """As JSON, without what is not there."""
    sys.stdout.write(json.dumps(_filled(answer), indent=2, ensure_ascii=False) + "\n")


def _filled(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {name: _filled(value) for name, value in answer.items() if value is not None}
    return answer
