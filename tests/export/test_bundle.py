"""Bundles: whole or not there, checked by their sums, and enough to run from."""

import json

import numpy as np
import pytest

from pascal_nm import build, convert, quantize, schedule, simulate
from pascal_nm.errors import FileError
from pascal_nm.export.bundle import cores_json, read_bundle, write_bundle
from pascal_nm.graph import Timing
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import mapping
from tests import networks


@pytest.fixture
def parts():
    module = networks.randomized(build("cnn", (1, 8, 8), 4, [4, 2, 3], pool="max"))
    inputs = networks.images(3)[:, :1]
    graph = quantize(convert(module, inputs), input_range=6.0).replace(timing=Timing("streaming", (1, 0, 2)))
    found = mapping.place(graph, chips.load("loihi2"))
    result = simulate.steps(graph, inputs.numpy())
    return graph, found, {"counts": result.counts.get("qcfs_2", result.potential)}


def write(folder, parts):
    graph, found, check = parts
    about = {"chip": "a chip", "cores": found.cores, "chips": found.chips, "delay": 1}
    write_bundle(folder, graph, schedule.of(graph), cores_json(found.blocks, found.places), check, about)


def test_a_bundle_reads_back_as_it_was_written(parts, tmp_path):
    graph, found, check = parts
    for _ in range(2):  # the second replaces the first
        write(tmp_path / "bundle", parts)
    again, arrays, manifest = read_bundle(tmp_path / "bundle")
    assert graph.differences(again) == []
    np.testing.assert_array_equal(arrays["counts"], check["counts"])
    assert manifest["cores"] == found.cores
    cores = json.loads((tmp_path / "bundle" / "cores.json").read_text())["cores"]
    assert len(cores) == found.cores
    neurons = sum(np.prod([b - a for a, b in (c["channels"], c["rows"], c["columns"])]) for c in cores)
    assert neurons == sum(p.size for p in graph.populations if p.kind != "analog")
    stages = json.loads((tmp_path / "bundle" / "schedule.json").read_text())["populations"]
    assert {s["stage"] for p in stages.values() for s in p["stages"]} == {"accumulate", "stream", "emit"}
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"], "nothing is left beside it"


def test_changed_and_missing_files_are_found(parts, tmp_path):
    folder = tmp_path / "bundle"
    write(folder, parts)
    (folder / "cores.json").write_text("{}")
    with pytest.raises(FileError, match=r"cores\.json is not the file that the manifest names"):
        read_bundle(folder)
    (folder / "check.npz").unlink()
    (folder / "cores.json").unlink()
    with pytest.raises(FileError, match="no whole bundle"):
        read_bundle(folder)


def test_a_folder_that_is_no_bundle_is_kept(parts, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileError, match="exists and is no bundle"):
        write(tmp_path / "mine", parts)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
