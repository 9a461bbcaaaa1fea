"""Colours and labels that pictures share: a kind of event looks the same in each of them."""

from __future__ import annotations

from collections.abc import Mapping

from pascal_nm.hw_targets.cost import KINDS

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000")
"""Okabe and Ito's palette, https://jfly.uni-koeln.de/color/."""

NEUTRAL = "#888888"
"""Seen on light and on dark paper."""

POPULATION_COLOURS: Mapping[str, str] = {
    "analog": NEUTRAL,
    "pasc": COLOURS[0],
    "max": COLOURS[3],
    "readout": COLOURS[2],
}
"""Colour of each kind of population; others are neutral."""

KIND_NAMES: Mapping[str, str] = {"analog": "analog input", "pasc": "PASC neurons", "max": "max pooling"}
"""What a legend calls them."""

KIND_STYLES: Mapping[str, tuple[str, str, str]] = {
    name: (kind.label, COLOURS[kind.colour], kind.hatch) for name, kind in KINDS.items()
}
"""Label, colour and hatching of each of :data:`pascal_nm.hw_targets.cost.KINDS`, in the
order of the bars."""

STAGE_COLOURS: Mapping[str, str] = {
    "accumulate": "#999999",
    "integrate": COLOURS[0],
    "correct": COLOURS[1],
    "encode": COLOURS[3],
    "emit": COLOURS[2],
    "stream": COLOURS[4],
    "change": COLOURS[5],
}
"""Colour of each :class:`pascal_nm.neuron.Stage`."""
