"""Stages in time: what a neuron does in which timesteps."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

from pascal_nm.errors import GraphError
from pascal_nm.neuron import KEEPING, LISTENING, SENDING, Stage


class Span(NamedTuple):
    """A stage in the timesteps ``start <= t < stop``."""

    stage: Stage
    start: int
    stop: int

    @property
    def steps(self) -> int:
        """Number of timesteps."""
        return self.stop - self.start


@dataclass(frozen=True)
class Window:
    """The stages of one population, in order and without gaps.

    Attributes:
        spans: the stages, in order; a gap is a GraphError.
        shift: the timestep in which the potential gets its theta / 2; None: it has
            it from the start.
    """

    spans: tuple[Span, ...]
    shift: int | None = None

    def __post_init__(self) -> None:
        if not self.spans or any(span.steps < 1 for span in self.spans):
            raise GraphError("a window needs at least one stage, and each stage a timestep")
        if len({span.stage for span in self.spans}) < len(self.spans):
            raise GraphError("a window has each stage once")
        for before, after in itertools.pairwise(self.spans):
            if before.stop != after.start:
                raise GraphError(
                    f"stages follow each other without gaps: {before.stage.value} ends before timestep {before.stop}, "
                    f"{after.stage.value} starts in {after.start}"
                )

    @property
    def start(self) -> int:
        """First timestep in which input may arrive."""
        return self.spans[0].start

    @property
    def stop(self) -> int:
        """First timestep in which the population has nothing more to do."""
        return self.spans[-1].stop

    def span(self, stage: Stage) -> Span | None:
        """The span of ``stage``, or None where the population has no such stage."""
        return next((span for span in self.spans if span.stage is stage), None)

    @property
    def emit(self) -> Span:
        """The timesteps in which spikes may leave; empty at the end for a readout."""
        sending = (span for span in self.spans if span.stage in SENDING)
        return next(sending, Span(Stage.EMIT, self.stop, self.stop))

    @property
    def listening(self) -> range:
        """The timesteps in which what arrives is heard."""
        return range(self.start, max((span.stop for span in self.spans if span.stage in LISTENING), default=self.start))

    @property
    def keeps(self) -> bool:
        """Whether the neurons' state goes on from frame to frame."""
        return self.emit.stage in KEEPING

    @property
    def graded(self) -> bool:
        """Whether one spike carries the whole change of a level."""
        return self.emit.stage is Stage.CHANGE

    @property
    def begun(self) -> int:
        """The first timestep after the population's first emission and all that is no input.

        What is no input are bias and shift.
        """
        return max(self.emit.start, -1 if self.shift is None else self.shift) + 1

    @property
    def bias(self) -> Span:
        """The timesteps over which the bias is injected: the main window of Algorithm 1 or 2.

        A neuron whose state is kept gets it whole when it begins to fire.
        """
        if self.keeps:
            return self.emit._replace(stop=self.emit.start + 1)
        return self.span(Stage.INTEGRATE) or self.span(Stage.ENCODE) or self.spans[0]

    def __str__(self) -> str:
        """First and last timestep: ``3-14``."""
        return f"{self.start}-{self.stop - 1}"

    def at(self, t: int) -> Span | None:
        """The span that timestep ``t`` falls into, or None outside the window."""
        return next((span for span in self.spans if span.start <= t < span.stop), None)
