"""NIR files from anywhere: each is read as what it is or refused in one line, runs nothing, opens
nothing else, and takes no more than it is.

The fuzzer of :mod:`tests.export.hostile` is run by ``make test-all`` on PASCAL_NM_FUZZ_COUNT files
(3,000), from number PASCAL_NM_FUZZ_SEED (0) on.
"""

import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest

from pascal_nm.errors import FileError
from pascal_nm.export import untrusted
from pascal_nm.export.nir_format import read_nir
from pascal_nm.export.untrusted import read_raw
from tests import pace
from tests.export import hostile

ROOT = Path(__file__).parents[2]

COUNT, SEED = (int(os.environ.get(f"PASCAL_NM_FUZZ_{name}", other)) for name, other in (("COUNT", 3000), ("SEED", 0)))


@pytest.mark.parametrize("count", [20, pytest.param(COUNT, marks=pytest.mark.slow)])
def test_damaged_files_are_refused_in_one_line_or_run_as_they_say(count):
    command = [sys.executable, "-m", "tests.export.hostile", str(SEED), str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, len(lines)) == (0, count), done.stderr[-2000:]
    assert [line for line in lines if line["wrong"]] == []
    outcomes = [line["outcome"] for line in lines]
    assert outcomes.count("refused") > 0.5 * count
    assert outcomes.count("run") >= 0.05 * count, "some damage leaves a network, which then is compared"


@pytest.fixture
def good(tmp_path):
    """A file of another tool; its node ``scale`` holds 1, 2, 3."""
    nodes = {
        "input": nir.Input({"input": np.array([3])}),
        "scale": nir.Scale(np.arange(1, 4, dtype=np.float32)),
        "output": nir.Output({"output": np.array([3])}),
    }
    raw = nir.NIRGraph(nodes, [("input", "scale"), ("scale", "output")], type_check=False)
    nir.write(tmp_path / "good.nir", raw, compression=None)
    return tmp_path / "good.nir"


def refused(path, message):
    start = time.process_time()
    with pytest.raises(FileError, match=message) as found:
        read_raw(path)
    assert "\n" not in str(found.value) and str(path) in str(found.value)
    assert pace.since(start) < 2
    return str(found.value)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 2**64 - 16)])
def test_bytes_that_send_hdf5_into_a_loop_are_given_up(good, index, size, monkeypatch):
    monkeypatch.setattr(untrusted, "_SECONDS", 1)
    content = bytearray(good.read_bytes())
    heap = content.find(b"GCOL")
    content[heap + 16 : heap + 18], content[heap + 24 : heap + 32] = struct.pack("<H", index), struct.pack("<Q", size)
    good.write_bytes(content)
    refused(good, "cannot be read as NIR")


def test_many_texts_that_stand_for_the_same_bytes_are_refused(good):
    with h5py.File(good, "a") as file:
        data = file.create_dataset("node/metadata/texts", (2000,), h5py.string_dtype())
        data[0] = "x" * 2**23
        place = data.id.get_offset()
    content = bytearray(good.read_bytes())
    content[place : place + 16 * 2000] = content[place : place + 16] * 2000
    good.write_bytes(content)
    refused(good, "memory|texts")


@pytest.mark.parametrize("texts", [["x" * 2**19] * 40, ["x"] * 100_001], ids=["long", "many"])
def test_texts_have_a_limit(good, texts):
    with h5py.File(good, "a") as file:
        file["node/metadata/texts"] = np.array(texts, dtype=object)
    refused(good, "texts")


def test_many_groups_are_refused_at_once(good, monkeypatch):
    monkeypatch.setattr(untrusted, "_OBJECTS", 200)
    with h5py.File(good, "a") as file:
        for i in range(200):
            file.create_group(f"node/nodes/{i}")
    refused(good, "more than 200 objects")


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "x" * 1001, b"\xff\xfe"])
def test_names_are_printable(good, name):
    with h5py.File(good, "a") as file:
        file["node/nodes"].create_group(name)
    refused(good, "not printable")


def test_another_filter_is_no_library_to_load(good):
    with h5py.File(good, "a") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((3,))
        properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((3,))
        h5py.h5d.create(file["node"].id, b"x", h5py.h5t.py_create(np.dtype("f4")), space, properties)
    refused(good, "needs a library of its own")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.nir")
    with pytest.raises(FileError, match="is a pipe"):
        read_raw(tmp_path / "pipe.nir")


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i2", "<f2", "<u1"])
def test_arrays_have_the_byte_order_of_the_machine(good, dtype):
    with h5py.File(good, "a") as file:
        hostile.put(file, "node/nodes/scale/scale", np.arange(1, 4).astype(dtype))
    array = read_raw(good).nodes["scale"].scale
    assert array.dtype.isnative and array.flags.writeable
    np.testing.assert_array_equal(array, [1, 2, 3])


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("scale/scale", "1.5", "scale of node 'scale' must be numbers, not the text '1.5'"),
        ("scale/scale", np.array([b"1", b"2", b"3"]), "scale of node 'scale' must be numbers"),
        ("scale/type", "Scales", "node 'scale' is of the unknown type the text 'Scales'"),
        ("scale/type", 3, "node 'scale' is of the unknown type 3"),
        ("input/shape", np.array([10**6] * 9), "shape of node 'input' must be a shape"),
        ("input/shape", np.ones(10**6, np.int8), "shape of node 'input' must be a shape"),
        ("input/shape", -3, "shape of node 'input' must be a shape"),
    ],
)
def test_fields_are_what_they_must_be_before_nir_takes_them(good, place, value, message):
    with h5py.File(good, "a") as file:
        hostile.put(file, f"node/nodes/{place}", value)
    refused(good, message)


def test_a_weight_of_neurons_is_not_multiplied_out(good):
    """nir gives w_in of (1, N) for neurons of (N, 1) the shape (N, N) on reading: N = 100,000
    would take 80 GB.
    """
    with h5py.File(good, "a") as file:
        del file["node/nodes/scale"]
        node = file.create_group("node/nodes/scale")
        node["type"] = "CubaLI"
        for field in ("tau_syn", "tau_mem", "r", "v_leak"):
            node[field] = np.ones((10**5, 1), np.float32)
        node["w_in"] = np.ones((1, 10**5), np.float32)
    refused(good, "fields of node 'scale' differ in shape")


def test_a_graph_in_a_graph_with_a_kernel_that_is_not_square_is_read(tmp_path):
    """nir's own check, which reading a graph inside a graph cannot leave out in nir, takes its
    height for its width.
    """
    conv = nir.Conv2d((4, 5), np.ones((1, 1, 1, 2), np.float32), 1, 0, 1, 1, np.zeros(1, np.float32))
    ends = {"input": nir.Input({"input": np.array([1, 4, 5])}), "output": nir.Output({"output": np.array([1, 4, 4])})}
    edges = [("input", "inner"), ("inner", "output")]
    inner = nir.NIRGraph({**ends, "inner": conv}, edges, type_check=False)
    nir.write(tmp_path / "x.nir", nir.NIRGraph({**ends, "inner": inner}, edges, type_check=False))
    assert isinstance(read_raw(tmp_path / "x.nir").nodes["inner"].nodes["inner"], nir.Conv2d)


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ours")
    return {path.stem: path for path in hostile.good_files(folder, ["avg"])}


def changed(path, tmp_path, *keys, to):
    """A copy of one of our files whose JSON says something else."""
    copy = tmp_path / "file.nir"
    copy.write_bytes(path.read_bytes())
    with h5py.File(copy, "a") as file:
        (key,) = (key for key in file["node/metadata"] if key.startswith("pascal_nm"))
        content = json.loads(file[f"node/metadata/{key}"][()])
        place = content
        for name in keys[:-1]:
            place = place[name]
        place[keys[-1]] = to
        hostile.put(file, f"node/metadata/{key}", json.dumps(content))
    return copy


DEEP = json.loads("[" * 900 + "]" * 900)


@pytest.mark.parametrize("kind", ["rate", "unrolled-float-avg", "pasc-float-avg"])
@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("timesteps",), 10**9),
        (("timesteps",), 1.9),
        (("timesteps",), True),
        (("timesteps",), "5"),
        (("classes",), DEEP),
        (("classes",), "ab"),
        (("preprocessing", "scale"), "16"),
        (("preprocessing", "mean"), ["0.3"]),
        (("preprocessing", "std"), [10**400]),
        (("preprocessing", "std"), [float("nan")]),
        (("integer",), "no"),
        (("input", "levels"), 0.5),
        (("input", "shape"), [8, 8, 1, 1]),
        (("input", "threshold"), ["1"]),
        (("input", "threshold"), DEEP),
        (("format",), 1.0),
        (("stop",), 0.5),
        (("schedule",), 3),
    ],
)
def test_what_a_file_says_of_itself_is_taken_as_it_is_or_refused(ours, tmp_path, kind, keys, value):
    if (kind == "pasc-float-avg") == (keys[0] in ("timesteps", "integer", "input")) or (
        kind != "pasc-float-avg" and keys[0] in ("format", "stop", "schedule")
    ):
        return
    path = changed(ours[kind], tmp_path, *keys, to=value)
    for command in ("inspect", "run"):
        code, text = hostile.called(command, path)
        assert code == 2 and "\n" not in text and "file.nir" in text, text


def test_levels_are_not_cut_to_whole_numbers(ours, tmp_path):
    copy = tmp_path / "file.nir"
    copy.write_bytes(ours["pasc-float-avg"].read_bytes())
    with h5py.File(copy, "a") as file:
        name = next(n for n, node in file["node/nodes"].items() if node["type"][()] == b"IF")
        hostile.put(file, f"node/nodes/{name}/metadata/pascal_nm/levels", 2.9)
    with pytest.raises(FileError, match=r"levels of .* must be a whole number"):
        read_nir(copy)


def test_images_are_not_given_with_their_axes_in_another_order(tmp_path):
    nodes = {
        "input": nir.Input({"input": np.array([8, 8, 1])}),
        "flat": nir.Flatten({"input": np.array([8, 8, 1])}, 0, -1),
        "output": nir.Output({"output": np.array([64])}),
    }
    edges = [("input", "flat"), ("flat", "output")]
    nir.write(tmp_path / "squeezed.nir", nir.NIRGraph(nodes, edges, type_check=False))
    assert hostile.called("run", tmp_path / "squeezed.nir", "-T", 1, "--limit", 5)[0] == 0, "one channel has no order"
    nodes["input"] = nir.Input({"input": np.array([4, 16, 1])})
    nodes["flat"] = nir.Flatten({"input": np.array([4, 16, 1])}, 0, -1)
    nir.write(tmp_path / "scrambled.nir", nir.NIRGraph(nodes, edges, type_check=False))
    code, text = hostile.called("run", tmp_path / "scrambled.nir", "-T", 1, "--limit", 5)
    assert code == 2 and "takes inputs of shape (4, 16, 1), the data has (1, 8, 8)" in text
