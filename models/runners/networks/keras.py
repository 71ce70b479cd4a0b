"""What two networks trained with Keras share: its border padding, its normalisation, and where its tensors go in torch."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-3
"""Keras's default in BatchNormalization; torch's is 1e-5."""


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation as Keras has it by default."""
    return nn.BatchNorm2d(channels, eps=EPSILON)


def max_pool_same(image: Tensor, kernel: int, stride: int) -> Tensor:
    """Max pooling to ceil(size / stride), the odd line of padding at the bottom and the right: `padding="same"`."""
    height, width = (_same_padding(size, kernel, stride) for size in image.shape[-2:])
    return functional.max_pool2d(functional.pad(image, (*width, *height), value=float("-inf")), kernel, stride)


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def as_torch(layers: Mapping[str, Mapping[str, Tensor]], places: Mapping[str, str]) -> dict[str, Tensor]:
    """The weights of Keras layers under the names of the torch modules that take their places.

    Convolutions are stored height, width, in, out (depthwise: height, width, channels, 1) and dense layers in, out. A separable
    convolution fills `<place>.depthwise` and `<place>.pointwise`. Raises ValueError for a layer or weight without a place.
    """
    tensors: dict[str, Tensor] = {}
    for layer, weights in layers.items():
        if layer not in places or not _KINDS.keys() >= weights.keys():
            raise ValueError(f"there is no place for layer {layer} with {sorted(weights)}")
        for kind, tensor in weights.items():
            tensors[f"{places[layer]}.{_KINDS[kind]}"] = _turned(kind, tensor)
        if "moving_mean" in weights:
            tensors[f"{places[layer]}.num_batches_tracked"] = torch.tensor(0)
    return tensors


_KINDS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "depthwise_kernel": "depthwise.weight",
    "pointwise_kernel": "pointwise.weight",
}


def _turned(kind: str, tensor: Tensor) -> Tensor:
    if kind == "depthwise_kernel":
        return tensor.permute(2, 3, 0, 1)
    if tensor.ndim == 4:
        return tensor.permute(3, 2, 0, 1)
    return tensor.t() if tensor.ndim == 2 else tensor
