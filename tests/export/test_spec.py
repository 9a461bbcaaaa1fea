"""The specification of our NIR files: the reader that was written from it, its check vectors."""

import subprocess
import sys
import types
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from pascal_nm.export import read_nir, write_nir
from pascal_nm.network.graph import Timing
from pascal_nm.simulation import simulate
from tests import networks
from tests.export import vectors
from tests.strategies import integer_graphs

sys.path.insert(0, str(vectors.FOLDER))
import reader

FORMS = ["float", "integer"]


@pytest.mark.parametrize("form", FORMS)
def test_the_check_vectors_are_what_the_package_writes(form):
    graph = vectors.network(form == "integer")
    assert graph.differences(read_nir(vectors.FOLDER / f"{form}.nir")) == []
    found, stored = vectors.vectors(graph), np.load(vectors.FOLDER / f"{form}.npz")
    assert found.keys() == set(stored)
    for name, values in found.items():
        np.testing.assert_allclose(values, stored[name], rtol=1e-12, atol=1e-9 if form == "float" else 0)


@pytest.mark.parametrize("form", FORMS)
def test_the_reader_finds_the_check_vectors(form):
    network, stored = reader.Network(vectors.FOLDER / f"{form}.nir"), np.load(vectors.FOLDER / f"{form}.npz")
    counts, outputs = network.run(stored["inputs"])
    assert {f"counts_{name}" for name in counts} == {name for name in stored if name.startswith("counts_")}
    for name, count in counts.items():
        np.testing.assert_array_equal(count, stored[f"counts_{name}"])
        assert len(np.unique(count)) == int(network.about[name]["levels"]) + 1, "all levels occur"
    np.testing.assert_allclose(outputs, stored["outputs"], rtol=1e-12, atol=1e-12)
    for name, spans in network.emits.items():
        if network.about[name]["kind"] in ("pasc", "analog"):
            assert spans[-1][1] == stored[f"first_{name}"] + stored[f"steps_{name}"]


WRONG = {
    "fires before it adds": (
        "fired = (v >= theta)",
        "fired = (v - (sum(parts, 0 if arrived is None else arrived) if t < last else 0) >= theta)",
    ),
    "theta / 2 rounded up": ("theta // 2", "(theta + 1) // 2"),
    "the longest arrival is the main one": ("(span[1], span[1] - span[0])", "(span[1] - span[0], span[1])"),
    "the earliest arrival is the main one": ("(span[1], span[1] - span[0])", "(-span[0], 0)"),
    "linear sends one span": ('sorted(set(arrivals)) if kind == "linear" else', "False or"),
    "corrects once more": ("levels) - 1)", "levels))"),
    "corrects once less": ("levels) - 1)", "levels) - 2)"),
    "accumulate takes bias": ("if t >= begin else []", "if True else []"),
    "correct from above alone": ("- (v < 0) * (t >= last)", ""),
    "more than theta": ("(v >= theta)", "(v > theta)"),
    "padding wins": ("-np.inf", "0"),
    "the largest, always": ("sign = own", "sign = 1 if True else own"),
    "no ceil": ("more = -(size", "more = 0 and -(size"),
    "half up": ("np.rint(current)", "np.floor(current + 0.5)"),
    "the nodes' own bias": (
        "return np.concatenate([np.tensordot",
        'return node["bias"][:, None, None] + np.concatenate([np.tensordot',
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_reader_that_is_wrong_is_found_by_the_check_vectors(what):
    source, (right, wrong) = Path(reader.__file__).read_text(), WRONG[what]
    assert source.count(right) == 1, "one place of the reader"
    module = types.ModuleType("wrong")
    exec(source.replace(right, wrong), module.__dict__)
    found = []
    for form in FORMS:
        stored, network = np.load(vectors.FOLDER / f"{form}.npz"), module.Network(vectors.FOLDER / f"{form}.nir")
        try:
            counts, outputs = network.run(stored["inputs"])
        except ValueError:  # shapes do not fit
            found.append("shapes")
            continue
        found += [name for name, count in counts.items() if (count != stored[f"counts_{name}"]).any()]
        found += [] if np.allclose(outputs, stored["outputs"], rtol=1e-9) else ["outputs"]
        ends = {name: spans[-1][1] for name, spans in network.emits.items() if network.about[name]["kind"] == "pasc"}
        found += [name for name, end in ends.items() if end != stored[f"first_{name}"] + stored[f"steps_{name}"]]
    assert found, what


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=integer_graphs())
def test_the_reader_runs_every_random_network(graph, tmp_path_factory):
    path = tmp_path_factory.mktemp("spec") / "graph.nir"
    graph = graph.replace(timing=Timing("pasc"))
    write_nir(graph, path)
    with h5py.File(path) as file:
        groups = [node.get("metadata/pascal_nm", {}) for node in file["node/nodes"].values()]
        if any("operator" in group for group in groups):
            return
    inputs = np.random.default_rng(0).normal(0, 0.4, (3, *graph.input.shape)).astype(np.float32)
    largest = graph.input.levels * float(np.min(graph.input.threshold))
    inputs = inputs.clip(-largest, largest)
    expected = simulate.counts(graph, inputs)
    counts, outputs = reader.Network(path).run(inputs)
    for name, count in expected.counts.items():
        np.testing.assert_array_equal(counts[name], count)
    np.testing.assert_array_equal(outputs, expected.logits)


def test_the_reader_is_a_program(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.load(vectors.FOLDER / "integer.npz")["inputs"])
    command = [sys.executable, vectors.FOLDER / "reader.py", vectors.FOLDER / "integer.nir", tmp_path / "x.npz"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    graph = vectors.network(True)
    inputs = np.load(vectors.FOLDER / "integer.npz")["inputs"]
    assert [int(n) for n in printed] == simulate.counts(graph, inputs).logits.argmax(1).tolist()


def test_a_file_of_version_1_is_read_as_before(tmp_path):
    """Its nodes' metadata have no key of their own."""
    graph = networks.for_digits()
    write_nir(graph, tmp_path / "new.nir")
    write_nir(graph, tmp_path / "old.nir")
    with h5py.File(tmp_path / "old.nir", "a") as file:
        header = file["node/metadata/pascal_nm"]
        text = header[()].decode().replace('"format": 2', '"format": 1')
        del file["node/metadata/pascal_nm"]
        file["node/metadata/pascal_nm"] = text
        for node in file["node/nodes"].values():
            own = node.get("metadata/pascal_nm")
            for key in list(own or ()):
                own.file.move(f"{own.name}/{key}", f"{own.parent.name}/{key}")
            if own is not None:
                del node["metadata/pascal_nm"]
    assert graph.differences(read_nir(tmp_path / "old.nir")) == []
