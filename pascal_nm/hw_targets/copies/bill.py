"""What an image costs in threshold copies: events of an execution, priced by a chip's file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from pascal_nm.common.band import Band
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets.chip import NS, PJ, Chip
from pascal_nm.hw_targets.copies.program import CopiesProgram

_PRICED = {"synaptic_operations": "synaptic_operation", "messages": "message", "spikes": "emitted"}
"""Events of :meth:`.CopiesProgram.counted`, by what a chip's file calls them, but for updates."""


def known(name: str) -> Chip | None:
    """The chip of this name whose compartments a program may use; None where there is no file."""
    return next((c for c in map(chips.load, chips.available()) if c.name == name and c.compartments), None)


def priced(program: CopiesProgram, each: Mapping[str, float], chip: Chip) -> dict[str, Band]:
    """Joules and seconds of an image, of which there is one in every timestep.

    ``seconds`` is a timestep as long as the updates of the fullest core and the barrier:
    operations and messages of the busiest core are not in it. Hops have no price here.

    Args:
        program: it.
        each: events of an image, mean.
        chip: its figures.
    """
    band = _over(chip)
    fullest = int(np.diff(program.arrays["core_first"]).max())
    tiles = -(-program.cores // (1 if chip.mesh is None else chip.mesh.cores_per_tile))
    seconds = band(lambda c: NS * (fullest * c.latency["update"].value + _barrier(c, tiles, program.chips)))
    watts = band(lambda c: 0.0 if c.static is None else c.static.watts(program.chips, program.cores))
    sent = band(lambda c: 0.0 if c.host is None else c.host.seconds(each["injected_spikes"], 0))
    beside = band(lambda c: 0.0 if c.host is None else c.host.watts(program.chips))
    dynamic = band(lambda c: PJ * _events(each, c))
    return {
        "dynamic": dynamic,
        "static": watts.times(seconds),
        "host": Band.sum([watts.times(sent), beside.times(Band.sum([seconds, sent]))]),
        "seconds": seconds,
        "host_seconds": sent,
    }


def _over(chip: Chip) -> Callable[[Callable[[Chip], float]], Band]:
    low, high = chip.at("least"), chip.at("most")
    return lambda figure: Band(figure(chip), figure(low), figure(high))


def _events(each: Mapping[str, float], chip: Chip) -> float:
    """Picojoules; a compartment that spikes is active, and the others are not."""
    prices = {event: figure.value for event, figure in chip.energy.items()}
    found = sum(each[name] * prices.get(event, 0.0) for name, event in _PRICED.items())
    resting = each["updates"] - each["spikes"]
    return found + each["spikes"] * prices["update"] + resting * prices.get("idle", prices["update"])


def _barrier(chip: Chip, tiles: int, several: int) -> float:
    return 0.0 if chip.barrier is None else chip.barrier.at(tiles, several)
