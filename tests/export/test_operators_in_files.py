"""Operators whose synapses stand in arrays: in every form that a file has of them, the same network
comes back bit for bit, and arrays that are no synapses are refused in one line.
"""

from dataclasses import replace

import h5py
import nir
import numpy as np
import pytest

from pascal_nm.errors import FileError, TargetError
from pascal_nm.export import read_nir, write_nir
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets.program import lower
from pascal_nm.network import quantization
from pascal_nm.network.graph import Graph, Population, Preprocessing, Projection
from pascal_nm.network.operators import Conv2d, ConvTranspose2d, Dense, IndexMap, Sparse, sparse
from pascal_nm.network.operators.index_map import channel_map

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def scattered(target, source):
    full = normal(int(np.prod(target)), int(np.prod(source)))
    return Sparse.of(np.where(RNG.random(full.shape) < 0.4, full, 0), target, source)


IMAGE, FLAT = (2, 3, 4), (5,)
FORMS = {
    "matrix": (scattered(FLAT, IMAGE), {nir.Linear, nir.Affine}, (5, 24)),
    "sparse pixels": (scattered(IMAGE, IMAGE), {nir.Linear}, None),
    "moved neurons": (IndexMap(normal(5), np.array([3, -1, 7, 7, 0]), IMAGE), {nir.Linear, nir.Affine}, (5, 24)),
    "moved pixels": (IndexMap(normal(2, 3, 4), RNG.permutation(24).reshape(IMAGE), IMAGE), {nir.Linear}, (1, 24)),
    "moved channels": (channel_map(np.array([1, -1]), normal(2, 1, 1), IMAGE), {nir.Conv2d}, (2, 2, 1, 1)),
    "turned": (ConvTranspose2d(normal(2, 1, 3, 3), padding=(1, 1), groups=2), {nir.Conv2d}, (2, 1, 3, 3)),
    "transposed": (ConvTranspose2d(normal(2, 2, 1, 2), (1, 2), (0, 2), (0, 1), (1, 3)), {nir.Linear}, (1, 8)),
}


def graph_of(operator):
    """An image, a convolution, the operator, and a readout."""
    f = np.float32
    shape = operator.output_shape(IMAGE)
    return Graph(
        (
            Population("input", "analog", IMAGE, 0, f(1), f(0)),
            Population("a", "pasc", IMAGE, 4, f(0.3), normal(2, 1, 1)),
            Population("b", "pasc", shape, 3, f(0.5), normal(shape[0], *(1 for _ in shape[1:]))),
            Population("output", "readout", (3,), 1, f(1), normal(3)),
        ),
        (
            Projection("input", "a", Conv2d(normal(2, 2, 1, 1))),
            Projection("a", "b", operator),
            Projection("b", "output", Dense(normal(3, int(np.prod(shape))))),
        ),
        Preprocessing(255.0, (0.1,), (0.3,)),
    )


@pytest.mark.parametrize(("operator", "kinds", "weights"), FORMS.values(), ids=FORMS)
def test_a_file_holds_all_of_an_operator_and_no_number_in_it_is_ignored(operator, kinds, weights, tmp_path):
    graph, path = graph_of(operator), tmp_path / "g.nir"
    write_nir(graph, path)
    assert graph.differences(read_nir(path)) == []
    node = nir.read(path, type_check=False).nodes["a__b"]
    assert type(node) in kinds
    assert weights is None or node.weight.shape == weights
    whole, numbers = path.read_bytes(), []

    def see(name, item):
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "iuf":
            numbers.append(f"node/nodes/a__b/{name}")

    with h5py.File(path) as file:
        file["node/nodes/a__b"].visititems(see)
    for name in numbers:
        path.write_bytes(whole)
        with h5py.File(path, "a") as file:
            array = np.asarray(file[name][()])
            array.reshape(-1)[-1] += 1
            file[name][()] = array
        try:
            found = graph.differences(read_nir(path))
        except FileError as error:
            assert "\n" not in str(error)
            continue
        assert found, name


def test_a_matrix_that_is_too_large_for_other_readers_keeps_its_synapses_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(sparse, "_MOST_DENSE", 100)
    for name in ("matrix", "moved neurons"):
        graph = graph_of(FORMS[name][0])
        write_nir(graph, tmp_path / "g.nir")
        assert graph.differences(read_nir(tmp_path / "g.nir")) == []
        nodes = nir.read(tmp_path / "g.nir", type_check=False).nodes
        assert nodes["a__b"].weight.shape == (1, graph.projections[1].operator.weight.size)
        assert "a__b_flatten" not in nodes


HOSTILE = {
    "beyond": ("matrix", "sources", lambda a: np.where(a == a.max(), 24, a), "from 0 to 23"),
    "below": ("sparse pixels", "sources", lambda a: np.where(a == a.max(), -7, a), "from 0 to 23"),
    "none": ("matrix", "targets", lambda a: a * 0 - 1, "in order"),
    "twice": ("sparse pixels", "sources", lambda a: np.concatenate([a[:1], a[:-1]]), "in order"),
    "short": ("matrix", "sources", lambda a: a[:-1], "one source for each"),
    "fewer": ("sparse pixels", "targets", lambda a: a[:-1], "one source for each"),
    "empty": ("matrix", "targets", lambda a: a[:0], "one source for each"),
    "fractions": ("matrix", "targets", lambda a: a + 0.5, "whole numbers"),
    "text": ("sparse pixels", "targets", lambda a: "all", "whole numbers"),
    "many axes": ("sparse pixels", "shape", lambda a: np.ones(4, int), "1 or 3 whole number"),
    "negative": ("matrix", "source", lambda a: -a, "sources of a sparse operator must be from"),
    "map beyond": ("moved pixels", "index", lambda a: a + 1, "from 0 to 23"),
    "map of a text": ("moved channels", "source", lambda a: "x", "whole number"),
    "map of a line": ("moved neurons", "index", lambda a: a[:, None], "1 or 3 axes"),
    "factors": ("moved neurons", "factor", lambda a: a[:2], "does not broadcast"),
    "filters": ("transposed", "filters", lambda a: a + 1, "are no filters"),
    "stride": ("transposed", "stride", lambda a: a * 0, "makes nothing"),
    "groups": ("transposed", "groups", lambda a: a * 0, "0 group"),
}


@pytest.mark.parametrize(("form", "field", "change", "message"), HOSTILE.values(), ids=HOSTILE)
def test_arrays_of_a_file_that_are_no_synapses_are_refused_in_one_line(form, field, change, message, tmp_path):
    path = tmp_path / "g.nir"
    write_nir(graph_of(FORMS[form][0]), path)
    with h5py.File(path, "a") as file:
        place = f"node/nodes/a__b/metadata/pascal_nm/{field}"
        changed = change(np.asarray(file[place][()]))
        del file[place]
        file[place] = changed
    with pytest.raises(FileError, match=message) as refusal:
        read_nir(path)
    assert "\n" not in str(refusal.value)


def test_registers_that_are_no_synapses_hold_no_network():
    program = lower(quantization.quantize(graph_of(FORMS["matrix"][0])), chips.load("loihi2"))
    assert program.graph.projections[1].operator.targets.dtype == np.int32
    for field, change in (("sources", lambda a: a + 24), ("targets", lambda a: a[::-1]), ("targets", lambda a: a[1:])):
        name = f"a__b.{field}"
        with pytest.raises(TargetError, match="holds no network") as refusal:
            assert replace(program, registers={**program.registers, name: change(program.registers[name])}).graph
        assert "\n" not in str(refusal.value)
    missing = {name: array for name, array in program.registers.items() if name != "a__b.targets"}
    with pytest.raises(TargetError, match="holds no network"):
        assert replace(program, registers=missing).graph
