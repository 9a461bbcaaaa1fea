"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Callable

from pascal_nm.common.band import Band


def joules(value: float) -> str:
    """An energy with its unit: ``12.3 µJ``."""
    unit, size = energy_unit(value)
    return f"{value / size:.3g} {unit}"


def band(value: Band | None, unit: Callable[[float], str] = joules) -> str:
    """A figure with its range, as far as it goes: ``3.1 mJ (1.9 to 4.6 mJ)``; without one, none."""
    if value is None:
        return "not known"
    if not value.wide:
        return unit(value)
    low, high = unit(value.least), unit(value.most)
    least = low.rsplit(" ", 1)[0] if low.rsplit(" ", 1)[-1] == high.rsplit(" ", 1)[-1] else low
    return f"{unit(value)} ({least} to {high})"


def energy_unit(value: float) -> tuple[str, float]:
    """The largest unit that an energy reaches, and its size in joules."""
    units = (("J", 1.0), ("mJ", 1e-3), ("µJ", 1e-6), ("nJ", 1e-9), ("pJ", 1e-12))
    return next((unit for unit in units if value >= unit[1]), units[-1])


def percent(share: float) -> str:
    """A share as ``97.22 %``."""
    return f"{100 * share:.2f} %"
