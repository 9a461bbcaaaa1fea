"""What the committed networks compute is what ``tests/digests.json`` says."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from pascal_nm.hw_targets import chip
from pascal_nm.source import checkpoint
from tests import digests

SMALL = "mnist.pt"
QUICK = ("torch",)

OTHER_PROCESSOR = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
}
"""The environment in which the libraries compute as on a processor without the
vectors of this one."""


@pytest.fixture(scope="module")
def written():
    return digests.read()


def altered(path, layer):
    """The small network with another weight of a layer, as a file."""
    model = checkpoint.load(digests.MODELS / SMALL)
    weight = model.module.get_submodule(layer).weight.data
    weight[0, 0, 1, 1] += 0.5 * weight.abs().max()
    checkpoint.save(model, path)
    return path


def test_the_digests_of_a_small_network_are_as_written(written):
    now = {SMALL: digests.of(digests.MODELS / SMALL, QUICK)}
    assert digests.differences({SMALL: digests.only(QUICK, written[SMALL])}, now) == []


@pytest.mark.slow
def test_a_changed_weight_changes_the_digests_of_its_layer_and_of_later_ones_alone(written, tmp_path):
    now = {SMALL: digests.of(altered(tmp_path / SMALL, "blocks.1.body.0"), ["torch"])}
    before = {SMALL: digests.only(["torch"], written[SMALL])}
    found = digests.differences(before, now)
    for schedule in digests.SCHEDULES:
        for arithmetic in ("float64", "int8"):
            where = f"{SMALL}, {schedule}, {arithmetic}, torch"
            assert any(line.startswith(f"{where}, blocks_1_body_2, counts: was ") for line in found)
            assert any(line.startswith(f"{where}, blocks_1_act, synaptic_operations: was ") for line in found)
            assert any(line.startswith(f"{where}, potential: was ") for line in found)
    earlier = {"stem_2", "blocks_0_body_2", "blocks_0_act"}
    assert not [line for line in found if earlier & set(line.split(": was ")[0].split(", "))]


def test_the_file_is_small_and_has_every_committed_network(written):
    committed = {path.name for path in digests.MODELS.glob("*.pt")}
    assert set(written) - digests.ELSEWHERE == committed - digests.ELSEWHERE
    assert digests.FILE.stat().st_size < 420_000


def test_every_network_has_every_schedule_and_target(written):
    for name, content in written.items():
        engines = {"torch", "lava"} if name in digests.IN_LAVA else {"torch"}
        for schedule in digests.SCHEDULES:
            there = {arithmetic: set(each) for arithmetic, each in content[schedule].items()}
            assert there == {"float64": engines, "int8": engines, "int8 that fits": set(digests.integer_chips())}


def test_every_chip_prices_something():
    pricing = {name for names in digests.PRICES.values() for name in names}
    assert pricing | set(digests.integer_chips()) == set(chip.available())


@pytest.mark.parametrize(
    ("before", "after", "equal"),
    [
        (1.0, 1.0 + 1e-9, True),
        (1.0, 1.0 + 1e-4, False),
        ([300.0, 0.001], [300.0, 0.001 + 1e-8], True),
        ([300.0, 0.001], [300.0, 0.002], False),
        ([1.0, 2.0], [1.0], False),
        (1_000_000, 1_000_001, False),
        ("7:a0", "7:a1", False),
        (None, None, True),
        (None, 1.0, False),
    ],
)
def test_floats_are_compared_within_the_tolerance_and_all_else_exactly(before, after, equal):
    found = digests.differences({"net": {"quantity": before}}, {"net": {"quantity": after}})
    assert found == ([] if equal else [f"net, quantity: was {digests.shown(before)}, is {digests.shown(after)}"])


def test_what_came_and_what_went_is_named_by_layer():
    before = {"net": {"layers": ["a", "b"], "pasc": {digests.ROWS: {"counts": ["1:x", "2:y"]}}}}
    after = {"net": {"layers": ["a", "c"], "pasc": {digests.ROWS: {"counts": ["1:x", "2:y"]}}}}
    assert digests.differences(before, after) == [
        "net, layers: was ['a', 'b'], is ['a', 'c']",
        "net, pasc, b, counts: was 2:y, is not there",
        "net, pasc, c, counts: was not there, is 2:y",
    ]


def test_what_is_written_once_is_read_everywhere():
    first = {"x": {"n": 1, "f": [0.5]}, "y": {"n": 2, "f": [0.5]}}
    content = {"layers": ["a"], "pasc": first, "two_phase": {"x": {"n": 1, "f": [0.5]}, "y": {"n": 2, "f": [0.25]}}}
    packed = digests.packed(content, {})
    assert packed["pasc"] == {"x": first["x"], "y": {"n": 2, "f": digests.BEFORE}}
    assert packed["two_phase"] == {
        "x": {"n": digests.ABOVE, "f": digests.BEFORE},
        "y": {"n": digests.ABOVE, "f": [0.25]},
    }
    assert digests.unpacked(json.loads(digests.as_text(packed)), {}) == content


def test_a_digest_tells_apart_what_has_one_sum_and_not_one_type():
    assert digests.digest(np.array([1, 2], np.int8)) == digests.digest(np.array([1, 2], np.int64))
    assert digests.digest(np.array([1, 2])) != digests.digest(np.array([2, 1]))
    assert digests.digest(np.array([1, 2])) != digests.digest(np.array([[1, 2]]))
    assert digests.digest(np.array([0, 0])) == "0" != digests.digest(np.array([1, -1]))
    with pytest.raises(TypeError):
        digests.digest(np.array([1.0]))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.name for path in digests.MODELS.glob("*.pt")))
def test_the_digests_of_every_network_are_as_written_on_every_target(name, written):
    lava = importlib.util.find_spec("lava") is not None
    targets = [target for target in digests.every_target() if target != "lava" or lava]
    now = {name: digests.of(digests.MODELS / name, targets)}
    assert digests.differences({name: digests.only(targets, written[name])}, now) == []


@pytest.mark.slow
def test_the_digests_do_not_depend_on_the_processor():
    ran = subprocess.run(
        [sys.executable, "-m", "tests.digests", SMALL],
        cwd=digests.MODELS.parent,
        env={**os.environ, **OTHER_PROCESSOR},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
