"""Whether and where this process sends traces. What needs the extra `telemetry` is in `candor.spans`, loaded if they are wanted.

Packages make spans with `opentelemetry.trace` alone, which does nothing until `exported` is entered.
"""

import contextlib
import importlib.util
from collections.abc import Iterator

from candor.settings import TelemetrySettings

ROLES = frozenset({"signaling", "worker", "engine"})
"""Whose processes make spans. The path host has none of its own: it tells the worker what one of a packet needs."""
PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter")
MISSING = (
    "endpoint: needs the extra telemetry; `make telemetry`, or pip install '.[telemetry]' where Candor's files are"
)


def checked_telemetry(settings: TelemetrySettings) -> TelemetrySettings:
    """The settings themselves. Raises ValueError, with the remedy, if traces are wanted and cannot be sent."""
    if settings.endpoint is not None and any(importlib.util.find_spec(package) is None for package in PACKAGES):
        raise ValueError(MISSING)
    return settings


@contextlib.contextmanager
def exported(settings: TelemetrySettings, role: str, index: int) -> Iterator[None]:
    """Spans made inside the block are sent, if that is wanted and this is one of `ROLES`; what waits at its end, within 2 s."""
    if settings.endpoint is None or role not in ROLES:
        yield
        return
    from candor import spans

    exporter = spans.start(settings.endpoint, settings.inference_sample, role, index)
    try:
        yield
    finally:
        exporter.shutdown()


def frames_between(settings: TelemetrySettings) -> int:
    """Of the packets in the path of a transform one in so many is followed; 0: none."""
    if settings.endpoint is None or settings.frame_sample == 0:
        return 0
    return max(1, round(1 / settings.frame_sample))
