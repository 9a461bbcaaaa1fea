"""What our files for other tools say about themselves, so that they too run from the file alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import nir
import numpy as np

from pascal_nm.common.arrays import Array, Shape
from pascal_nm.errors import FileError, PascalError
from pascal_nm.export import plain
from pascal_nm.export.plain import Content
from pascal_nm.export.readers import Start
from pascal_nm.network.graph import Graph, Population, Preprocessing, taken

METADATA = "pascal_nm_profile"
"""Key in the metadata of the whole graph."""

Name = Literal["unrolled", "rate"]

MOST_TIMESTEPS: Mapping[str, int] = {"unrolled": 1, "rate": 4096}
"""For how long an image may be shown: a spike that a rate network passes on leaves 1/4,096 of the
threshold behind, which must not add up to another."""


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
        start: how the neurons of a ``rate`` network get their initial potential
            (:data:`pascal_nm.export.readers.Start`); files of earlier versions do not
            say, and drip it in.
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
    start: Start = "drip"

    def inputs(self, data: Array) -> Array:
        """What is shown for pixels or inputs (N, *shape): float32 of shape (N, *input shape).

        Raises:
            DataError: they do not fit the network, or are pixels and the file does not say how
                these become inputs.
        """
        dtype = np.dtype(np.int32 if self.integer else np.float32)
        return self.input.currents(taken(self.input, self.preprocessing, data), dtype).astype(np.float32)

    def levels(self, name: str, spikes: Array) -> Array:
        """The level of each neuron of a population in an ``unrolled`` network, (N, *shape).

        It is read from what the population's node sends, (N, channels, H, W).
        """
        (channels, *image), copies = self.shapes[name], self.copies[name]
        own = spikes[:, : channels * copies]  # what travels along comes behind
        return np.asarray(own.reshape(len(spikes), channels, copies, *image).sum(2))

    def as_metadata(self) -> dict[str, str]:
        """The entry in the graph's metadata."""
        p = self.input
        content = {
            "profile": self.name,
            "timesteps": self.timesteps,
            "start": self.start,
            "integer": self.integer,
            "input": {"name": p.name, "shape": p.shape, "levels": p.levels, "threshold": p.threshold.tolist()}
            | ({"bias": p.bias.tolist()} if p.bias.any() else {}),
            "preprocessing": None if self.preprocessing is None else asdict(self.preprocessing),
            "classes": self.classes,
            "populations": {name: {"shape": shape, "copies": self.copies[name]} for name, shape in self.shapes.items()},
            "measured": [asdict(m) for m in self.measured],
        }
        return {METADATA: json.dumps(content)}


def describe(
    graph: Graph,
    name: Name,
    timesteps: int,
    copies: Mapping[str, int],
    measured: tuple[Measured, ...] = (),
    start: Start = "drip",
) -> Profile:
    """The description of a graph's file; ``copies`` by population."""
    shapes = {p.name: p.shape for p in graph.populations if p.name in copies}
    return Profile(
        name,
        timesteps,
        graph.input,
        graph.is_integer,
        graph.preprocessing,
        graph.classes,
        shapes,
        copies,
        measured,
        start,
    )


def profile_of(raw: nir.NIRGraph, path: str | Path = "the file") -> Profile | None:
    """The description in a file's metadata, or None in a file that is not of this kind.

    Raises:
        FileError: it is there but cannot be understood, or speaks of other nodes
            than the graph has.
    """
    if METADATA not in raw.metadata:
        return None
    try:
        profile = _parsed(plain.parsed(raw.metadata[METADATA]))
        _check_fits(profile, raw)
    except PascalError as error:
        raise FileError(f"what {path} says about itself cannot be understood: {error}") from error
    return profile


def _parsed(content: Content) -> Profile:
    name = plain.text(content["profile"], "the profile")
    if name not in MOST_TIMESTEPS:
        raise FileError(f"unknown profile {name[:40]!r}")
    entry = Content(content["input"], "the input")
    shape = plain.shape(entry["shape"], "the input's shape")
    levels = plain.whole(entry["levels"], "the input's levels")
    threshold, bias = _array(entry["threshold"], "the input's threshold"), _array(entry.get("bias", 0), "its bias")
    if threshold.min() <= 0:
        raise FileError(f"the input's threshold must be positive, not {threshold.min():g}")
    start = content.get("start", "drip")
    if start not in get_args(Start):
        raise FileError(f"'start' must be one of {', '.join(get_args(Start))}")
    integer, pre = content["integer"], content["preprocessing"]
    if not isinstance(integer, bool):
        raise FileError("'integer' must be true or false")
    populations = {
        name: Content(p, f"population {name!r}")
        for name, p in Content(content["populations"], "the populations").items()
    }
    return Profile(
        cast("Name", name),
        plain.whole(content["timesteps"], "the timesteps", 1, MOST_TIMESTEPS[name]),
        Population(plain.text(entry["name"], "the input's name"), "analog", shape, levels, threshold, bias),
        integer,
        None if pre is None else preprocessing(Content(pre, "the preprocessing")),
        plain.texts(content["classes"], "the classes"),
        {name: plain.shape(p["shape"], f"the shape of {name!r}") for name, p in populations.items()},
        {name: plain.whole(p["copies"], f"the copies of {name!r}", 1) for name, p in populations.items()},
        tuple(_measured(Content(m, "a measurement")) for m in plain.entries(content["measured"], "the measurements")),
        cast("Start", start),
    )


def _array(value: Any, what: str) -> Array:
    """Nested lists of numbers, as deep as the input has axes."""
    array = np.asarray(value, object)  # no text becomes a number
    if array.ndim > 3 or not array.size:
        raise FileError(f"{what} must be numbers with up to 3 axes")
    return np.array([plain.number(entry, what) for entry in array.reshape(-1)]).reshape(array.shape)


def preprocessing(content: Content) -> Preprocessing:
    """The preprocessing in a file's JSON.

    Raises:
        FileError: it does not hold what it must.
        DataError: a value out of range.
    """
    mean, std = (plain.numbers(content[name], name) for name in ("mean", "std"))
    return Preprocessing(plain.number(content["scale"], "the scale"), mean, std)


def _measured(content: Content) -> Measured:
    return Measured(
        plain.whole(content["timesteps"], "the timesteps of a measurement", 1),
        plain.text(content["reset"], "the reset of a measurement"),
        plain.whole(content["images"], "the images of a measurement", 1),
        plain.number(content["accuracy"], "the accuracy of a measurement"),
        plain.number(content["agreement"], "the agreement of a measurement"),
    )


def _check_fits(profile: Profile, raw: nir.NIRGraph) -> None:
    """The description speaks of the nodes of this file."""
    node = raw.nodes.get(profile.input.name)
    if not isinstance(node, nir.Input) or math.prod(map(int, node.input_type["input"])) != profile.input.size:
        raise FileError(f"the graph has no Input {profile.input.name!r} of {profile.input.size:,} values")
    for name, shape in profile.shapes.items():
        threshold = getattr(raw.nodes.get(name), "v_threshold", None)
        if threshold is None or np.size(threshold) < math.prod(shape) * profile.copies[name]:
            raise FileError(f"the graph has no neurons {name!r}, {profile.copies[name]} for each of {shape}")
