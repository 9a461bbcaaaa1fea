"""Makes damaged and hostile files of every format but NIR, and reads each:
``python -m tests.hostile_files FOLDER SEED COUNT``.

File number ``seed`` is of format ``seed % 6`` of :data:`FORMATS`, and made in a way that the seed
draws: bytes are changed, entries of archives moved, values and texts replaced by others, and
payloads put wherever text or a pickle stands. A payload that runs leaves a file called
``executed`` in the folder.
"""

import copy
import io
import json
import os
import pickle
import shutil
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import nn

import pascal_nm as pnm
from pascal_nm import QCFS, data, training
from pascal_nm.source import checkpoint, published
from tests import fuzzing

RECIPE = {"arch": "cnn", "input_shape": [1, 8, 8], "classes": 3, "width": 0.2}


class Payload:
    """What runs a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


# Good files, of which the others are made.


def good(folder):
    """One file of each format."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), QCFS(4), nn.Flatten(), nn.Linear(144, 3)).eval()
    program = torch.export.export(module, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, folder / "good.pt2")
    model = checkpoint.Model(pnm.build(**RECIPE, levels=4), (1, 8, 8), tuple("abc"), None, RECIPE, "x", {"y": 0.5})
    checkpoint.save(model, folder / "good.pt")
    state = pnm.build("resnet8", (3, 8, 8), 3, width=0.1).state_dict()
    torch.save({"epoch": 3, "state_dict": state, "best_acc1": torch.tensor(0.5)}, folder / "good.pth")
    _train(folder / "stopped", epochs=1)
    shutil.copyfile(folder / "stopped.training", folder / "good.training")
    _parquet(folder / "good.parquet", [png(pixels) for pixels in _pixels()], [0, 1, 2, 1])
    for i, (suffix, pixels) in enumerate(zip(("png", "jpeg", "gif", "tiff", "webp", "bmp"), _pixels(6), strict=True)):
        (folder / "good" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        (folder / "good" / "ab"[i % 2] / f"{i}.{suffix}").write_bytes(png(pixels, suffix))


CONFIG = training.TrainingConfig(arch="mlp", options={"width": 0.02}, epochs=2, batch_size=8)


def _images():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 1, 4, 4)).astype(np.uint8)
    return data.Dataset("x", pixels, np.arange(16) % 3, tuple("abc"))


def _train(path, epochs):
    def stop(state):
        if state.test_accuracy is not None and state.epoch == epochs:
            raise KeyboardInterrupt

    try:
        training.train_to_file(_images(), _images(), CONFIG, path, stop)
    except KeyboardInterrupt:
        return


def _pixels(count=4):
    return np.random.default_rng(1).integers(0, 256, (count, 6, 6, 3)).astype(np.uint8)


def png(pixels, kind="png"):
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def _parquet(path, images, labels, **options):
    import pyarrow
    import pyarrow.parquet

    rows = pyarrow.array([{"bytes": image, "path": None} if isinstance(image, bytes) else image for image in images])
    pyarrow.parquet.write_table(pyarrow.table({"image": rows, "label": labels}), path, **options)


# Bytes.


def truncated(content, rng):
    return content[: rng.randrange(1, len(content))]


def flipped(content, rng):
    content = bytearray(content)
    for _ in range(rng.choice([1, 4, 64])):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)


def flipped_at_the_end(content, rng):
    """Where archives and Parquet files have their lists."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 3, 9])):
        content[-rng.randrange(1, min(600, len(content)))] = rng.choice([0, 1, 127, 255, rng.randrange(256)])
    return bytes(content)


def moved(content, rng):
    """A piece of a file twice, gone, or in another place."""
    a, b = sorted(rng.randrange(len(content)) for _ in range(2))
    b = min(b, a + 300)
    way = rng.randrange(3)
    return (
        content[:b] + content[a:] if way == 0 else content[:a] + content[b:] if way == 1 else content[b:] + content[:b]
    )


def extended(content, rng):
    more = bytes(rng.randrange(256) for _ in range(rng.choice([1, 22, 500])))
    return more + content if rng.random() < 0.5 else content + more


def numbers_changed(content, rng):
    """Sizes and places that are much too large."""
    content, width = bytearray(content), rng.choice([2, 4, 8])
    place = rng.randrange(max(1, len(content) - width))
    value = rng.choice([0, 1, 2**15, 2**31 - 1, 2**32 - 1, 2**63 - 1, len(content)]) % 2 ** (8 * width)
    content[place : place + width] = value.to_bytes(width, "little")
    return bytes(content)


BYTES = (truncated, flipped, flipped, flipped_at_the_end, moved, extended, numbers_changed)


# Archives.


def entries(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def written(found, **options):
    """An archive of entries, of which a name may stand twice."""
    to = io.BytesIO()
    with zipfile.ZipFile(to, "w", **options) as archive:
        for name, content in found:
            info = zipfile.ZipInfo(name)
            info.compress_type = options.get("compression", zipfile.ZIP_STORED)
            archive.writestr(info, content)
    return to.getvalue()


def pickled(marker):
    """A file of torch that runs something."""
    to = io.BytesIO()
    torch.save(Payload(marker), to)
    return to.getvalue()


def archive_changed(content, rng, marker):
    """Entries that readers see differently."""
    found = entries(content)
    i = rng.randrange(len(found))
    name, old = found[i]
    evil = rng.choice([pickled(marker), pickle.dumps(Payload(marker), 2), b"", old[: len(old) // 2], b"[" * 10**6])
    way = rng.randrange(9)
    if way == 0:
        found.insert(0, (name, evil))
    elif way == 1:
        found.append((name, evil))
    elif way == 2:
        found.insert(0, (name.upper(), evil))
    elif way == 3:
        found[i] = (name, evil)
    elif way == 4:
        found.pop(i)
    elif way == 5:
        found.append((f"{name.split('/')[0]}/{rng.choice(STRANGE_ENTRIES)}", evil))
    elif way == 6:
        found[i] = (rng.choice(["other/", "/", "../", "\x1b[31m/"]) + name, old)
    elif way == 7:
        return written(found, compression=rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]))
    else:  # a bomb
        found[i] = (name, old + b" " * 50_000_000)
        return written(found, compression=zipfile.ZIP_DEFLATED)
    return written(found)


STRANGE_ENTRIES = [
    "data/aotinductor/model/x.so",
    "extra/evil.py",
    "data/constants/custom_obj_0",
    "data/constants/opaque_obj_0",
    "data/weights/model.pt",
    "data/constants/model.pt",
    "models/other.json",
    "serialized_state_dict.pt",
    "data.pkl",
    "version",
    "data/0",
    "constants.pkl",
    "code/x.py",
]


def headers_changed(content, rng, marker):
    """Fields of an archive's headers."""
    content = bytearray(content)
    magic = rng.choice([b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06"])
    places = [i for i in range(len(content) - 60) if content[i : i + 4] == magic] or [0]
    place = rng.choice(places) + rng.randrange(4, 50)
    width = rng.choice([1, 2, 4])
    value = rng.choice([0, 1, 8, 9, 0xFFFF, 0xFFFFFFFF, rng.randrange(2**32)]) % 2 ** (8 * width)
    content[place : place + width] = value.to_bytes(width, "little")
    return bytes(content)


# Values of torch files.


def _containers(content, found=None):
    found = [] if found is None else found
    if isinstance(content, (dict, list)):
        found.append(content)
        for value in content.values() if isinstance(content, dict) else content:
            _containers(value, found)
    return found


def _endless():
    content = []
    content.append(content)
    return content


def _deep(depth):
    content = []
    for _ in range(depth):
        content = [content]
    return content


def _doubled(times):
    content = ["x"]
    for _ in range(times):
        content = [content, content]
    return content


def _with_attributes():
    tensor = torch.zeros(3)
    tensor.numel = tensor.isfinite = 5
    return tensor


VALUES = [
    None, -1, 0, 10**12, 2**63, -(2**70), 1.5, float("nan"), float("inf"), "x", "\x1b[31mred", "x" * 10**5, b"x",
    True, 1j, [], {}, (), set(), [None], [1] * 1000, {"a": 1}, [-1, 3], [[1]],
    [10**9] * 3, {1: 2}, torch.float16, torch.Size([3]),
]  # fmt: skip

TENSORS = [
    lambda: torch.zeros(()),
    lambda: torch.zeros(0),
    lambda: torch.zeros(3, 3, 3, 3),
    lambda: torch.full((4, 1, 3, 3), float("nan")),
    lambda: torch.zeros(1).expand(10**6, 10**6),
    lambda: torch.zeros(1).expand(4, 1, 3, 3),
    lambda: torch.zeros(4, dtype=torch.int64),
    lambda: torch.zeros(4, dtype=torch.bool),
    lambda: torch.zeros(4, dtype=torch.complex64),
    lambda: torch.zeros(4, dtype=torch.float64),
    lambda: torch.zeros(4, dtype=torch.bfloat16),
    lambda: torch.zeros(4, 1, 3, 3).to_sparse(),
    lambda: torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.int64), torch.ones(1), (10**6, 10**6)),
    lambda: torch.quantize_per_tensor(torch.zeros(4), 0.1, 0, torch.qint8),
    lambda: torch.zeros(4, device="meta"),
    lambda: torch.zeros(10**6, 10**6, device="meta"),
    lambda: nn.Parameter(torch.zeros(4)),
    lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
    _endless,
    lambda: _deep(200),
    lambda: _doubled(60),
    _with_attributes,
]


def value_changed(content, rng, marker):
    """Another value, or none, in one or two places."""
    found = torch.load(io.BytesIO(content), weights_only=True)
    places = [c for c in _containers(found) if c]
    for place in rng.sample(places, rng.choice([1, 1, 2])):
        key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
        way = rng.random()
        if way < 0.15:
            place.pop(key)
        elif way < 0.25 and isinstance(place, dict):
            place[rng.choice(["new", "", 5, "a.b", key, "\x1b[2J"])] = place[key]
        elif way < 0.35:
            place[key] = Payload(marker)
        else:
            place[key] = copy.deepcopy(rng.choice(VALUES)) if way < 0.7 else rng.choice(TENSORS)()
    to = io.BytesIO()
    torch.save(found, to, _use_new_zipfile_serialization=rng.random() < 0.85)
    return to.getvalue()


PICKLES = [
    b"cbuiltins\nbytearray\n\x8a\x06\x00\xe4\x0bT\x02\x00\x85R",  # bytearray(10**10)
    b"ctorch\nFloatTensor\n\x8a\x06\x00\xe4\x0bT\x02\x00\x85R",
    b"ctorch\nTensor\n\x8a\x06\x00\xe4\x0bT\x02\x00\x85R",
    b"ctorch.storage\nUntypedStorage\n\x8a\x06\x00\xe4\x0bT\x02\x00\x85R",
    b"ccollections\nOrderedDict\n)R}X\x04\x00\x00\x00typeK\x01sb",
    b"r\xff\xff\xff\x7f",
    b"\x96\xff\xff\xff\xff\x7f\x00\x00\x00",
    b"N" * 500_000,
    b"(" * 1000,
    b"ctorch.serialization\nload\n",
    b"cbuiltins\neval\nX\x01\x00\x00\x001\x85R",
]


def pickle_changed(content, rng, marker):
    """Steps of the pickle inside, by bytes or by what makes large things; numbers of stored values
    that are not there.
    """
    found = entries(content)
    for i, (name, old) in enumerate(found):
        if name.endswith("data.pkl"):
            way = rng.randrange(4)
            if way == 0:
                new = flipped(old, rng)
            elif way == 1:
                new = old[:2] + rng.choice(PICKLES) + b"0" + old[2:]
            elif way == 2:
                new = old[:2] + rng.choice(PICKLES) + b"."
            else:
                new = old.replace(
                    rng.choice([b"K\x04", b"K\x03", b"K\x01"]), rng.choice([b"M\xff\xff", b"J\xff\xff\xff\x7f"])
                )
            found[i] = (name, new)
    return written(found)


# Programs.


def _payloads(marker):
    run = f"__import__('os').system('touch {marker}')"
    return [
        run, f"{run} or True", f"x={run}", f"x, y={run}", f"x\n{run}\n", f"x'] or {run} or L['x", f"\"); {run}; (\"",
        "9**9**9**9", "9" * 5000, "((((" * 500, "s0" + "*s0" * 300, "Max(" * 50 + "s0" + ")" * 50, "s0 ** 999999999",
        "torch.os.system", "torch.load", "torch.ops.aten.from_file.default", "torch.ops.higher_order.cond", "#x:y",
        "_operator.attrgetter", "torch.ops.aten.nope.default", "math.factorial", "torch.ops.aten.exp.default",
        "self", "torch", "lambda", "\x1b[31m", "\r" + run, "", "input", "cuda", "meta", "weight_0", "../../x",
        "[1, {\"type\": \"collections.defaultdict\", \"context\": \"[]\", \"children_spec\": []}]", "[" * 10**5,
        "Infinity",
    ]  # fmt: skip


NUMBERS = [
    None,
    -1,
    0,
    1,
    2,
    7,
    10**6,
    10**9,
    2**31,
    2**63,
    -(2**63),
    10**40,
    1.5,
    True,
    [],
    {},
    [[]],
    {"as_int": 10**9},
]


def text_changed(content, rng, marker):
    """Texts, numbers and names of the description of a program."""
    found = entries(content)
    names = [i for i, (name, _) in enumerate(found) if name.endswith(".json")]
    i = rng.choice([names[0], *names, names[-1]])
    description = json.loads(found[i][1])
    for _ in range(rng.choice([1, 1, 1, 3])):
        place = rng.choice([c for c in _containers(description) if c] or [{"": ""}])
        key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
        way = rng.random()
        if way < 0.1:
            place.pop(key)
        elif way < 0.25 and isinstance(place, dict):
            place[rng.choice([*_payloads(marker), "u999999999999", "s5"])] = place.pop(key)
        elif way < 0.35:
            place[key] = copy.deepcopy(rng.choice(_containers(description)))
        elif way < 0.6 or isinstance(place[key], str):
            place[key] = rng.choice(_payloads(marker))
        else:
            place[key] = copy.deepcopy(rng.choice(NUMBERS))
    found[i] = (found[i][0], json.dumps(description).encode())
    return written(found)


def payload_everywhere(content, rng, marker):
    """One payload in the place of one text, wherever that stands; or as a guard, or in metadata."""
    found = entries(content)
    (i,) = (i for i, (name, _) in enumerate(found) if name.endswith("models/model.json"))
    description = json.loads(found[i][1])
    payload = rng.choice(_payloads(marker))
    if rng.random() < 0.3:
        description["guards_code"] = [payload]
    elif rng.random() < 0.3:
        for node in description["graph_module"]["graph"]["nodes"]:
            node["metadata"] = dict.fromkeys([*node["metadata"], "custom", "from_node", "source_fn_stack"], payload)
    elif rng.random() < 0.2:
        description["range_constraints"] = {
            rng.choice(["u99999999999", payload, "s31"]): {"min_val": 2, "max_val": 10**30}
        }
    elif rng.random() < 0.2:
        nodes = description["graph_module"]["graph"]["nodes"]
        nodes *= rng.choice([2, 3000])
    else:
        text = rng.choice(["input", "flatten", "p_0_weight", "0.weight", "qcfs", "conv2d"])
        description = json.loads(json.dumps(description).replace(json.dumps(text), json.dumps(payload)))
    found[i] = (found[i][0], json.dumps(description).encode())
    return written(found)


# Tables and images.


def _bomb(width=20_000, height=20_000):
    """A PNG of a few hundred kB with as many pixels as it says, or one that only says so."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress(bytes(min((1 + 3 * width) * height, 1 << 26)), 1)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


def _postscript(marker):
    return f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch {marker}) (w) file\nshowpage\n".encode()


def strange_image(rng, folder):
    whole = png(_pixels(1)[0], rng.choice(["png", "tiff", "webp", "gif", "jpeg", "bmp"]))
    made = [
        lambda: rng.choice([b"", b"x", None]),
        lambda: png(_pixels(1)[0][:3]),
        lambda: png(_pixels(1)[0][..., 0]),
        lambda: _bomb(*rng.choice([(20_000, 20_000), (5000, 3000), (2**31 - 1, 1)])),
        lambda: _postscript(folder / "executed"),
        lambda: pickled(folder / "executed"),
        lambda: truncated(whole, rng),
        lambda: flipped(whole, rng),
    ]
    return rng.choice(made)()


LABELS = [10**9, 2**31, 2**62, -1, 1.5, float("nan"), None, "x", "\x1b[31m", True, [1]]


def table_changed(folder, path, rng):
    """Labels and images that are none, others than the rest, far too many, or elsewhere."""
    import pyarrow
    import pyarrow.parquet

    images, labels = [png(pixels) for pixels in _pixels()], [0, 1, 2, 1]
    way = rng.randrange(8)
    if way == 0:
        labels = [rng.choice(LABELS)] * 4 if rng.random() < 0.5 else [*labels[:3], rng.choice([10**9, 2**62, -1, None])]
    elif way == 1:
        images[rng.randrange(4)] = strange_image(rng, folder)
    elif way == 2:
        places = [
            "/etc/passwd",
            str(folder / "fifo"),
            "http://127.0.0.1:9/x.png",
            str(folder / "good/a/0.png"),
            "zip://x::y",
        ]
        images = [{"bytes": None, "path": rng.choice(places)}] * 4 if rng.random() < 0.5 else [rng.choice(places)] * 4
    elif way == 3:
        images = images * 500
        labels = labels * 500
    elif way == 4:
        images, labels = images[:0], labels[:0]
    elif way == 5:
        images = [bytes(rng.choice([10**6, 3 * 10**7]))] * 4
    elif way == 6:
        images = [_bomb(5000, 3000)] * 4
    options = {"compression": rng.choice(["snappy", "zstd", "none"]), "use_dictionary": rng.random() < 0.5}
    if way < 7:
        _parquet(path, images, labels, **options)
        return
    info = rng.choice(
        [
            [],
            "x",
            {"info": []},
            {"info": {"features": {"label": {"names": [1, None]}}}},
            _deep(500),
            {"info": {"features": {"label": {"names": ["\x1b[31m"]}}}},
        ]
    )
    table = pyarrow.table({rng.choice(["image", "\x1b[2J", "img"]): images, "label": labels})
    text = json.dumps(info) if rng.random() < 0.7 else "[" * 10**6
    pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": text}), path)


def folder_changed(folder, path, rng):
    """Files that are no images, names that are no text, and what is no file."""
    shutil.copytree(folder / "good", path)
    kind = path / "a"
    way = rng.randrange(7)
    if way == 0:
        os.mkfifo(kind / "x.png")
    elif way == 1:
        (kind / "x.png").symlink_to("/dev/zero")
    elif way == 2:
        (kind / "x.png").symlink_to("x.png")
    elif way == 3:
        os.rename(kind, os.fsencode(path) + rng.choice([b"/\xff\xfe", b"/\x1b[31mred", b"/ ", b"/[bold]"]))
    else:
        file = rng.choice(sorted(path.glob("*/*")))
        image = strange_image(rng, folder)
        file.write_bytes(rng.choice(BYTES)(file.read_bytes(), rng) if image is None or way < 6 else image)


# What reads them.


def read_model(path):
    model = checkpoint.load(path)
    model.graph()
    model.source()(np.zeros((2, *model.input_shape), np.float32))


def read_published(path):
    published.load(path, "resnet8", 4).graph()


def resume(path):
    """The training that the state belongs to, as the same command would go on with it."""
    shutil.copyfile(path, path.with_suffix(".run.training"))
    training.train_to_file(_images(), _images(), CONFIG, path.with_suffix(".run"))


def read_images(path):
    data.load(str(path), "test").preprocessing()
    data.load(str(path), "test", crop=4)


TORCH = (value_changed, value_changed, value_changed, pickle_changed, archive_changed, headers_changed)
FORMATS = {
    "pt2": ((text_changed, text_changed, payload_everywhere, archive_changed, headers_changed), read_model),
    "pt": (TORCH, read_model),
    "pth": (TORCH, read_published),
    "training": (TORCH, resume),
    "parquet": ((), read_images),
    "images": ((), read_images),
}


def write(folder, seed, rng):
    """File number ``seed``: its path and the way it was made."""
    kind = list(FORMATS)[seed % len(FORMATS)]
    path = folder / (f"file.{kind}" if kind != "images" else "file")
    if path.is_dir():
        shutil.rmtree(path)
    if kind == "images":
        folder_changed(folder, path, rng)
        return path, "images"
    if kind == "parquet" and rng.random() < 0.6:
        table_changed(folder, path, rng)
        return path, "parquet: table_changed"
    content = (folder / f"good.{kind}").read_bytes()
    ways = FORMATS[kind][0]
    if not ways or rng.random() < 0.25:
        way = rng.choice(BYTES)
        path.write_bytes(way(content, rng))
    else:
        way = rng.choice(ways)
        path.write_bytes(way(content, rng, folder / "executed"))
    return path, f"{kind}: {way.__name__}"


def read(path):
    """Read a file as its command would."""
    return FORMATS.get(path.suffix[1:], FORMATS["images"])[1](path)


def main(folder, first, count):
    folder = Path(folder)
    if not (folder / "fifo").exists():
        good(folder)
        os.mkfifo(folder / "fifo")
    for kind in FORMATS:  # what is read for the first time imports much
        read(folder / (f"good.{kind}" if kind != "images" else "good"))
    fuzzing.serve(lambda seed, rng: write(folder, seed, rng), read, first, count)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
