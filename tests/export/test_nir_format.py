"""NIR files: the same graph comes back bit for bit, and a file that contradicts
itself is refused.
"""

import itertools
import resource

import h5py
import nir
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from pascal_nm.errors import FileError
from pascal_nm.export import chain, from_nir, read_nir, untrusted, write_nir
from pascal_nm.export.nir_format import read_any
from pascal_nm.export.unrolled import write_unrolled
from pascal_nm.export.untrusted import read_raw
from pascal_nm.network.graph import Graph, Population, Preprocessing, Projection
from pascal_nm.network.operators import Conv2d, Dense, Identity, SumPool2d
from tests.strategies import integer_graphs


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=integer_graphs())
def test_every_random_graph_survives_writing_and_reading(graph, tmp_path_factory):
    path = tmp_path_factory.mktemp("nir") / "graph.nir"
    write_nir(graph, path)
    assert graph.differences(read_nir(path)) == []


@pytest.fixture
def graph():
    rng = np.random.default_rng(0)
    f = np.float32
    a = Population("a", "pasc", (4, 6, 6), 4, f(0.3), rng.normal(size=4).astype(f))
    m = Population("m", "max", (4, 3, 3), 4, f(1), f(0))
    b = Population("b", "pasc", (4, 3, 3), 7, rng.random(4).astype(f), rng.normal(size=4).astype(f))
    populations = (
        Population("input", "analog", (1, 6, 6), 0, f(1), f(0)),
        a,
        m,
        b,
        Population("output", "readout", (3,), 1, f(9), rng.normal(size=3).astype(f)),
    )
    projections = (
        Projection("input", "a", Conv2d(rng.normal(size=(4, 1, 3, 3)).astype(f), padding=(1, 1))),
        Projection("a", "m", Identity(np.ones((1, 1, 1))), SumPool2d((2, 2), (2, 2))),
        Projection("m", "b", Conv2d(rng.normal(size=(4, 2, 1, 1)).astype(f), groups=2)),
        Projection("a", "b", Identity(rng.normal(size=(4, 1, 1)).astype(f)), SumPool2d((2, 2), (2, 2))),
        Projection("b", "output", Dense(rng.normal(size=(3, 36)).astype(f))),
    )
    return Graph(populations, projections, Preprocessing(255.0, (0.1,), (0.3,)), ("x", "y", "z"))


def test_a_float_graph_with_preprocessing_and_classes_survives(graph, tmp_path):
    write_nir(graph, tmp_path / "g.nir")
    assert graph.differences(read_nir(tmp_path / "g.nir")) == []


def test_the_file_holds_standard_primitives_that_nir_itself_checks(graph, tmp_path):
    write_nir(graph, tmp_path / "g.nir")
    nodes = nir.read(str(tmp_path / "g.nir"), type_check=False).nodes
    assert {type(n).__name__ for n in nodes.values()} <= {
        "Input",
        "Output",
        "Conv2d",
        "Affine",
        "Linear",
        "IF",
        "Scale",
        "SumPool2d",
        "Flatten",
    }


def test_a_float_graph_with_a_max_population_of_its_own_type_is_the_one_in_its_file(graph, tmp_path):
    write_nir(graph.astype(np.float32), tmp_path / "g.nir")
    assert graph.astype(np.float32).differences(read_nir(tmp_path / "g.nir")) == []


def test_no_number_in_a_file_is_ignored(graph, tmp_path):
    """Each array of the file in turn, changed in its last entry: it is refused, or the network is
    another.
    """
    path, numbers = tmp_path / "g.nir", []
    write_nir(graph, path)
    whole = path.read_bytes()

    def see(name, item):
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "iuf":
            numbers.append(name)

    with h5py.File(path) as file:
        file.visititems(see)
    assert len(numbers) > 50
    for name in numbers:
        path.write_bytes(whole)
        with h5py.File(path, "a") as file:
            array = np.asarray(file[name][()])
            array.reshape(-1)[-1] += 1
            file[name][()] = array
        try:
            found = graph.differences(read_nir(path))
        except FileError:
            continue
        assert found, name


def test_the_weights_of_a_network_are_the_arrays_of_its_file(graph, tmp_path):
    write_nir(graph, tmp_path / "g.nir")
    raw = read_raw(tmp_path / "g.nir")
    read = from_nir(raw)
    for q in read.projections:
        if not isinstance(q.operator, Identity):
            assert q.operator.weight is raw.nodes[q.name].weight


def test_what_a_file_holds_is_what_its_metadata_say(graph, tmp_path):
    write_nir(graph, tmp_path / "g.nir")
    write_unrolled(graph, tmp_path / "u.nir")
    nir.write(str(tmp_path / "f.nir"), nir.NIRGraph.from_list(nir.Linear(np.ones((2, 3)))))
    assert graph.differences(read_any(tmp_path / "g.nir")) == []
    forms = [read_any(tmp_path / f"{name}.nir").form for name in ("u", "f")]
    assert forms == ["unrolled", "foreign"]
    with pytest.raises(FileError, match="is the unrolled form of a network"):
        read_nir(tmp_path / "u.nir")


def test_levels_for_other_readers_that_were_changed_by_hand_are_refused(graph, tmp_path):
    path = tmp_path / "g.nir"
    write_nir(graph, path)
    with h5py.File(path, "a") as file:
        file["node/nodes/b/metadata/pascal_nm/levels_in"][()] += 1
    with pytest.raises(FileError, match="levels_in of node 'b'"):
        read_nir(path)


@pytest.mark.parametrize("reader", [read_nir, read_any])
def test_a_node_that_is_missing_or_renamed_is_named(graph, tmp_path, reader):
    path = tmp_path / "g.nir"
    write_nir(graph, path)
    with h5py.File(path, "a") as file:
        file["node/nodes"].move("a", "other")
    with pytest.raises(FileError, match="name 'a', and it has no such node; nothing names its node 'other'"):
        reader(path)
    with h5py.File(path, "a") as file:
        file["node/nodes"].move("other", "a")
        del file["node/nodes/input__a"]
    with pytest.raises(FileError, match=r"name 'input__a', and it has no such node$"):
        reader(path)


@pytest.mark.parametrize("spare", [1 << 26, 1 << 10])
def test_a_file_is_compressed_only_so_far_that_it_is_read(graph, tmp_path, spare, monkeypatch):
    """All zeros shrink to nothing, and a reader does not take much from a small file."""
    monkeypatch.setattr(untrusted, "_SPARE_BYTES", spare)
    zeros = np.zeros((64, 64, 3, 3), np.float32)
    ends = {"input": nir.Input({"input": np.array([64, 5, 5])}), "output": nir.Output({"output": np.array([64, 5, 5])})}
    convolutions = {f"c{i}": nir.Conv2d((5, 5), zeros, 1, 1, 1, 1, zeros[:, 0, 0, 0]) for i in range(4)}
    edges = list(itertools.pairwise(["input", *convolutions, "output"]))
    chain.write(nir.NIRGraph({**ends, **convolutions}, edges, type_check=False), tmp_path / "zeros.nir")
    assert all(
        not node.weight.any() for node in read_raw(tmp_path / "zeros.nir").nodes.values() if hasattr(node, "weight")
    )
    size, arrays = (tmp_path / "zeros.nir").stat().st_size, 4 * zeros.nbytes
    assert size < arrays / 10 if spare == 1 << 26 else arrays / 2 - spare < size < arrays


def test_a_bias_changed_by_hand_is_not_ignored_in_silence(graph, tmp_path):
    path = tmp_path / "g.nir"
    write_nir(graph, path)
    with h5py.File(path, "a") as file:
        file["node/nodes/input__a/bias"][0] += 1
    with pytest.raises(FileError, match="bias of node 'input__a'"):
        read_nir(path)


@pytest.mark.parametrize("keep", [0, 7, 100, 5000])
def test_a_truncated_file_is_one_clear_error(graph, tmp_path, keep):
    path = tmp_path / "g.nir"
    write_nir(graph, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FileError, match=r"g\.nir"):
        read_nir(path)


def test_a_missing_file_and_a_foreign_file_are_named(tmp_path):
    with pytest.raises(FileError, match="does not exist"):
        read_nir(tmp_path / "none.nir")
    plain = nir.NIRGraph.from_list(nir.Linear(np.ones((2, 3))))
    nir.write(str(tmp_path / "plain.nir"), plain)
    with pytest.raises(FileError, match="without PASC metadata"):
        read_nir(tmp_path / "plain.nir")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(graph, tmp_path, monkeypatch):
    path = tmp_path / "g.nir"
    path.write_bytes(b"old")

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nir, "write", full_disk)
    with pytest.raises(FileError, match="No space left"):
        write_nir(graph, path)
    assert [p.name for p in tmp_path.iterdir()] == ["g.nir"] and path.read_bytes() == b"old"


def test_the_rate_network_that_plain_nir_describes_has_the_same_argument_of_equation_1(graph, tmp_path):
    """(r / theta) (W rho + b_step) equals z / (theta L) for counts c = rho L_in, the claim of the
    module's docstring.
    """
    write_nir(graph, tmp_path / "g.nir")
    nodes = nir.read(str(tmp_path / "g.nir"), type_check=False).nodes
    count = np.random.default_rng(1).integers(0, 8, (4, 3, 3))
    z = graph.projections[-1].operator.weight @ count.reshape(-1) + graph["output"].bias
    rate = nodes["b__output"].weight @ (count.reshape(-1) / 7) + nodes["b__output"].bias
    np.testing.assert_allclose(7 * rate, z, rtol=1e-5)


def test_a_full_disk_is_one_line_and_leaves_nothing(graph, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # Python ignores the signal: writing further fails
    try:
        with pytest.raises(FileError, match="cannot write"):
            write_nir(graph, tmp_path / "graph.nir")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
