"""Strided convolutions of kernel size 1, without oneDNN's faulty kernel for them.

They are computed so that it is never chosen.

For the gradient of such a convolution's weights oneDNN (3.12, in torch 2.13) first gathers the
pixels that the stride leaves, whole vector registers at a time, into memory that holds one
pixel's channels. Where images lie in channels-last order and have fewer channels than a register
has floats (16 with AVX-512, 8 with AVX2), it writes past the end: the process crashes, hangs, or
goes on with damaged memory. Which network does so differs from processor to processor, so no such
convolution is left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)
"""What is watched for: the functions that torch's modules and ``torch.nn.functional`` call."""


class StrideBySlicing(TorchFunctionMode):
    r"""Inside its ``with`` block a strided convolution of kernel size 1 has no stride.

    It takes every s-th pixel first.

    .. math:: (w *_s x)[i] = w\, x[s i] = (w *_1 x_{::s})[i]

    Parameters, their gradients and what ``torch.export`` traces outside of the block are those of
    the network as it is written.
    """

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Torch's hook, which is called in place of every function of torch."""
        kwargs = kwargs or {}
        return _convolution(func, *args, **kwargs) if func in _CONVOLUTIONS else func(*args, **kwargs)


def _convolution(
    func: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    *rest: Any,
    **named: Any,
) -> Tensor:
    steps = [stride] if isinstance(stride, int) else list(stride)
    steps = steps * (weight.ndim - 2) if len(steps) == 1 else steps
    padded = padding != "valid" and any([padding] if isinstance(padding, str | int) else padding)
    if all(size == 1 for size in weight.shape[2:]) and not padded:  # padded ones take another kernel of oneDNN's
        pixels: tuple[Any, ...] = (..., *(slice(None, None, step) for step in steps))
        input, stride = input[pixels], 1
    return func(input, weight, bias, stride, padding, *rest, **named)
