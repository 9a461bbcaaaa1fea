"""A whole spiking network as one hierarchical Process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pascal_nm.common.arrays import Shape
from pascal_nm.errors import GraphError
from pascal_nm.export import read_nir
from pascal_nm.network.graph import Graph, Population
from pascal_nm.process_models.compat import AbstractProcess, InPort, OutPort, Var
from pascal_nm.simulation import schedule


class Layer:
    r"""A population of a :class:`PascNetwork`: Vars and a port to read, monitor and connect.

    Attributes:
        population: what it is.
        v: Var (B, \*shape), membrane potential; None of populations that have none (max-pooling,
            sums).
        s: Var (B, \*shape), signed spike counter; None of populations that do not count.
        s_out: OutPort (B, \*shape), its spikes; None of a readout, which sends none.
    """

    def __init__(self, population: Population, batch: int) -> None:
        shape, dynamics = (batch, *population.shape), population.dynamics
        neurons = not (dynamics.adds or dynamics.relays)
        self.population = population
        self.v: Any = Var(shape=shape, init=0) if neurons else None
        self.s: Any = Var(shape=shape, init=0) if neurons and not dynamics.reads_out else None
        self.s_out: Any = None if dynamics.reads_out else OutPort(shape=shape)

    @property
    def name(self) -> str:
        """The population's."""
        return self.population.name

    @property
    def shape(self) -> Shape:
        """The population's, without the batch."""
        return self.population.shape

    def __repr__(self) -> str:
        return f"{self.name}: {self.population.kind}, {'x'.join(map(str, self.shape))}"


class PascNetwork(AbstractProcess):
    r"""A converted network inside a Lava network of one's own.

    What sends its currents, and what hears its spikes, may be any Process.

    Images follow each other every :attr:`interval` timesteps, with no reset in between. An image's
    currents (``graph.currents`` of the preprocessed image) arrive in one timestep, the first of its
    interval, and nothing in the others: a Process that sends in timestep 0 is heard in timestep 0.
    Currents that come in another timestep are an error of the run.

    Args:
        graph: a network, or the path of a .nir file that holds one: float for ``floating_pt`` run
            configurations, integer for ``fixed_pt``.
        net_config: the same, by the name that Lava-DL's ``netx`` has for it.
        batch: B, the leading axis of ports and Vars.
        offset: the timestep in which the first image's currents arrive.
        name: of the Process.

    Raises:
        GraphError: no network is given, one that is stopped before its end, or a negative offset.
        FileError: the file cannot be read, or holds no network of this package.

    Ports:
        a_in: (B, \*input shape), the analog input's currents; ``inp`` is another name of it.
        s_out: (B, \*shape), spikes of the last population that has counts: in {-1, 0, +1}, or
            graded; ``out`` is another name of it.

    Vars (Lava moves them element by element):
        v: (B, \*output shape), the readout's potential: an image's answer after the
        interval's last timestep.

    Attributes:
        graph: the network.
        layers: its populations but the input, in order; ``len(network)`` is how many.
        schedule: when its populations do what.
        interval: timesteps of an image.
    """

    def __init__(
        self,
        graph: Graph | str | Path | None = None,
        *,
        net_config: Graph | str | Path | None = None,
        batch: int = 1,
        offset: int = 0,
        name: str | None = None,
    ) -> None:
        given = net_config if graph is None else graph
        if isinstance(given, str | Path):
            given = read_nir(given)
        if not isinstance(given, Graph) or (graph is not None and net_config is not None):
            raise GraphError(
                "PascNetwork takes a network, a Graph or the path of a .nir file, once; "
                f"it was given {type(given).__name__}" + (" and net_config" if net_config is not None else "")
            )
        if given.timing.stop is not None:
            raise GraphError(
                f"PascNetwork runs every image to its end, and this network is stopped after {given.timing.stop} "
                "timesteps: give it without (graph.replace(timing=Timing(graph.timing.schedule, graph.timing.lag)))"
            )
        if offset < 0:
            raise GraphError(f"PascNetwork: the first image comes in timestep 0 or later, not in {offset}")
        super().__init__(graph=given, batch=batch, offset=offset, name=name)
        self.graph = given
        self.schedule = schedule.of(given, delay=1)
        self.interval = self.schedule.steps
        last = given.counted[-1]
        self.a_in = InPort(shape=(batch, *given.input.shape))
        self.s_out = OutPort(shape=(batch, *last.shape))
        self.layers = [Layer(p, batch) for p in given.populations[1:]]
        for number, layer in enumerate(self.layers):  # Lava finds ports and Vars as attributes
            for part in ("v", "s", "s_out"):
                if getattr(layer, part) is not None:
                    setattr(self, f"layer_{number}_{part}", getattr(layer, part))
        self.v = next(layer.v for layer in self.layers if layer.name == given.output.name)

    @property
    def inp(self) -> Any:
        """The port of the input, as ``netx`` calls it."""
        return self.a_in

    @property
    def out(self) -> Any:
        """The port of the last spikes, as ``netx`` calls it."""
        return self.s_out

    def __len__(self) -> int:
        return len(self.layers)

    def __str__(self) -> str:
        return repr(self.graph)
