"""What convolutions of either direction share: filters of channels, in groups."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from pascal_nm.common.arrays import Array, Shape
from pascal_nm.network.operators.base import Operator

Self = TypeVar("Self", bound="Filters")


class Filters(Operator):
    """An operator whose ``weight`` has shape (C_out, C_in / groups, K_h, K_w)."""

    groups: int

    @property
    def kernel(self) -> tuple[int, int]:
        """(K_h, K_w)."""
        return (self.weight.shape[2], self.weight.shape[3])

    def joined(self, inputs: int) -> Array:
        """Which of so many input channels reach which output channel: int64 (C_out, C_in)."""
        blocks = np.ones((len(self.weight) // self.groups, inputs // self.groups), np.int64)
        return np.kron(np.eye(self.groups, dtype=np.int64), blocks)

    def ungrouped(self) -> Array:
        """The weights in one group: with zeros between the groups."""
        outputs, inputs, *kernel = self.weight.shape
        groups = self.groups
        result = np.zeros((groups, outputs // groups, groups, inputs, *kernel), self.weight.dtype)
        each = self.weight.reshape(groups, outputs // groups, inputs, *kernel)
        result[np.arange(groups), :, np.arange(groups)] = each
        return result.reshape(outputs, groups * inputs, *kernel)

    def scale_input(self: Self, factor: Array, shape: Shape) -> Self:
        """The same convolution of ``factor * x``.

        ``factor`` has one number per channel of an input of ``shape``.
        """
        column = np.broadcast_to(factor, (shape[0], 1, 1)).reshape(self.groups, 1, -1, 1, 1)
        grouped = self.weight.reshape(self.groups, -1, *self.weight.shape[1:])
        return self.with_weight((grouped * column).reshape(self.weight.shape))

    def scale_output(self: Self, factor: Array) -> Self:
        """``factor`` times the same convolution; ``factor`` has one number per output channel."""
        return self.with_weight(self.weight * factor.reshape(-1, 1, 1, 1))

    def rows(self: Self, channels: Array, factors: Array) -> Self:
        """The convolution with the outputs of ``channels`` (-1: zeros), times a factor each."""
        share, per_group = len(channels) // self.groups, len(self.weight) // self.groups
        there = channels >= 0
        kept = share * self.groups == len(channels) and np.array_equal(
            (channels // per_group)[there], (np.arange(len(channels)) // max(1, share))[there]
        )
        weight = self.weight if kept else self.ungrouped()
        column = np.where(there, factors, 0).astype(factors.dtype).reshape(-1, 1, 1, 1)
        return self._regrouped(weight[channels] * column, self.groups if kept else 1)

    def columns(self: Self, channels: Array, factors: Array, inputs: int) -> Self:
        """The convolution that takes ``channels`` (-1: none) of so many, times a factor each."""
        per_group, share = len(channels) // self.groups, inputs // self.groups
        there = channels >= 0
        kept = share * self.groups == inputs and np.array_equal(
            (channels // max(1, share))[there], (np.arange(len(channels)) // per_group)[there]
        )
        found = self.scale_input(factors.reshape(-1, 1, 1), (len(channels), 1, 1))
        groups = self.groups if kept else 1
        given = found.weight if kept else found.ungrouped()
        of, each = channels.reshape(groups, -1), given.reshape(groups, -1, *given.shape[1:])
        weight = np.zeros((*each.shape[:2], inputs // groups, *given.shape[2:]), given.dtype)
        for g in range(groups):
            for i in np.flatnonzero(of[g] >= 0):
                weight[g, :, of[g, i] - g * (inputs // groups)] += each[g, :, i]
        return self._regrouped(weight.reshape(-1, *weight.shape[2:]), groups)

    def _regrouped(self: Self, weight: Array, groups: int) -> Self:
        return type(self)(**self.parameters() | {"weight": weight, "groups": groups})

    def repeated(self: Self, inputs: int, outputs: int, shape: Shape) -> Self:
        """A convolution of more channels, in as many groups."""
        return self.with_weight(self.weight.repeat(outputs, 0).repeat(inputs, 1))
