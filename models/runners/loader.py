"""Files of a hub repository, from the local store, into a transformers model. What would answer with random numbers is refused.

Local files only; safetensors, or `torch.load(weights_only=True)` for a `.bin`; never code out of a repository.
"""

import ctypes
import gc
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from models.errors import UnavailableError
from models.precision import Device, Precision, default

_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model computes and in which numbers."""

    device: Device
    precision: Precision

    @property
    def dtype(self) -> torch.dtype:
        """Of what goes into the model and of its weights; int8 replaces only linear layers and takes fp32."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def send(self, tensor: torch.Tensor) -> torch.Tensor:
        """The same numbers where and as the model takes them; whole numbers stay whole."""
        return tensor.to(self.device, self.dtype) if tensor.is_floating_point() else tensor.to(self.device)


def place(architecture: str, tuned: Mapping[Device, Precision]) -> Placement:
    """A CUDA device if there is one; the precision that was measured best there, else the default."""
    device: Device = "cuda" if torch.cuda.is_available() else "cpu"
    return Placement(device, tuned.get(device, default(architecture, device)))


def quiet() -> None:
    """One thread, no progress bars; what matters is raised, not logged."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def read(load: Callable[..., Any], path: Path, **options: Any) -> Any:
    """What a `from_pretrained` makes of the files. Raises UnavailableError if it cannot."""
    try:
        return load(path, **_LOCAL, **options)
    except Exception as error:  # JSON, tokenizers, safetensors, pickle: each part raises its own
        raise UnavailableError(f"its files cannot be loaded: {error}") from error


def check_labels(config: Any, expected: Sequence[str]) -> tuple[str, ...]:
    """The labels of a classifier, in its order. Raises UnavailableError unless they are those of the catalog."""
    own = tuple(str(config.id2label[index]) for index in range(len(config.id2label)))
    if not expected:
        raise UnavailableError(f"the catalog does not know what it answers; its files say {list(own)}")
    if own != tuple(expected):
        raise UnavailableError(
            f"it answers {list(own)}, not {list(expected)}: it is another model, or has a foreign head"
        )
    return own


def read_model(kind: Any, path: Path) -> Any:
    """A model, whole, in fp32 on the CPU. `kind`: a class of transformers.

    Raises UnavailableError if a weight is missing (it would be random), has another shape, or is not a number.
    """
    model, report = read(
        kind.from_pretrained,
        path,
        use_safetensors=(path / "model.safetensors").is_file(),
        weights_only=True,
        output_loading_info=True,
        dtype=torch.float32,
    )
    missing = sorted(report["missing_keys"])
    if missing:
        raise UnavailableError(f"{len(missing)} weights are missing and would be random, among them {missing[0]}")
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UnavailableError(f"its weight {name} holds what is not a number")
    return model.eval()


def put(model: Any, placement: Placement) -> Any:
    """The model where and as it shall compute. Raises UnavailableError for int8 anywhere but on a CPU."""
    if placement.precision != "int8":
        return model.to(placement.device, placement.dtype)
    if placement.device != "cpu":
        raise UnavailableError("int8 is for CPUs")
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()  # what still lay in the file, if only a bias, would keep all of it in memory
    with warnings.catch_warnings():
        # Its successor torchao is one more package; torch is pinned to a version that still has this.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", UserWarning)
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)


def give_back() -> None:
    """Let the system have the memory of what nobody needs any more: models are full of cycles, which only the collector ends, and
    glibc keeps what was freed (malloc_trim(3)). The engine has a budget."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
