"""From a file of published weights into a network of ours: every tensor of the file used, every tensor of the network filled."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import torch
from torch import Tensor, nn


def read_torch(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that `torch.save` wrote. Raises ValueError if it holds anything else."""
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a zip, pickle or tensor error, whichever part of the file is wrong
        raise ValueError(f"{path.name} is not a file of tensors: {type(error).__name__}") from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ValueError(f"{path.name} holds something other than named tensors")
    return tensors


def read_keras(path: Path) -> dict[str, dict[str, Tensor]]:
    """The layers that have weights of a Keras 1 or 2 file: `{layer: {weight: tensor}}`, weights by their plain names (`kernel`).

    Keras keeps `<layer>/<any>/<weight>:0`, with the attributes `layer_names` and `weight_names`; a file of a whole model has them
    in the group `model_weights`. Raises ValueError if it is no such file.
    """
    try:
        with h5py.File(path) as file:
            root = file.get("model_weights", file)
            layers = {name: _layer(root[name]) for name in _names(root, "layer_names")}
    except (OSError, KeyError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name} is not a Keras file of weights: {type(error).__name__}") from error
    return {name: weights for name, weights in layers.items() if weights}


def _layer(group: h5py.Group) -> dict[str, Tensor]:
    return {
        name.rpartition("/")[2].removesuffix(":0"): torch.from_numpy(group[name][()])
        for name in _names(group, "weight_names")
    }


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """Old versions wrote bytes, newer ones strings."""
    return [name.decode() if isinstance(name, bytes) else str(name) for name in group.attrs[attribute]]


def renamed(tensors: Mapping[str, Tensor], rules: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    """The same tensors by other names: each rule (pattern, replacement) in turn."""
    names = {}
    for name, tensor in tensors.items():
        ours = name
        for pattern, replacement in rules:
            ours = re.sub(pattern, replacement, ours)
        names[ours] = tensor
    return names


def fill(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a network its weights. Raises ValueError if one is missing, left over, of another shape or not a number."""
    expected = network.state_dict()
    missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unknown:
        raise ValueError(f"not weights of {type(network).__name__}: missing {missing[:3]}, left over {unknown[:3]}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(
                f"{name} is {list(tensor.shape)}, {type(network).__name__} has {list(expected[name].shape)}"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} holds what is not a number")
    network.load_state_dict(dict(tensors))
