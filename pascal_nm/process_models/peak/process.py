"""The Process of neurons that pass on the largest of sums."""

from __future__ import annotations

from pascal_nm.process_models.max_pool.process import MaxPool


class Peak(MaxPool):
    """As :class:`.MaxPool`, of the sums of linear neurons: numbers of any size and either sign."""
