"""What our files for other tools say about themselves, so that they too run from the file alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import nir
import numpy as np

from pascal_nm.errors import FileError, PascalError, described
from pascal_nm.graph import Array, Graph, Population, Preprocessing, Shape

METADATA = "pascal_nm_profile"
"""Key in the metadata of the whole graph."""

Name = Literal["unrolled", "rate"]


@dataclass(frozen=True)
class Measured:
    """How well a rate network did.

    Attributes:
        timesteps: T that it was built for and run for.
        reset: of its neurons, ``zero`` or ``subtract``.
        images: how many were run.
        accuracy: share of right classes.
        agreement: share of the images whose class is the source network's.
    """

    timesteps: int
    reset: str
    images: int
    accuracy: float
    agreement: float


@dataclass(frozen=True, eq=False)
class Profile:
    """The description of a file.

    Attributes:
        name: ``unrolled`` or ``rate``.
        timesteps: for how long an image is shown.
        input: the network's analog population: scale and range of its inputs.
        integer: whether inputs are rounded to whole numbers.
        preprocessing: how pixels become inputs; None where the network does not say.
        classes: names of the outputs.
        shapes: of each population whose spikes stand for levels, by the name of its node.
        copies: of each neuron of these populations, its channels' neighbours in the file.
        measured: what is known of the accuracy.
    """

    name: Name
    timesteps: int
    input: Population
    integer: bool
    preprocessing: Preprocessing | None
    classes: tuple[str, ...]
    shapes: Mapping[str, Shape]
    copies: Mapping[str, int]
    measured: tuple[Measured, ...] = ()

    def inputs(self, pixels: Array) -> Array:
        """What is shown for pixels (N, *shape): float32 of shape (N, *input shape).

        Raises:
            FileError: the file does not say how pixels become inputs.
            DataError: the pixels do not fit the network.
        """
        if self.preprocessing is None:
            raise FileError("the network does not say how pixels become inputs: export it with --mean and --std")
        dtype = np.dtype(np.int32 if self.integer else np.float32)
        return self.input.currents(self.preprocessing(pixels), dtype).astype(np.float32)

    def levels(self, name: str, spikes: Array) -> Array:
        """The level of each neuron of a population in an ``unrolled`` network, (N, *shape), from what its node sends, (N, channels, H, W)."""
        (channels, *image), copies = self.shapes[name], self.copies[name]
        own = spikes[:, : channels * copies]  # what travels along comes behind
        return np.asarray(own.reshape(len(spikes), channels, copies, *image).sum(2))

    def as_metadata(self) -> dict[str, str]:
        """The entry in the graph's metadata."""
        p = self.input
        content = {
            "profile": self.name,
            "timesteps": self.timesteps,
            "integer": self.integer,
            "input": {"name": p.name, "shape": p.shape, "levels": p.levels, "threshold": p.threshold.tolist()},
            "preprocessing": None if self.preprocessing is None else asdict(self.preprocessing),
            "classes": self.classes,
            "populations": {name: {"shape": shape, "copies": self.copies[name]} for name, shape in self.shapes.items()},
            "measured": [asdict(m) for m in self.measured],
        }
        return {METADATA: json.dumps(content)}


def describe(
    graph: Graph, name: Name, timesteps: int, copies: Mapping[str, int], measured: tuple[Measured, ...] = ()
) -> Profile:
    """The description of a graph's file; ``copies`` by population."""
    shapes = {p.name: p.shape for p in graph.populations if p.name in copies}
    return Profile(
        name, timesteps, graph.input, graph.is_integer, graph.preprocessing, graph.classes, shapes, copies, measured
    )


def profile_of(raw: nir.NIRGraph) -> Profile | None:
    """The description in a file's metadata, or None in a file that is not of this kind.

    Raises:
        FileError: it is there but cannot be understood.
    """
    if METADATA not in raw.metadata:
        return None
    try:
        return _parsed(json.loads(raw.metadata[METADATA]))
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError, PascalError) as error:
        raise FileError(f"the file's description of itself cannot be understood ({described(error)})") from error


def _parsed(content: Mapping[str, Any]) -> Profile:
    if content["profile"] not in ("unrolled", "rate"):
        raise FileError(f"unknown profile {content['profile']!r}")
    entry, pre, populations = content["input"], content["preprocessing"], content["populations"]
    shape = tuple(int(n) for n in entry["shape"])
    threshold = np.asarray(entry["threshold"], np.float64)
    return Profile(
        content["profile"],
        int(content["timesteps"]),
        Population(str(entry["name"]), "analog", shape, int(entry["levels"]), threshold),
        bool(content["integer"]),
        None if pre is None else Preprocessing(float(pre["scale"]), tuple(pre["mean"]), tuple(pre["std"])),
        tuple(str(name) for name in content["classes"]),
        {name: tuple(int(n) for n in p["shape"]) for name, p in populations.items()},
        {name: int(p["copies"]) for name, p in populations.items()},
        tuple(Measured(**m) for m in content["measured"]),
    )
