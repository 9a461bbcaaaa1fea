"""Where spiking networks run: one class per target behind :class:`pascal_nm.result.Target`."""

from __future__ import annotations

from pascal_nm.errors import TargetError
from pascal_nm.graph import Array, Graph
from pascal_nm.result import RunResult, Target

TARGETS = ("torch", "lava", "loihi")


def find(name: str) -> Target:
    """The target called ``name``; Lava is imported only when its target compiles a graph.

    Raises:
        TargetError: there is no such target.
    """
    from pascal_nm.hw_targets import simulator

    if name == "torch":
        return simulator.TorchTarget()
    if name == "loihi":
        return simulator.LoihiTarget()
    if name == "lava":
        from pascal_nm.hw_targets.lava import LavaTarget

        return LavaTarget()
    raise TargetError(f"unknown target {name!r}: choose from {', '.join(TARGETS)}")


def run(graph: Graph, inputs: Array, target: str = "torch") -> RunResult:
    """Run a graph on a target.

    Args:
        graph: float or integer; ``loihi`` quantizes a float graph first.
        inputs: preprocessed inputs of shape (N, *input shape).
        target: ``torch``, ``lava`` or ``loihi``.

    Raises:
        PascalError: the target is unknown or not installed, or the inputs or the graph do not fit.
    """
    return find(target).compile(graph).run(inputs)
