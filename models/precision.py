"""In which numbers a model computes: what was measured on this machine, else a table that says why.

`candor models tune` measures and writes `precision.json` beside `models.lock`; the runners of hub models read it. A choice counts
only for the version and the kind of device that it was measured with.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

Precision = Literal["fp32", "bf16", "int8"]
"""int8: linear layers only, quantised dynamically; on a CPU only."""
Device = Literal["cpu", "cuda"]
FILE_NAME = "precision.json"

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")

_ON_CPU: dict[str, Precision] = {
    "whisper": "int8",
    "wav2vec2": "int8",
    "vit": "int8",
    "roberta": "int8",
    "bart": "int8",
}
"""By architecture, where int8 was two to five times as fast as fp32 here (README.md). Not in it, so fp32: WavLM, whose attention
reads weights that quantisation takes away; Swin2SR, SepFormer and MetricGAN+, whose answer is the picture or the sound itself.
bf16 is never a default on a CPU: without AVX-512 BF16 or AMX it is slower than fp32."""
_ON_CUDA: dict[str, Precision] = dict.fromkeys(("whisper", "wav2vec2", "wavlm", "vit", "roberta", "bart"), "bf16")
"""Every CUDA device that torch still knows has bf16. Pictures and sounds stay in fp32."""


def default(architecture: str, device: Device) -> Precision:
    """What an architecture (`model_type` in its configuration) computes in, unless it was measured."""
    return (_ON_CPU if device == "cpu" else _ON_CUDA).get(architecture, "fp32")


class Measured(BaseModel):
    """What was measured of a model on one kind of device, and what follows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    precision: Precision
    """The choice."""
    machine: str
    seconds: dict[Precision, float]
    """Median seconds of one answer; a precision that failed, or answered otherwise, is not in it."""
    refused: dict[Precision, str] = {}
    """Why a precision is not in `seconds`."""


class PrecisionFile(BaseModel):
    """The file `precision.json`."""

    model_config = ConfigDict(extra="forbid")

    models: dict[str, dict[Device, Measured]] = {}


def read(root: Path) -> PrecisionFile:
    """What was measured for the store `root`; nothing if nothing was. Raises ValueError if the file is something else."""
    path = root / FILE_NAME
    try:
        return PrecisionFile.model_validate_json(path.read_text())
    except FileNotFoundError:
        return PrecisionFile()
    except ValidationError as error:
        raise ValueError(f"{path} was not written by `candor models tune`: {error.error_count()} errors") from error


def write(root: Path, file: PrecisionFile) -> None:
    """Replace the file in the store `root`."""
    temporary = root / f".{FILE_NAME}"
    temporary.write_text(file.model_dump_json(indent=2) + "\n")
    temporary.replace(root / FILE_NAME)


def chosen(root: Path, name: str, version: str) -> Mapping[Device, Precision]:
    """For a model at a version, by kind of device: what was measured best. Raises ValueError as `read` does."""
    measured = read(root).models.get(name, {})
    return {device: found.precision for device, found in measured.items() if found.version == version}
