r"""Dynamics: what the neurons of a population do, one class for each kind.

A population names its dynamics by its ``kind``; all else that the package does with populations
asks the dynamics for its facts. A further one is a subclass with a name of its own, registered by
:func:`register` (docs/extend.md shows one).

===========  =======================================================================================
``analog``   injects the network's input, once for each sample
``pasc``     the spiking neuron of :mod:`pascal_nm.neuron`: its count is the level of its potential
``max``      passes on the changes of the largest count of its window: of thermometer trains, the OR
``linear``   passes on what arrives, added up: a linear layer without an activation
``peak``     passes on the changes of the largest sum of a window of linear neurons
``readout``  adds up; its potential is a result
===========  =======================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from pascal_nm import neuron
from pascal_nm.common.arrays import Array
from pascal_nm.errors import GraphError
from pascal_nm.network.windows import Span, Window
from pascal_nm.neuron import Stage, State, Step

if TYPE_CHECKING:
    import nir

    from pascal_nm.network.graph import Population, Projection

MAX_LEVELS = 2**15 - 1
"""Most levels of a population: spike counts are of type int16."""


class Rule:
    """A schedule's rule (:mod:`pascal_nm.simulation.schedule`): when neurons fire."""

    relays: ClassVar[Stage] = Stage.EMIT
    """The stage of populations that pass on what arrives."""
    aligned: ClassVar[bool] = False
    """Whether synapses delay what would arrive before the last of a population's inputs."""

    def window(self, p: Population, arrivals: Sequence[Span], analog: bool) -> Window:
        """The stages of a population that fires.

        Args:
            p: the population.
            arrivals: when the spikes of each of its sources arrive; through a linear population
                those of each source behind it.
            analog: whether all sources are analog.

        Raises:
            GraphError: the schedule knows no such neurons.
        """
        raise GraphError(f"population {p.name!r}: its schedule has no windows for neurons of kind {p.kind}")


class Dynamics:
    """The facts of a kind of neurons; functions take the population that has them."""

    name: ClassVar[str]
    """The ``kind`` of populations, in files and in words."""
    injects: ClassVar[bool] = False
    """Whether they inject the network's input, and have no synapses of their own."""
    reads_out: ClassVar[bool] = False
    """Whether their potential is a result, and they send nothing."""
    weighted: ClassVar[bool] = False
    """Whether the synapses onto them have weights, whose currents they add up."""
    fires: ClassVar[bool] = False
    """Whether their spikes stand for the level of their potential: a QCFS layer."""
    adds: ClassVar[bool] = False
    """Whether they send what arrives, added up, in the same timestep: nothing stays with them."""
    graded: ClassVar[bool] = False
    """Whether one spike of theirs carries a number."""

    @property
    def relays(self) -> bool:
        """Whether they pass on what one source sends, without a potential of their own."""
        return not (self.injects or self.weighted)

    @property
    def counted(self) -> bool:
        """Whether all that they send adds up to a count, from 0 to the population's levels."""
        return self.fires or (self.relays and not self.valued)

    @property
    def sends(self) -> bool:
        """Whether they send spikes."""
        return self.fires or self.relays or self.adds

    @property
    def summed(self) -> bool:
        """Whether they send sums, of any size and either sign, or the largest of some."""
        return self.valued and not self.injects

    @property
    def valued(self) -> bool:
        """Whether a unit of what they send stands for the value in ``threshold``."""
        return self.injects or self.adds

    @property
    def is_qcfs(self) -> bool:
        """Whether their count is Equation 1's, sent in as many spikes: what other forms rely on."""
        return type(self).level is Dynamics.level and not self.graded

    # -- what is valid -----------------------------------------------------------------------------

    levels: ClassVar[tuple[int, int]] = (1, MAX_LEVELS)
    """Fewest and most levels."""
    sources: ClassVar[tuple[int, float]] = (1, float("inf"))
    """Fewest and most projections onto a population."""

    def check(self, p: Population, where: str) -> None:
        """Refuse thresholds that the dynamics cannot have.

        Raises:
            GraphError: begins with ``where``.
        """
        if not np.all(p.threshold > 0):
            raise GraphError(f"{where}: thresholds must be positive; zero or negative ones found")

    def check_source(self, p: Population, source: Population, projection: Projection, where: str) -> None:
        """Refuse a projection that the dynamics cannot have.

        Raises:
            GraphError: begins with ``where``.
        """

    # -- what they send, and when ------------------------------------------------------------------

    def largest(self, p: Population) -> int:
        """The largest magnitude of what a neuron sends in a timestep.

        A schedule may let them send more, and others send what their sources make them
        (:meth:`pascal_nm.simulation.schedule.Schedule.largest`).
        """
        return p.levels if self.graded else 1

    def bound(self, p: Population, current: float) -> float:
        """Largest magnitude of the potential in any stage, for all currents up to ``current``."""
        return current + float(np.abs(p.bias).max()) + (float(p.threshold.max()) if self.fires else 0.0)

    def timesteps(self, p: Population) -> int:
        """Timesteps in which a population sends one sample in the paper's schedule."""
        return 1 if self.graded else p.levels

    def window(self, p: Population, arrivals: Sequence[Span], analog: bool, rule: Rule) -> Window:
        """The stages of a population; arguments as :meth:`Rule.window`."""
        return rule.window(p, arrivals, analog)

    def sign(self, p: Population) -> Array:
        """Of those that relay: 1 to pass on the largest of a window, -1 the smallest."""
        return np.ones((1,) * len(p.shape), np.int8)

    # -- what they compute -------------------------------------------------------------------------

    def step(self, stage: Stage, state: State, current: Array | None, theta: Array, levels: int) -> Step:
        """One timestep; arguments as :func:`pascal_nm.neuron.step`."""
        return neuron.step(stage, state, current, theta, levels)

    def level(self, z: Any, p: Population, theta: Any) -> Any:
        """The count of neurons whose whole current, bias included, is the tensor ``z``.

        It is written into ``z``, a float tensor that is exact for integers; ``theta`` is the
        threshold in its type.
        """
        if np.issubdtype(p.threshold.dtype, np.integer):
            # z / theta cannot round up to a whole number while z stays below 2**24 (2**53 in
            # float64).
            z.add_(neuron.initial_potential(theta.long()).to(theta.dtype)).div_(theta)
        else:
            z.div_(theta).add_(0.5)  # in the order of Equation 1, so that ties fall as in the source network
        return z.floor_().clamp_(0, p.levels)

    # -- files -------------------------------------------------------------------------------------

    def to_node(self, p: Population, levels_in: int, metadata: dict[str, Any]) -> nir.NIRNode:
        """The NIR node of a population whose sources send in ``levels_in`` timesteps."""
        import nir

        theta = np.ascontiguousarray(np.broadcast_to(p.threshold, p.shape))
        ratio = np.full(p.shape, levels_in / p.levels, np.float32)
        return nir.IF(ratio, theta, np.zeros_like(theta), metadata={**metadata, "levels_in": levels_in})

    def threshold(self, node: nir.NIRNode) -> Any:
        """The threshold in a node that :meth:`to_node` gave: in its metadata, or its own."""
        return node.metadata.get("threshold", getattr(node, "v_threshold", None))


DYNAMICS: dict[str, Dynamics] = {}
"""All dynamics by name."""

Kind = TypeVar("Kind", bound=type[Dynamics])


def register(cls: Kind) -> Kind:
    """A class decorator: populations and files may have the dynamics.

    Raises:
        GraphError: its neurons neither inject, nor relay, nor add, nor read out, nor fire, or
            several of these; or they have steps or a level of their own and do not fire.
    """
    made = cls()
    roles = (made.injects, made.relays, made.adds, made.reads_out, made.fires)
    if sum(roles) != 1 or made.weighted != (made.adds or made.fires or made.reads_out):
        raise GraphError(
            f"dynamics {cls.name!r}: neurons inject, relay, add, read out or fire; the latter three are weighted"
        )
    if not made.fires and (cls.step, cls.level) != (Dynamics.step, Dynamics.level):
        raise GraphError(f"dynamics {cls.name!r}: only neurons that fire have steps and a level of their own")
    DYNAMICS[cls.name] = made
    return cls


def of(kind: str, where: str) -> Dynamics:
    """The dynamics called ``kind``.

    Raises:
        GraphError: there is none; begins with ``where``.
    """
    known = DYNAMICS.get(kind) if isinstance(kind, str) else None
    if known is None:
        raise GraphError(f"{where}: unknown kind {kind!r}")
    return known


@register
class Analog(Dynamics):
    """Inject the network's input in the first timestep.

    ``levels`` is the largest magnitude of the quantized input, or 0 where it is not quantized;
    ``threshold`` the input that one unit of current stands for, ``bias`` the current of an input of
    0: the fraction of a mean that lies between two pixels.
    """

    name = "analog"
    injects = True
    graded = True
    levels = (0, int(np.iinfo(np.int32).max))
    sources = (0, 0)

    def timesteps(self, p: Population) -> int:
        """One."""
        return 1

    def window(self, p: Population, arrivals: Sequence[Span], analog: bool, rule: Rule) -> Window:
        """The first timestep."""
        return Window((Span(Stage.EMIT, 0, 1),))

    def to_node(self, p: Population, levels_in: int, metadata: dict[str, Any]) -> nir.NIRNode:
        """The input."""
        import nir

        return nir.Input({"input": np.array(p.shape)}, metadata={**metadata, "threshold": p.threshold})


@register
class Pasc(Dynamics):
    """The spiking neuron of the paper; see :mod:`pascal_nm.neuron`."""

    name = "pasc"
    weighted = True
    fires = True


@register
class Max(Dynamics):
    """Pass on the changes of the largest count of a window.

    Each count moves by one at most, and so does the largest; of thermometer trains it is the OR.
    ``threshold`` is +1, or -1 where the source's spikes have a negative amplitude: then the largest
    value is the smallest count, the AND.
    """

    name = "max"
    sources = (1, 1)

    def check(self, p: Population, where: str) -> None:
        """Signs."""
        if not np.all(np.abs(p.threshold) == 1):
            raise GraphError(f"{where}: the threshold of a max population is +1 or -1")

    def check_source(self, p: Population, source: Population, projection: Projection, where: str) -> None:
        """A window over the spikes of one population of the same levels, and no weights."""
        if not source.dynamics.counted or source.levels != p.levels:
            raise GraphError(f"{where}: a max population takes the spikes of one population of its own levels")
        self.check_window(projection, where)

    def check_window(self, projection: Projection, where: str) -> None:
        """Refuse synapses that are no window.

        Raises:
            GraphError: begins with ``where``.
        """
        operator = projection.operator
        if not (operator.passes and np.all(operator.weight == 1)) or projection.pool is None:
            raise GraphError(f"{where}: a {self.name} population takes a pooling window and the identity")

    def sign(self, p: Population) -> Array:
        """The threshold."""
        return p.threshold

    def window(self, p: Population, arrivals: Sequence[Span], analog: bool, rule: Rule) -> Window:
        """As long as spikes arrive."""
        return _while_arriving(rule.relays, arrivals)

    def to_node(self, p: Population, levels_in: int, metadata: dict[str, Any]) -> nir.NIRNode:
        """A neuron that fires by one spike."""
        import nir

        half = np.full(p.shape, 0.5, np.float32)
        return nir.IF(np.ones_like(half), half, np.zeros_like(half), metadata={**metadata, "threshold": p.threshold})


@register
class Peak(Max):
    """Pass on the changes of the largest sum of a window: of linear neurons, or of others of these.

    What a linear neuron has sent so far adds up to its sum, what these have sent to the largest of
    the window, whatever the order in which it came. ``levels`` is 0, and ``threshold`` the value
    that one unit stands for.
    """

    name = "peak"
    graded = True
    levels = (0, 0)

    @property
    def valued(self) -> bool:
        """They hand on values."""
        return True

    def check(self, p: Population, where: str) -> None:
        """Units."""
        Dynamics.check(self, p, where)

    def check_source(self, p: Population, source: Population, projection: Projection, where: str) -> None:
        """A window over the sums of one population, and no weights."""
        if not source.dynamics.summed:
            raise GraphError(f"{where}: a peak population takes the sums of one linear population, or of another peak")
        self.check_window(projection, where)

    def sign(self, p: Population) -> Array:
        """The largest, always."""
        return Dynamics.sign(self, p)

    def to_node(self, p: Population, levels_in: int, metadata: dict[str, Any]) -> nir.NIRNode:
        """A factor of 1; a window of NIR's adds up."""
        import nir

        return nir.Scale(np.ones(p.shape, np.float32), metadata={**metadata, "threshold": p.threshold})


@register
class Linear(Dynamics):
    """Pass on, in the timestep in which it arrives, the sum of what arrives.

    A linear layer without an activation. What is sent is a number, of either sign; where the sum is
    0, nothing. Its targets add up the same as if the composed synapses led to them. There is no
    bias, which a target can hold. ``levels`` is 0: what it sends is bounded by its weights and
    sources (:meth:`pascal_nm.network.graph.Graph.largest`); ``threshold`` is the value that one
    unit of it stands for.
    """

    name = "linear"
    weighted = True
    adds = True
    graded = True
    levels = (0, 0)

    def check(self, p: Population, where: str) -> None:
        """No bias."""
        super().check(p, where)
        if np.any(p.bias):
            raise GraphError(f"{where}: a linear population has no bias: give what its targets get of it to them")

    def window(self, p: Population, arrivals: Sequence[Span], analog: bool, rule: Rule) -> Window:
        """As long as spikes arrive."""
        return _while_arriving(rule.relays, arrivals)

    def to_node(self, p: Population, levels_in: int, metadata: dict[str, Any]) -> nir.NIRNode:
        """A factor of 1, between the nodes of its projections."""
        import nir

        return nir.Scale(np.ones(p.shape, np.float32), metadata={**metadata, "threshold": p.threshold})


@register
class Readout(Dynamics):
    """Add up: the potential in units of the threshold is an output of the source network."""

    name = "readout"
    reads_out = True
    weighted = True

    def timesteps(self, p: Population) -> int:
        """None."""
        return 0

    def window(self, p: Population, arrivals: Sequence[Span], analog: bool, rule: Rule) -> Window:
        """As long as spikes arrive."""
        return _while_arriving(Stage.ACCUMULATE, arrivals)

    def to_node(self, p: Population, levels_in: int, metadata: dict[str, Any]) -> nir.NIRNode:
        """The output."""
        import nir

        return nir.Output({"output": np.array(p.shape)}, metadata={**metadata, "threshold": p.threshold})


def _while_arriving(stage: Stage, arrivals: Sequence[Span]) -> Window:
    return Window((Span(stage, min(a.start for a in arrivals), max(a.stop for a in arrivals)),))
