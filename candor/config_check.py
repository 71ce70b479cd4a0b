"""`candor config check`: what `serve` would refuse, all of it at once, without starting anything."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from candor.settings import Settings, model_settings
from candor.tracing import checked_telemetry
from models.service.settings import checked
from signaling.cluster.settings import prepared_cluster
from signaling.settings import prepared


def problems(settings: Settings) -> list[str]:
    """Each with its remedy; none if a node would start with these settings, and a model service too."""
    found = [
        complaint
        for section, check in (
            ("signaling", lambda: prepared(settings.signaling)),
            ("cluster", lambda: prepared_cluster(settings.cluster, settings.signaling)),
            ("models.service", lambda: checked(model_settings(settings).service)),
            ("telemetry", lambda: checked_telemetry(settings.telemetry)),
        )
        if (complaint := _complaint(section, check))
    ]
    return found + [f"{name}: {path} is not there" for name, path in _files(settings) if not path.expanduser().exists()]


def _complaint(section: str, check: Callable[[], Any]) -> str:
    try:
        check()
    except ValueError as error:
        return f"{section}: {error}"
    return ""


def _files(settings: Settings) -> list[tuple[str, Path]]:
    """What has to be there before the start."""
    named = [("signaling.tls_cert", settings.signaling.tls_cert), ("signaling.tls_key", settings.signaling.tls_key)]
    return [("web_root", settings.web_root / "index.html"), *((name, path) for name, path in named if path is not None)]
