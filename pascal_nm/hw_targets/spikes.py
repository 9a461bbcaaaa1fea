"""What a schedule asks of a chip's spikes, neurons and synapses, and whether the chip can do it.

Numbers that spikes carry have bits that are proven from levels
(:meth:`pascal_nm.simulation.schedule.Schedule.payload_bits`). Spikes of +1 and -1 carry none: what
chips lack for these, their remarks say.
"""

from __future__ import annotations

from collections.abc import Iterator

from pascal_nm.errors import TargetError
from pascal_nm.hw_targets.chip import Chip, available, load
from pascal_nm.network.graph import SCHEDULES, Graph
from pascal_nm.simulation import schedule


def payloads(graph: Graph, plan: schedule.Schedule) -> dict[str, int]:
    """Bits of the numbers that spikes carry, by the populations whose spikes carry some.

    The analog input is one of them where it sends integers, and only those other than 0; linear
    populations are where they send integers.
    """
    valued = plan.sparse and graph.is_integer
    senders = (
        p
        for p in graph.populations
        if p.dynamics.counted or (p.dynamics.summed and graph.is_integer) or (p.dynamics.injects and valued)
    )
    bits = {p.name: plan.payload_bits(graph, p.name) for p in senders}
    return {name: found for name, found in bits.items() if found}


def check(graph: Graph, chip: Chip) -> None:
    """Refuse a network whose schedule a chip cannot run.

    Raises:
        TargetError: names the chip, what it cannot do, where, and what to do.
    """
    plan, asked = schedule.of(graph), graph.timing.schedule
    _check_sums(graph, plan, chip)
    for lack in _lacks(graph, plan, chip):
        others = ", ".join(name for name, traits in SCHEDULES.items() if not traits.graded and name != asked)
        able = ", ".join(name for name in available() if not any(_lacks(graph, plan, load(name))))
        raise TargetError(
            f"{chip.name} cannot run schedule {asked}: {lack}; choose another schedule ({others}) "
            f"or another chip{able and f' ({able})'}"
        )


def _check_sums(graph: Graph, plan: schedule.Schedule, chip: Chip) -> None:
    """Refuse linear populations whose numbers no schedule lets the spikes of the chip carry."""
    bits = payloads(graph, plan)
    for p in graph.populations:
        if not p.dynamics.summed:
            continue
        if not (chip.spikes.graded_bits and chip.spikes.signed):
            able = ", ".join(name for name in available() if load(name).spikes.graded_bits and load(name).spikes.signed)
            raise TargetError(
                f"{chip.name} cannot run the linear population {p.name!r}: its spikes carry no numbers of either sign; "
                'compose all linear layers (growth=float("inf") in convert, --spikes-only in pascal-nm export), or '
                f"choose another chip ({able})"
            )
        if bits.get(p.name, 0) > chip.spikes.graded_bits:
            raise TargetError(
                f"{chip.name} cannot run the linear population {p.name!r}: its spikes carry numbers of "
                f"{chip.spikes.graded_bits} bits, and these sums have {bits[p.name]}: quantize to fewer bits"
            )


def _lacks(graph: Graph, plan: schedule.Schedule, chip: Chip) -> Iterator[str]:
    spikes = chip.spikes
    for name, bits in payloads(graph, plan).items():
        if not spikes.graded_bits:
            yield f"its spikes carry no numbers, and those of {name!r} have {bits} bits"
        if bits > spikes.graded_bits:
            yield f"its spikes carry numbers of {spikes.graded_bits} bits, and those of {name!r} have {bits}"
        if plan.graded and not spikes.signed:
            yield f"its spikes carry no negative numbers, and those of {name!r} may be"
    if plan.graded and chip.neuron.kind == "fixed":
        yield "its neurons are fixed, and take no level of a potential at once"
    for projection, steps in plan.delays.items():
        if spikes.delay is not None and steps > spikes.delay:
            yield f"its synapses delay by up to {spikes.delay} timesteps, and those of {projection!r} by {steps}"
