"""`candor init`: the `.env` of docker-compose.yml, with secrets that nobody chose and answers that somebody has to give.

Needs nothing but Python, so that `python3 -m candor.init` makes it on a machine that has only a container engine.
"""

import argparse
import hashlib
import ipaddress
import os
import re
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parent.parent / ".env.example"
SECRET_BYTES = 32
MEDIA_PORTS_MAX = 8
MEDIA_PORT_INSIDE = 40000
PARTS = ("cpu", "gpu", "monitoring", "scale")
HOST_NAME = re.compile(r"(?=.{1,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}")


class InitError(Exception):
    """It cannot be written; the message says why."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What only the operator knows."""

    domain: str
    address: str
    parts: tuple[str, ...] = ("cpu",)
    https_port: int = 443
    media_port: int = MEDIA_PORT_INSIDE
    workers: int = 2

    def checked(self) -> "Answers":
        """The same. Raises InitError naming the answer that cannot be."""
        if HOST_NAME.fullmatch(self.domain) is None:
            raise InitError(f"domain: {self.domain!r} is not a host name such as meet.example.org")
        try:
            address = ipaddress.IPv4Address(self.address)
        except ValueError:
            raise InitError(f"address: {self.address!r} is not an IPv4 address") from None
        if address.is_loopback or address.is_unspecified or address.is_multicast:
            raise InitError(f"address: nobody outside this machine reaches {address}")
        unknown = set(self.parts) - set(PARTS)
        if unknown or len({"cpu", "gpu"} & set(self.parts)) != 1:
            raise InitError("parts: cpu or gpu, one of them, and with it monitoring or scale")
        if not 1 <= self.workers <= MEDIA_PORTS_MAX:
            raise InitError(f"workers: from 1 to {MEDIA_PORTS_MAX}")
        if not (0 < self.https_port < 65536 and 0 < self.media_port <= 65536 - self.workers):
            raise InitError("ports: from 1 to 65535, also that of the last media worker")
        return self

    def values(self) -> dict[str, str]:
        """Of the variables that follow from the answers."""
        outside = "" if self.https_port == 443 else f":{self.https_port}"
        return {
            "DOMAIN": self.domain,
            "PUBLIC_ADDRESS": self.address,
            "PUBLIC_URL": f"https://{self.domain}{outside}",
            "COMPOSE_PROFILES": ",".join(self.parts),
            "HTTPS_PORT": str(self.https_port),
            "MEDIA_PORT": str(self.media_port),
            "MEDIA_PORT_LAST": str(self.media_port + self.workers - 1),
            "MEDIA_PORT_LAST_INSIDE": str(MEDIA_PORT_INSIDE + self.workers - 1),
            "MEDIA_WORKERS": str(self.workers),
        }


def fresh_secrets() -> dict[str, str]:
    """Of the variables that nobody has to know, 256 random bits each; only hexadecimal digits, which nothing has to quote."""
    values = {
        name: secrets.token_hex(SECRET_BYTES)
        for name in ("CANDOR_SECRET", "TURN_SECRET", "REDIS_PASSWORD", "GRAFANA_PASSWORD")
    }
    for name in ("MODELS_KEY", "MODELS_METRICS_KEY"):
        values[name] = f"cmk_{secrets.token_hex(SECRET_BYTES)}"
        values[f"{name}_SHA256"] = hashlib.sha256(values[name].encode()).hexdigest()
    return values


def rendered(template: str, values: dict[str, str]) -> str:
    """The template with these values. Raises InitError if it has no line for one, or a line without a value is left."""
    missing = dict(values)
    lines = []
    for line in template.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            value = missing.pop(name, value)
            if not value:
                raise InitError(f"{name} has no value")
            line = f"{name}={value}"
        lines.append(line)
    if missing:
        raise InitError(f"the template has no line for {', '.join(missing)}")
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    """A new file that only we can read. Raises InitError if it is there already: it holds secrets that are in use."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InitError(f"{path} is there already; move it away if its secrets are no longer in use") from None
    except OSError as error:
        raise InitError(f"cannot write {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The answers as options; what is left out is asked for."""
    parser.add_argument("--domain", help="name under which people open the page, e.g. meet.example.org")
    parser.add_argument("--address", help="IPv4 address that browsers reach this machine by")
    parser.add_argument(
        "--parts",
        default="cpu",
        help="cpu or gpu, with monitoring and scale, separated by commas (default %(default)s)",
    )
    parser.add_argument("--https-port", type=int, default=443, help="outside (default %(default)s)")
    parser.add_argument(
        "--media-port", type=int, default=MEDIA_PORT_INSIDE, help="outside, of the first worker (default %(default)s)"
    )
    parser.add_argument("--workers", type=int, default=2, help="media workers, a UDP port each (default %(default)s)")
    parser.add_argument("--directory", type=Path, default=Path(), help="with docker-compose.yml (default: this one)")


def run(arguments: argparse.Namespace, ask: Callable[[str], str] | None = None) -> Path:
    """Write `.env` and return where. Raises InitError. `ask`: for what is not among the arguments; None if nobody is there."""

    def answer(name: str, question: str) -> str:
        value: str | None = getattr(arguments, name)
        if value is not None:
            return value
        if ask is None:
            raise InitError(f"--{name} is needed")
        return ask(f"{question}: ").strip()

    answers = Answers(
        domain=answer("domain", "Name under which people open the page, e.g. meet.example.org"),
        address=answer("address", "IPv4 address that browsers reach this machine by"),
        parts=tuple(part.strip() for part in arguments.parts.split(",")),
        https_port=arguments.https_port,
        media_port=arguments.media_port,
        workers=arguments.workers,
    ).checked()
    try:
        template = TEMPLATE.read_text()
    except OSError:
        raise InitError(f"{TEMPLATE} is not there: this is for a checkout, where docker-compose.yml is") from None
    path: Path = arguments.directory / ".env"
    write(path, rendered(template, {**answers.values(), **fresh_secrets()}))
    return path


def main(arguments: argparse.Namespace) -> int:
    """The command; the exit status."""
    try:
        path = run(arguments, input if sys.stdin.isatty() else None)
    except InitError as error:
        sys.stderr.write(f"candor init: {error}\n")
        return 2
    sys.stdout.write(f"Wrote {path}, with new secrets. Keep it as you keep keys. Next: deploy/README.md\n")
    return 0


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(prog="candor.init", description=__doc__)
    add_arguments(_parser)
    raise SystemExit(main(_parser.parse_args()))
