"""Published measurements on silicon: every figure of a chip's file is held to them."""

import dataclasses
from pathlib import Path

import pytest

from pascal_nm.cli.silicon import markdown_table
from pascal_nm.errors import FileError
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import silicon, tables
from pascal_nm.hw_targets.silicon import ASKED, Beside, Layers, Measurement

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found():
    return silicon.compared()


def test_every_prediction_keeps_its_band(found):
    assert [line for each in found for line in each.outside()] == []


def test_what_is_asked_for_is_reached_or_explained(found):
    assert len([each for each in found if each.ratios]) >= 8
    for each in found:
        m = each.measured
        missed = [name for name in ASKED if name in each.ratios and name not in each.reached]
        assert bool(missed) == bool(m.why), m.name
        assert set(m.bands) == set(missed), f"{m.name}: a band of its own stands for what is missed, and nothing else"


@pytest.mark.parametrize("section", ["energy", "latency", "static"])
@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_a_changed_figure_leaves_a_band(found, section, factor):
    """Of each chip whose measurements say something of the section."""
    said = {"energy": "dynamic", "latency": "step", "static": "total"}[section]
    for name in {each.measured.chip for each in found}:
        mine = [each for each in found if each.measured.chip == name and said in each.ratios]
        if not any(each.band(said) for each in mine):
            continue
        chip = mine[0].chip
        if section == "static":
            power = dataclasses.replace(chip.static.chip, value=chip.static.chip.value * factor * 4)
            core = chip.static.core and dataclasses.replace(chip.static.core, value=chip.static.core.value * factor * 4)
            changed = dataclasses.replace(chip, static=chips.Static(power, core))
            if factor < 1:
                continue  # dynamic energy alone is within half of a total
        else:
            figures = {e: dataclasses.replace(f, value=factor * f.value) for e, f in getattr(chip, section).items()}
            changed = dataclasses.replace(chip, **{section: figures})
        assert any(list(Beside(each.measured, changed).outside()) for each in mine), (name, section)


def test_the_page_has_the_table_of_the_command(found):
    assert markdown_table(found) in (ROOT / "docs" / "silicon.md").read_text()


CHIP = """
name = "Test"
estimate = false
source = "none"
[energy]
synaptic_operation = { value = 10, source = "s" }
multiply_accumulate = { value = 10, source = "s" }
update = { value = 100, source = "s" }
[latency]
synaptic_operation = { value = 2, source = "s" }
update = { value = 5, source = "s" }
[barrier]
tiles = [1]
nanoseconds = [1000]
chips = { value = 500, source = "s" }
source = "s"
[static]
chip = { value = 50, source = "s" }
core = { value = 2, source = "s" }
[host]
value = { value = 3, source = "s" }
readout = { value = 7, source = "s" }
power = { value = 30, source = "s" }
"""


def measurement(**changed):
    return Measurement(
        "test",
        "none",
        "image",
        "s",
        "published",
        {"synaptic_operation": 1e6, "update": 2e4, "emitted": 9e9, "injected": 10, "read": 2},
        **{"dynamic": 20.0, "static": 8.0, "static_of": "chips", "step": 40.0, "steps": 2, "cores": 10}
        | {"busiest": {"synaptic_operation": 100, "update": 1000}}
        | changed,
    )


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, {"dynamic": 12.0, "total": 12.0 + 0.070 * 80, "step": 0.2 + 5 + 1 + 15 + 7}),
        ({"static_of": "cores"}, {"dynamic": 12.0, "total": 12.0 + 0.020 * 80}),
        ({"chips": 2}, {"total": 12.0 + 0.120 * 80, "step": 28.7}),
        ({"host_inside": True}, {"dynamic": 12.0 + 0.030 * 80, "total": 12.0 + 0.100 * 80}),
        ({"busiest": {"graded_operation": 100, "emitted": 9e9}}, {"step": 0.2 + 1 + 15 + 7}),
    ],
)
def test_a_prediction_can_be_added_up_by_hand(changed, expected):
    """Microjoules and microseconds: 1e6 operations of 10 pJ and 2e4 updates of 100 pJ; 100
    operations of 2 ns and 1e3 updates of 5 ns on the busiest core, 5 values in and 1 out in each of
    2 timesteps of 40 us.
    """
    found = Beside(measurement(**changed), tables.parse(chips.Chip, CHIP.encode())).predictions
    for quantity, value in expected.items():
        assert found[quantity] == pytest.approx(value, rel=1e-12), quantity


def test_what_was_not_measured_is_not_compared():
    chip = tables.parse(chips.Chip, CHIP.encode())
    assert Beside(measurement(static=None, step=None, cores=None), chip).ratios == {"dynamic": 0.6}
    assert Beside(measurement(dynamic=None), dataclasses.replace(chip, latency={})).ratios == {}
    assert next(iter(Beside(measurement(dynamic=40.0), chip).outside())).startswith(
        "test: dynamic predicted over measured is 0.3, outside of 0.7 to 1.4"
    )


def test_layers_become_a_network():
    graph = silicon.layers_graph(
        Layers((3, 32, 32), ("conv 8 3 2 1", "depthwise 3x1 1 1x0", "pool 2", "conv 4 1 1 0", "dense 10"), 4)
    )
    assert [p.shape for p in graph.populations] == [(3, 32, 32), (8, 16, 16), (8, 16, 16), (4, 8, 8), (10,)]
    assert graph.is_integer and graph.populations[-1].kind == "readout"
    assert {int(abs(q.operator.weight).max()) for q in graph.projections} == {7}


@pytest.mark.parametrize("layer", ["conv 8 3", "dense", "dense ten", "norm 3", "conv 8 3x3x3 1 0", "depthwise 3 1"])
def test_a_layer_that_is_none_is_named(layer):
    with pytest.raises(FileError, match=r"layer 0, .* is none that follows \(3, 8, 8\)"):
        silicon.layers_graph(Layers((3, 8, 8), (layer, "dense 2")))
