"""How many images go together, by the numbers that one of them takes.

Larger batches use the processor better, until their numbers leave its caches or fill the memory.
Every room is a number of numbers, whatever their type; all are measured with VGG-16 and ResNet-18
on images of 32x32 (``benchmarks/engines.py``).
"""

from __future__ import annotations

STATE = 1 << 18
"""Of a population's state: through all timesteps it stays in the processor's cache."""

LAYER = 1 << 22
"""Of the largest layer, where one layer follows the other: enough for efficient convolutions, few
enough that the memory of one serves the next."""

TRAIN = 1 << 24
"""Of what is made and taken at once: a layer's spikes in all their timesteps, or what all nodes of
a graph send in one."""

KEPT = 1 << 25
"""Of what is kept of all layers until a batch is done: with all that is made of it, less than a
gigabyte."""

MOST = 500
"""The most images of a batch, so that progress is seen."""


def images_together(numbers: int, room: int) -> int:
    """How many images have room together, at least one.

    Args:
        numbers: that one image takes.
        room: one of this module's.
    """
    return max(1, room // numbers)


def batch_size(numbers: int, room: int) -> int:
    """The same for a batch of a dataset, with :data:`MOST` images."""
    return min(MOST, images_together(numbers, room))
