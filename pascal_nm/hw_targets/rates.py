"""How well the ``rate`` profile does: run on data, beside the source network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast, get_args

import numpy as np

from pascal_nm.data import Dataset
from pascal_nm.export.nir_modules import Reading
from pascal_nm.export.nir_neuron import Reset
from pascal_nm.export.profile import Measured, profile_of
from pascal_nm.export.rate import rate_network
from pascal_nm.hw_targets import evaluation, nir_network
from pascal_nm.network.graph import Graph

RESETS: tuple[Reset, ...] = get_args(Reset)
"""What readers' neurons do after a spike."""


def doublings(levels: int, timesteps: int) -> list[int]:
    """L, 2L, 4L… below ``timesteps``, and ``timesteps``."""
    numbers = []
    while levels < timesteps:
        numbers.append(levels)
        levels *= 2
    return [*numbers, timesteps]


def measure(
    graph: Graph,
    data: Dataset,
    timesteps: Sequence[int],
    resets: Sequence[Reset] = RESETS,
    progress: Callable[[int, int], None] | None = None,
    start: str | None = None,
) -> list[Measured]:
    """Run the rate network of each T, for each reset, in torch.

    Args:
        graph: the network.
        data: images.
        timesteps: every T; each has a network of its own.
        resets: what its neurons do after a spike.
        progress: called with (images done, images in all runs).
        start: how neurons get their initial potential (:data:`pascal_nm.export.readers.Start`);
            None takes the best.

    Raises:
        ConversionError: the network has no rate form.
        DataError: the images do not fit the network.
    """
    expected = evaluation.predictions(graph, data)
    found = []
    for i, t in enumerate(timesteps):
        raw = rate_network(graph, t, start=start)
        profile = profile_of(raw)
        assert profile is not None, "rate_network describes its file"
        for j, reset in enumerate(resets):
            program = nir_network.NirProgram(raw, t, Reading(after_spike=reset))
            before = (i * len(resets) + j) * len(data)

            def update(done: int, total: int, before: int = before) -> None:
                if progress is not None:
                    progress(before + done, len(timesteps) * len(resets) * len(data))

            result = nir_network.evaluate(program, data, profile.inputs, update)
            agreement = float(np.mean(result.predictions == expected))
            found.append(Measured(t, reset, len(data), result.accuracy, agreement))
    return sorted(found, key=lambda m: (RESETS.index(cast("Reset", m.reset)), m.timesteps))


def exact_accuracy(graph: Graph, data: Dataset) -> float:
    """Share of right classes of the network itself, in closed form."""
    return float(np.mean(evaluation.predictions(graph, data) == data.labels))
