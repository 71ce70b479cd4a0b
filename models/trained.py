"""What is known of a head that was trained here: from what, on what, how it was evaluated, and whether a meeting may use it.

A head that was not evaluated on people and generators that it had never met is a `fixture`: good for trying the way, and never
asked in a meeting. Whether it is one follows from the figures; nobody sets it.
"""

from dataclasses import dataclass
from datetime import date

from pydantic import BaseModel, ConfigDict, Field

from models import catalog
from models.calibration import Calibration
from models.catalog import Commit, LocalSource, ModelEntry, Sha256, Task

TRAINED_SPEAKERS = 8
TRAINED_GENERATORS = 3
UNSEEN_SPEAKERS = 4
UNSEEN_GENERATORS = 2
"""Fewer make a fixture. Set by hand: a floor under which nothing can be told, far below what a good evaluation has. Two unseen
generators are the least of which one can set the calibration and the other try it."""
VOICE_WINDOW_SAMPLES = 64_600
"""4 s at 16 kHz, as AASIST takes."""


@dataclass(frozen=True, slots=True)
class Base:
    """What training can begin from."""

    task: Task
    runner: str
    labels: tuple[str, ...]
    image_pixels: int | None = None


_VOICE = ("spoof", "bonafide")
_FACE = ("real",)
BASES: dict[str, Base] = {
    "aasist": Base("voice_authenticity", "aasist", _VOICE),
    "aasist-l": Base("voice_authenticity", "aasist", _VOICE),
    "wavlm-base-plus": Base("voice_authenticity", "wavlm_head", _VOICE),
    "meso-inception-4": Base("face_authenticity", "meso_inception", _FACE, 256),
    "vit-base-patch16-224": Base("face_authenticity", "vit_head", _FACE, 224),
}
"""By their names in the catalog: networks that are fine-tuned, and bases (task `base`) that stay as they are below a new head."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Counts(_Record):
    """How much media, of how many."""

    speakers: int = Field(ge=0, description="of genuine media: people")
    generators: int = Field(ge=0)
    genuine_windows: int = Field(ge=0)
    synthetic_windows: int = Field(ge=0)


class Evaluation(_Record):
    """What `candor models evaluate` found on media that the head had never met, after a codec as in a meeting."""

    day: date
    condition: str
    unseen: Counts
    eer: float = Field(ge=0, le=1)
    auc: float = Field(ge=0, le=1)
    brier: float | None = Field(ge=0, le=1, description="of the likelihoods, on media that did not set the calibration")
    ece: float | None = Field(ge=0, le=1, description="expected calibration error, on the same")


class TrainedModel(_Record):
    """One head."""

    base: str
    base_commit: Commit
    base_files: dict[str, Sha256] = Field(
        default={}, description="of a base that stays: its files, which it needs to run"
    )
    day: date
    seed: int
    trained: Counts
    held_out: Counts = Field(description="chose the epoch; counts as seen")
    evaluation: Evaluation | None = None
    calibration: Calibration | None = None

    @property
    def task(self) -> Task:
        """What it is for."""
        return BASES[self.base].task

    @property
    def fixture(self) -> str:
        """Why it may not be asked in a meeting; empty if it may."""
        if self.evaluation is None:
            return "it has not been evaluated on unseen people and generators"
        unseen = self.evaluation.unseen
        short = [
            f"{what}: {there}, not {needed}"
            for there, needed, what in (
                (self.trained.speakers, TRAINED_SPEAKERS, "people in training"),
                (self.trained.generators, TRAINED_GENERATORS, "generators in training"),
                (unseen.speakers, UNSEEN_SPEAKERS, "unseen people in its evaluation"),
                (unseen.generators, UNSEEN_GENERATORS, "unseen generators in its evaluation"),
            )
            if there < needed
        ]
        if short:
            return "; ".join(short)
        return "" if self.calibration else "its scores did not tell genuine from synthetic media"

    @property
    def known(self) -> str:
        """What is known of its errors, for people who read its findings."""
        if self.evaluation is None:
            return "Trained here, never evaluated."
        found = self.evaluation
        return (
            f"Trained here; on {found.unseen.speakers} people and {found.unseen.generators} generators that it had never met "
            f"EER {found.eer:.1%}, AUC {found.auc:.2f} ({found.condition}, {found.day}). Of other people, generators and "
            "microphones nothing is known."
        )

    def entry(self, name: str) -> ModelEntry:
        """As the catalog would list it."""
        base, base_entry = BASES[self.base], catalog.load().get(self.base)
        voice = base.task == "voice_authenticity"
        return ModelEntry(
            name=name,
            task=base.task,
            runner=base.runner,
            licence=f"{base_entry.licence} (its base), and what its training media allow",
            commercial=base_entry.commercial,
            languages=base_entry.languages,
            sample_rate_hz=16_000 if voice else None,
            window_samples=VOICE_WINDOW_SAMPLES if voice else None,
            image_pixels=base.image_pixels,
            labels=list(base.labels),
            known=self.known,
            requires=base_entry.requires,
            size_bytes=base_entry.size_bytes,
            calibration=self.calibration,
            source=LocalSource(kind="local", base=self.base),
        )
