"""The command line: `candor serve | drain | demo | bot | models | token | init | config | backup | restore | doctor`."""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

import candor.logs
from bots import cli as bot_cli
from candor import init
from candor.settings import ConfigurationError, Settings, load, model_settings, shown
from models import cli as models_cli

DEMO_MIN_S = 30.0
STDIN = "-"


def main() -> int:
    """Parse, run, and return the exit status."""
    arguments = _parser().parse_args()
    candor.logs.configure("warning", arguments.command)
    try:
        return int(arguments.run(arguments))
    except ConfigurationError as error:
        print(f"candor: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="candor", description="A meeting server that listens while it forwards.")
    parser.add_argument("--config", type=Path, help="TOML file with settings")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_demo(commands)
    bot_cli.register(commands)
    models_cli.register(commands).set_defaults(run=_models)
    _add_token(commands)
    _add_init(commands)
    _add_config(commands)
    _add_backup(commands)
    _add_doctor(commands)
    return parser


def _models(arguments: argparse.Namespace) -> int:
    if arguments.models_command == "serve":
        from candor import model_service

        listen = {name: value for name in ("host", "port") if (value := getattr(arguments, name)) is not None}
        settings = load(arguments.config, {"models": {"service": listen}})
        candor.logs.configure(settings.log_level, "models")
        return asyncio.run(model_service.serve(settings, arguments.engine))
    return models_cli.run(arguments, model_settings(load(arguments.config)))


def _add_serve(commands: Any) -> None:
    serve = commands.add_parser("serve", help="run the server until interrupted")
    serve.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port of the page and of signaling (default 8080)")
    serve.add_argument(
        "--operator-port", metavar="PORT", help="metrics and health, for you alone; or off (default 9464)"
    )
    serve.add_argument("--lan", action="store_true", help="https on the local network, entry by invite link")
    serve.add_argument("--demo-room", action="store_true", help="with a room in which two bots talk")
    serve.set_defaults(run=_serve)
    drain = commands.add_parser("drain", help="move this machine's rooms to the others of its cluster; then stop it")
    drain.set_defaults(run=_drain)


def _drain(_: argparse.Namespace) -> int:
    from candor.drain import drain

    left = asyncio.run(drain())
    print("No room is left here." if not left else f"{left} room(s) had to stay: no other machine takes them.")
    return 1 if left else 0


def _serve(arguments: argparse.Namespace) -> int:
    from candor import serve

    signaling: dict[str, Any] = {}
    for name in ("host", "port"):
        if getattr(arguments, name) is not None:
            signaling[name] = getattr(arguments, name)
    if arguments.demo_room:
        signaling["demo_room"] = serve.DEMO_ROOM
    if arguments.lan:
        signaling["lan"] = True
    operator = {} if arguments.operator_port is None else {"port": arguments.operator_port}
    settings = load(arguments.config, {"signaling": signaling, "operator": operator})
    candor.logs.configure(settings.log_level, "supervisor")
    return asyncio.run(serve.serve(settings))


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser("demo", help="bots hold a meeting; measure it; exit 0 only if the main job worked")
    demo.add_argument("--seconds", type=_demo_seconds, default=40.0, help="how long they talk (default %(default)s)")
    demo.add_argument(
        "--out", type=Path, default=Path("build/demo"), help="where the report goes (default %(default)s)"
    )
    demo.set_defaults(run=_demo)


def _demo_seconds(text: str) -> float:
    """Long enough for both passages and a line of each speaker."""
    seconds = float(text)
    if seconds < DEMO_MIN_S:
        raise argparse.ArgumentTypeError(f"at least {DEMO_MIN_S:g}, or there is nothing to measure")
    return seconds


def _demo(arguments: argparse.Namespace) -> int:
    from candor import serve

    settings = load(arguments.config, {"log_level": "warning", "signaling": {"port": 0}})
    candor.logs.configure(settings.log_level, "supervisor")
    return asyncio.run(serve.demo(settings, arguments.seconds, arguments.out))


def _add_token(commands: Any) -> None:
    token = commands.add_parser("token", help="mint a token that lets somebody into a room")
    token.add_argument("room")
    token.add_argument("identity", help="stable id of the person, e.g. an account number")
    token.add_argument("--name", help="display name that the token fixes")
    token.add_argument("--host", action="store_true", help="may mute, remove, lock and end")
    token.add_argument("--ttl-s", type=int, default=24 * 3600, help="validity in seconds (default one day)")
    token.set_defaults(run=_token)


def _token(arguments: argparse.Namespace) -> int:
    from signaling import auth

    settings = load(arguments.config)
    secret = settings.signaling.secret
    if secret is None:
        raise ConfigurationError("set CANDOR_SIGNALING__SECRET, the one that the server runs with")
    print(
        auth.mint(
            secret.get_secret_value(),
            room=arguments.room,
            identity=arguments.identity,
            name=arguments.name,
            host=arguments.host,
            ttl_s=arguments.ttl_s,
        )
    )
    return 0


def _add_init(commands: Any) -> None:
    parser = commands.add_parser("init", help="write the .env of docker-compose.yml, with secrets of its own")
    init.add_arguments(parser)
    parser.set_defaults(run=init.main)


def _add_config(commands: Any) -> None:
    config = commands.add_parser("config", help="check the configuration, or show it (secrets masked)")
    config.add_argument("action", choices=("check", "show"))
    config.set_defaults(run=_config)


def _config(arguments: argparse.Namespace) -> int:
    from candor.config_check import problems

    settings: Settings = load(arguments.config)
    if arguments.action == "show":
        print(shown(settings))
        return 0
    found = problems(settings)
    for problem in found:
        print(f"candor: {problem}", file=sys.stderr)
    print(f"Problems: {len(found)}." if found else "The configuration is fine.")
    return 2 if found else 0


def _add_backup(commands: Any) -> None:
    backup = commands.add_parser("backup", help="what this machine cannot get again (locks, heads trained here, ...)")
    backup.add_argument("file", type=Path, metavar="FILE.tar.gz", help="a new file, or - for standard output")
    weights = backup.add_mutually_exclusive_group()
    weights.add_argument(
        "--without-weights",
        dest="weights",
        action="store_const",
        const="none",
        default="trained",
        help="also without the heads that were trained here",
    )
    weights.add_argument(
        "--all-weights", dest="weights", action="store_const", const="all", help="also with those that can be pulled"
    )
    backup.set_defaults(run=_backup)
    restore = commands.add_parser("restore", help="put back what `candor backup` kept")
    restore.add_argument("file", type=Path, metavar="FILE.tar.gz", help="the archive, or - for standard input")
    restore.add_argument("--force", action="store_true", help="overwrite files that are there")
    restore.set_defaults(run=_restore)


def _backup(arguments: argparse.Namespace) -> int:
    from candor import backup
    from models.store import Busy, Store

    store = Store(load(arguments.config).models.store_dir)
    try:
        names = backup.make(arguments.file, store, arguments.config, arguments.weights)
    except (backup.BackupError, Busy, OSError) as error:
        print(f"candor backup: {error}", file=sys.stderr)
        return 1
    for name in names:
        print(name, file=sys.stderr)
    print("Keep it as you keep keys. What the environment says is not in it.", file=sys.stderr)
    return 0


def _restore(arguments: argparse.Namespace) -> int:
    from candor import backup, restore
    from models.store import Busy

    config: Path | None = arguments.config
    settings = load(config if config and config.exists() else None)
    try:
        lines = restore.restore(arguments.file, settings.models, config, force=arguments.force)
    except (backup.BackupError, Busy, ValueError, OSError) as error:
        print(f"candor restore: {error}", file=sys.stderr)
        return 1
    print(*lines, sep="\n")
    return 0


def _add_doctor(commands: Any) -> None:
    doctor = commands.add_parser("doctor", help="what would keep a meeting from working here, and what helps")
    doctor.add_argument("--from-outside", metavar="URL", help="look at a server as a client on this computer sees it")
    doctor.add_argument("--room", default="doctor", help="to be joined from outside (default %(default)s)")
    doctor.add_argument("--token", help="for that room, if rooms are closed: candor token; - to read it here")
    doctor.set_defaults(run=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from candor.doctor import report

    settings = load(arguments.config)
    # Arguments can be seen by everybody on a computer, so a script has another way.
    token = sys.stdin.readline().strip() if arguments.token == STDIN else arguments.token
    return asyncio.run(report.examine(settings, arguments.from_outside, token, arguments.room))


if __name__ == "__main__":
    raise SystemExit(main())
