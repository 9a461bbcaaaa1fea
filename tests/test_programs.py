"""Programs of torch.export: torch is given what was read and understood, and
nothing else of a file.
"""

import io
import json

import numpy as np
import pytest
import torch
from torch import nn

from pascal_nm import QCFS
from pascal_nm.errors import FileError
from pascal_nm.source import checkpoint
from tests.fuzzing import outcome
from tests.hostile_files import entries, payload_everywhere, pickled, text_changed, written

X = torch.zeros(2, 1, 2, 2)
DYNAMIC = ({0: torch.export.Dim.DYNAMIC},)


@pytest.fixture(scope="module")
def content():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), QCFS(4), nn.Linear(3, 2)).eval()
    to = io.BytesIO()
    torch.export.save(torch.export.export(network, (X,), dynamic_shapes=DYNAMIC), to)
    return to.getvalue()


def described(content, change, name="models/model.json"):
    """The archive with its description, or another one, changed in place."""
    found = entries(content)
    (i,) = (i for i, (entry, _) in enumerate(found) if entry.endswith(name))
    description = json.loads(found[i][1])
    change(description)
    found[i] = (found[i][0], json.dumps(description).encode())
    return written(found)


def load_and_run(path):
    model = checkpoint.load(path)
    model.graph()
    return model.source()(np.zeros((3, *model.input_shape), np.float32)).shape


def refused(content, tmp_path, message):
    path = tmp_path / "x.pt2"
    path.write_bytes(content)
    with pytest.raises(FileError, match=message) as caught:
        load_and_run(path)
    assert "\n" not in str(caught.value)


def test_the_network_is_that_which_was_exported(content, tmp_path):
    path = tmp_path / "x.pt2"
    path.write_bytes(content)
    program = torch.export.load(io.BytesIO(content)).module()
    inputs = torch.randn(5, 1, 2, 2)
    assert torch.equal(checkpoint.load(path).source().module(inputs), program(inputs))


def test_names_of_modules_need_not_be_identifiers(tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.ModuleDict({"conv-1 a": nn.Linear(4, 3)})["conv-1 a"], QCFS(4))
    network.add_module("schließend->1", nn.Linear(3, 2))
    torch.export.save(torch.export.export(network.eval(), (X,), dynamic_shapes=DYNAMIC), tmp_path / "x.pt2")
    assert load_and_run(tmp_path / "x.pt2") == (3, 2)


class Various(nn.Module):
    """Constants, buffers that are not saved, casts and new tensors on a device."""

    def __init__(self):
        super().__init__()
        self.first, self.act, self.last = nn.Linear(4, 3), QCFS(4), nn.Linear(3, 2)
        self.register_buffer("mean", torch.full((4,), 0.5), persistent=False)

    def forward(self, input):
        x = (input.flatten(1) - self.mean) * torch.tensor([1.0, 2.0, 3.0, 4.0])
        x = x.to(torch.float32).to(input.device).to(self.mean.dtype) + torch.zeros(4, device="cpu")
        return self.last(self.act(self.first(x)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shapes", [DYNAMIC, None])
def test_programs_with_constants_casts_and_devices_are_read(dtype, shapes, tmp_path):
    program = torch.export.export(Various().eval().to(dtype), (X.to(dtype),), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "x.pt2")
    inputs = torch.randn(2, 1, 2, 2, dtype=dtype)
    with torch.no_grad():
        expected = program.module()(inputs).numpy()
    np.testing.assert_array_equal(checkpoint.load(tmp_path / "x.pt2").source()(inputs), expected)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("upper", [True, False])
def test_of_two_entries_of_one_name_none_is_taken(first, upper, content, tmp_path):
    """Python reads the last one, torch another; and torch does not mind the case of letters."""
    found = entries(content)
    (name,) = (name for name, _ in found if "sample_inputs" in name)
    evil = (name.upper() if upper else name, pickled(tmp_path / "executed"))
    refused(written([evil, *found] if first else [*found, evil]), tmp_path, "two of its entries have one name|it holds")
    assert not (tmp_path / "executed").exists()


def run(marker):
    return f"__import__('os').system('touch {marker}')"


def test_guards_are_not_run(content, tmp_path):
    """Torch makes Python of them when the program is made a module."""
    (tmp_path / "x.pt2").write_bytes(described(content, lambda d: d.update(guards_code=[run(tmp_path / "executed")])))
    load_and_run(tmp_path / "x.pt2")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("text", ["input", "p_1_weight", "1.weight", "linear", "flatten", "L__self__"])
def test_names_are_not_run(text, content, tmp_path):
    """Torch makes Python of the names of inputs, parameters and operations."""

    def change(description):
        for payload in (f"{text}={run(tmp_path / 'executed')}", f'x"); {run(tmp_path / "executed")}; ("'):
            changed = json.loads(json.dumps(description).replace(json.dumps(text), json.dumps(payload)))
            description.clear()
            description.update(changed)

    (tmp_path / "x.pt2").write_bytes(described(content, change))
    found = outcome(load_and_run, tmp_path / "x.pt2")
    assert found["outcome"] in ("refused", "read"), found
    assert not (tmp_path / "executed").exists()


TARGETS = [
    "torch.os.system", "torch.load", "torch.ops.aten.from_file.default", "torch.ops.higher_order.cond",
    "_operator.methodcaller", "_operator.pow", "math.factorial", "torch.hub.load",
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_functions_that_are_no_operation_on_tensors_are_refused(target, content, tmp_path):
    def change(description):
        description["graph_module"]["graph"]["nodes"][0]["target"] = target

    refused(described(content, change), tmp_path, "not that of an operation on tensors")


@pytest.mark.parametrize("text", ["9**9**9**9", "9* *9", "s0" + "*s0" * 100, "9" * 5000, "(" * 90, "__import__('os')"])
def test_sizes_are_plain_arithmetic_and_short(text, content, tmp_path):
    def change(description):
        values = description["graph_module"]["graph"]["tensor_values"]
        values["flatten"]["sizes"][0]["as_expr"]["expr_str"] = text

    refused(described(content, change), tmp_path, "not plain arithmetic")


def test_a_size_that_torch_would_count_up_to_is_refused(content, tmp_path):
    change = {"u99999999999": {"min_val": 2, "max_val": None}}
    refused(described(content, lambda d: d["range_constraints"].update(change)), tmp_path, "bounds a size")


def weights(change):
    return lambda content: described(content, change, "model_weights_config.json")


def first_weight(**values):
    return weights(lambda description: description["config"]["1.weight"].update(values))


def sized(sizes, strides):
    def change(description):
        meta = description["config"]["1.weight"]["tensor_meta"]
        meta["sizes"], meta["strides"] = ([{"as_int": n} for n in numbers] for numbers in (sizes, strides))

    return weights(change)


WEIGHTS = {
    "pickled": (first_weight(use_pickle=True), "pickled tensors"),
    "of another kind": (first_weight(path_name="custom_obj_0"), "path_name"),
    "elsewhere": (first_weight(path_name="../../x"), "path_name"),
    "missing": (first_weight(path_name="weight_77"), "list of tensors is incomplete"),
    "without a shape": (first_weight(tensor_meta=None), "list of tensors is incomplete"),
    "all from one number": (sized([10**6, 10**6], [0, 0]), "more than a file of its size can hold"),
    "larger than stored": (sized([10**6, 10**6], [10**6, 1]), "cannot be read by torch"),
}


@pytest.mark.parametrize(("change", "message"), WEIGHTS.values(), ids=WEIGHTS)
def test_weights_are_as_large_as_what_is_stored_of_them(change, message, content, tmp_path):
    refused(change(content), tmp_path, message)


def test_a_description_that_is_too_long_is_refused(content, tmp_path):
    def change(description):
        description["graph_module"]["graph"]["nodes"] *= 1200

    refused(described(content, change), tmp_path, "more than 30,000 parts")
    found = [(n, b"[" * (1 << 25) if n.endswith("models/model.json") else old) for n, old in entries(content)]
    refused(written(found), tmp_path, "description .* of more than 16 MB")
    found = [(n, b"[" * (1 << 20) if n.endswith("models/model.json") else old) for n, old in entries(content)]
    refused(written(found), tmp_path, "cannot be read")


def test_arrays_that_no_machine_has_room_for_are_refused(content, tmp_path):
    network = nn.Sequential(nn.Conv2d(1, 2, 1, padding=100_000), QCFS(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    program = torch.export.export(network.to("meta"), (X.to("meta"),), dynamic_shapes=DYNAMIC)
    to = io.BytesIO()
    torch.export.save(program, to)
    found = entries(to.getvalue())
    changed = [(n, old.replace(b'"meta"', b'"cpu"') if "sample" not in n else b"") for n, old in found]
    sizes = {"weight_0": 8, "weight_1": 8, "weight_2": 4}
    changed = [(n, bytes(sizes.get(n.rpartition("/")[2], 0)) or old) for n, old in changed]
    refused(written(changed), tmp_path, "more than 67,108,864 values")


@pytest.mark.parametrize("change", [text_changed, payload_everywhere])
@pytest.mark.parametrize("seed", range(15))
def test_changed_descriptions_are_read_or_refused(change, seed, content, tmp_path):
    import random

    (tmp_path / "x.pt2").write_bytes(change(content, random.Random(seed), tmp_path / "executed"))
    found = outcome(load_and_run, tmp_path / "x.pt2")
    assert found["outcome"] in ("read", "refused") and found["seconds"] < 5, found
    assert not (tmp_path / "executed").exists()
