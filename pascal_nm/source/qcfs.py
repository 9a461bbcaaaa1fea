r"""The QCFS activation (quantization, clip, floor, shift) as a torch operator and as a module.

.. math::
    \hat h(x) = \lambda \; \mathrm{clip}\!\left(
        \frac{1}{L}\left\lfloor \frac{x L}{\lambda} + \frac12 \right\rfloor, 0, 1\right)

where :math:`\lambda` is the trainable threshold and :math:`L` the number of levels (quantization
steps). Source: Equation 1 of Ramesh & Srinivasan, "PASCAL", TMLR 2025, after Bu et al.,
https://arxiv.org/abs/2303.04347.

The operator is registered with torch, so that ``torch.export`` keeps it as one node that names its
threshold and its levels: that node is what :func:`pascal_nm.source.conversion.convert` turns into a
spiking population.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pascal_nm.errors import ConversionError


def step_of(x: Tensor, threshold: Tensor, levels: int) -> Tensor:
    """``threshold / levels``, in the wider of the two types.

    A step rounded to a narrower one would not be that of ``x``.
    """
    return threshold.to(torch.promote_types(x.dtype, threshold.dtype)) / levels


@torch.library.custom_op("pascal_nm::qcfs", mutates_args=())
def qcfs(x: Tensor, threshold: Tensor, levels: int) -> Tensor:
    """Equation 1 with the shift 1/2.

    Args:
        x: pre-activation, any shape.
        threshold: lambda, broadcastable to ``x`` (a scalar, or ``(1, C, 1, 1)`` for one per
            channel); of a narrower type, it is taken as a number of the type of ``x``.
        levels: L, at least 1.

    Returns:
        A tensor of the shape and type of ``x`` that holds multiples of ``threshold / levels``.

    Raises:
        RuntimeError: the threshold does not broadcast to ``x``.

    The gradient passes straight through the floor: 1 for ``0 < x / threshold < 1`` and 0
    elsewhere with respect to ``x``, and Equation 1's own dependence on the threshold with respect
    to ``threshold``.
    """
    threshold.expand(x.shape)  # a threshold of more axes would make more of x than it is
    step = step_of(x, threshold, levels)
    return (x / step).add_(0.5).floor_().clamp_(0, levels).mul_(step).to(x.dtype)


@qcfs.register_fake
def _(x: Tensor, threshold: Tensor, levels: int) -> Tensor:
    threshold.expand(x.shape)
    return torch.empty_like(x)


def _setup_context(
    ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, Tensor, int], output: Tensor
) -> None:
    x, threshold, _ = inputs
    ctx.save_for_backward(x, threshold, output)


@torch.library.custom_op("pascal_nm::qcfs_backward", mutates_args=())
def qcfs_backward(grad: Tensor, x: Tensor, threshold: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of :func:`qcfs` with respect to ``x`` and ``threshold``, of their shapes.

    An operator too, so that it is one node when compiled.
    """
    low, high = threshold.clamp(max=0), threshold.clamp(min=0)
    if threshold.numel() == 1 and x.device.type == "cpu":  # one pass over the data instead of four
        passed = torch.ops.aten.hardtanh_backward(grad, x, float(low), float(high))
    else:
        passed = grad * ((x > low) & (x < high))
    # In one sum over the data: the output moves with the threshold, less what moves with x
    # inside of the range.
    moved = (grad * output).addcmul_(passed, x, value=-1).sum_to_size(threshold.shape)
    if passed.stride() != x.stride():  # compiled code relies on the order in memory that the fake below promises
        passed = torch.empty_like(x).copy_(passed)
    return passed, (moved / threshold).to(threshold.dtype)


@qcfs_backward.register_fake
def _(grad: Tensor, x: Tensor, threshold: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(threshold)


def _backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    x, threshold, output = ctx.saved_tensors  # type: ignore[attr-defined]
    return (*qcfs_backward(grad, x, threshold, output), None)


qcfs.register_autograd(_backward, setup_context=_setup_context)


class QCFS(nn.Module):
    """QCFS as a layer with a learnable threshold: put it where a ReLU would stand.

    Args:
        levels: L, the number of steps between 0 and the threshold; also the number of timesteps in
            which the spiking neuron emits its spikes.
        threshold: initial value of lambda. Bu et al. start from 8.

    Attributes:
        shift: a trainable bias in front of it, broadcastable to its input; None where there is
            none. :func:`pascal_nm.to_qcfs` sets it.

    Raises:
        ConversionError: levels below 1, or a threshold of zero.
    """

    def __init__(self, levels: int = 4, threshold: float = 8.0) -> None:
        super().__init__()
        if not isinstance(levels, int | float) or levels < 1 or levels != int(levels):
            raise ConversionError(f"QCFS levels must be a whole number, at least 1, not {levels}")
        if threshold == 0 or not math.isfinite(threshold):
            raise ConversionError(f"QCFS threshold must be finite and not zero, not {threshold}")
        self.levels = int(levels)
        self.threshold = nn.Parameter(torch.tensor(float(threshold)))
        self.shift: nn.Parameter | None
        self.register_parameter("shift", None)

    def forward(self, x: Tensor) -> Tensor:
        """Apply Equation 1 to ``x`` of any shape."""
        result: Tensor = qcfs(x if self.shift is None else x + self.shift, self.threshold, self.levels)
        return result

    def extra_repr(self) -> str:
        """Levels and threshold, for printing."""
        return f"levels={self.levels}, threshold={float(self.threshold.detach()):.4g}"
