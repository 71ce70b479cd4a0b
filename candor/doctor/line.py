"""A line of the doctor's report."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "fix"]


@dataclass(frozen=True, slots=True)
class Line:
    """What was found about something. `fix` keeps it from working; `note` may matter to you or not."""

    level: Level
    what: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"\n      -> {self.remedy}" if self.remedy else ""
        return f"{self.level:<4}  {self.what}: {self.found}{remedy}"
