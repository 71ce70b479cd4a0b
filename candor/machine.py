"""How busy this computer is: a measurement in real time says nothing without it."""

from pathlib import Path
from typing import NamedTuple

STAT = Path("/proc/stat")
_BUSY_IDLE, _BUSY_STOLEN = 0.10, 0.03


class CpuShares(NamedTuple):
    """Of all cores together, from 0 to 1."""

    idle: float
    stolen: float
    """Taken by the hypervisor for other machines on the same hardware."""

    @property
    def busy(self) -> bool:
        """Whether real-time work may have had to wait for a core."""
        return self.idle < _BUSY_IDLE or self.stolen > _BUSY_STOLEN

    def __str__(self) -> str:
        return f"{self.idle:.0%} idle, {self.stolen:.0%} taken by other machines"


class CpuMeter:
    """Shares since it was made."""

    def __init__(self) -> None:
        self._start = _ticks()

    def shares(self) -> CpuShares | None:
        """None where the system does not tell (anything but Linux), or no time has passed."""
        spent = [now - then for now, then in zip(_ticks(), self._start, strict=True)]
        total = sum(spent)
        return CpuShares((spent[3] + spent[4]) / total, spent[7] / total) if total else None


def _ticks() -> list[int]:
    """user, nice, system, idle, iowait, irq, softirq, steal (proc(5)); zeros where there is no such file."""
    try:
        with STAT.open() as file:
            return [int(field) for field in file.readline().split()[1:9]]
    except OSError:
        return [0] * 8
