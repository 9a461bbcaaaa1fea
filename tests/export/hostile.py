"""Damaged and hostile NIR files, made from good ones, and what comes of them: the fuzzer of
:mod:`tests.export.test_untrusted`.

    python -m tests.export.hostile FIRST COUNT

makes file number FIRST, FIRST + 1, … (the number is the seed), gives each to ``inspect`` and to
``run`` in torch in a process of its own, and prints a line of JSON for each: how it was made, what
came of it, seconds, memory, and what is wrong with that. Seconds are of processor time, so that a
busy machine is no hang; a process that is not there in WALL seconds is one.
"""

import contextlib
import ctypes
import gc
import io
import json
import math
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import h5py
import nir
import numpy as np
import torch

from pascal_nm import build, convert, quantize
from pascal_nm.cli import main, options
from pascal_nm.errors import PascalError
from pascal_nm.export import nir_modules, rate, unrolled, write_nir
from pascal_nm.export.profile import profile_of
from pascal_nm.export.untrusted import read_raw
from pascal_nm.hw_targets.nir_network import NirProgram
from pascal_nm.network.graph import Preprocessing
from tests import networks
from tests.export import foreign, interpreter

SECONDS, MEMORY, WALL = 5, 500 * 2**20, 300

FOREIGN = 24

SECRET = 4242.4242
"""In a file beside, which no other may read."""


def good_files(folder, pools=("max", "avg")):
    """One of each kind, all of which take images of the bundled digits."""
    torch.manual_seed(0)
    made = []
    for pool in pools:
        module = networks.randomized(
            build("resnet8", (1, 8, 8), 10, [3, 2, 2, 4, 1, 2, 3], width=0.125, pool=pool)
        ).float()
        graph = convert(module, torch.zeros(1, 1, 8, 8), preprocessing=Preprocessing(16.0, (0.3,), (0.4,)))
        for kind, network in (("float", graph), ("integer", quantize(graph))):
            made.append(folder / f"pasc-{kind}-{pool}.nir")
            write_nir(network, made[-1])
            made.append(folder / f"unrolled-{kind}-{pool}.nir")
            unrolled.write_unrolled(network, made[-1])
        if pool == "avg":
            made.append(folder / "rate.nir")
            rate.write_rate(graph, made[-1], 5)
    for seed in range(FOREIGN):
        made.append(folder / f"foreign-{seed}.nir")
        raw = foreign.random_graph(np.random.default_rng(seed))
        nir.write(str(made[-1]), raw, compression=("gzip", None)[seed % 2])
    return made


# --- ways to damage a file: bytes -----------------------------------------------------------------


def truncated(path, rng):
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def flipped(path, rng):
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 4, 64])):
        content[rng.randrange(len(content))] = rng.randrange(256)
    path.write_bytes(content)


def structure(content, path):
    """Where the bytes lie that no array holds: headers, heaps, trees."""
    inside = np.zeros(len(content), bool)
    with h5py.File(path) as file:
        for name in objects(file, h5py.Dataset):
            start = file[name].id.get_offset()
            if start is not None:
                inside[start : start + file[name].id.get_storage_size()] = True
    return np.flatnonzero(~inside).tolist()


def flipped_in_the_structure(path, rng):
    content = bytearray(path.read_bytes())
    for place in rng.choices(structure(content, path), k=rng.choice([1, 3, 9])):
        content[place] = rng.choice([rng.randrange(256), 0, 255, content[place] ^ 1])
    path.write_bytes(content)


def copied(path, rng):
    """Bytes of the structure over others."""
    content = bytearray(path.read_bytes())
    places = structure(content, path)
    for _ in range(rng.choice([1, 2, 4])):
        size = rng.choice([1, 2, 4, 8, 16, 64, 512])
        start, end = rng.choice(places), rng.choice(places)
        content[end : end + size] = content[start : start + size]
    path.write_bytes(content)


def zeroed(path, rng):
    content = bytearray(path.read_bytes())
    start, size = rng.choice(structure(content, path)), rng.choice([1, 4, 8, 16, 64])
    content[start : start + size] = bytes(len(content[start : start + size]))
    path.write_bytes(content)


def heap_references(path, rng):
    """Texts that stand for other texts, for sizes that they do not have, or all for one."""
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        start, size = file["node/edges"].id.get_offset(), file["node/edges"].id.get_storage_size()
    references = [content[i : i + 16] for i in range(start, start + size, 16)] if start else []
    for i in range(len(references)):
        if rng.random() < 0.5:
            length, address, index = struct.unpack("<IQI", rng.choice(references))
            odd = rng.choice([(0, 0), (1, 0), (0, 1), (2**31, 0), (rng.randrange(2**16), 0), (0, rng.randrange(99))])
            content[start + 16 * i : start + 16 * i + 16] = struct.pack(
                "<IQI", (length + odd[0]) % 2**32, address, index + odd[1]
            )
    heap = content.find(b"GCOL")
    if heap >= 0 and rng.random() < 0.5:
        at = heap + rng.randrange(16, 512)
        content[at : at + 8] = struct.pack("<Q", rng.choice([0, 1, 8, 2**40, 2**63, 4096]))
    path.write_bytes(content)


# --- structure ------------------------------------------------------------------------------------


def objects(file, kind):
    found = []
    file.visititems(lambda name, item: found.append(name) if isinstance(item, kind) else None)
    return sorted(found)


def put(file, name, value, **options):
    del file[name]
    return file.create_dataset(name, data=value, **options)


def missing(file, rng):
    del file[rng.choice(objects(file, (h5py.Dataset, h5py.Group)))]


ODD = [
    "text",
    "1.5",
    b"\xff\xfe",
    np.nan,
    np.inf,
    -1,
    0,
    1,
    2,
    3,
    2**62,
    1.5,
    1e300,
    np.zeros(0),
    np.zeros((3, 0, 2)),
    np.full((2, 2), np.nan),
    np.array([-1, -1]),
    np.array([1, 1]),
    np.array([2, 1]),
    np.array([2**40, 2**40]),
    np.arange(7, dtype=np.int8),
    np.zeros(2, np.complex64),
    np.zeros((1,) * 12),
    np.zeros(3, bool),
    np.array(["a", "b"], dtype="S1"),
    np.array(["1", "2"], dtype="S1"),
    h5py.Empty("f"),
    np.zeros(2, dtype=[("x", "f4"), ("y", "i4")]),
    "same",
    "valid",
    np.ones((200_000, 8, 8), np.int8),
    np.ones(100_000, np.int8),
]


def replaced(file, rng):
    put(file, rng.choice(objects(file, h5py.Dataset)), rng.choice(ODD))


def settings(file, rng):
    """Strides, padding, groups and the like."""
    found = [n for n in objects(file, h5py.Dataset) if n.rsplit("/")[-1] in SETTINGS]
    name = rng.choice(found)
    old = file[name][()]
    new = rng.choice(
        [0, 1, 2, 3, 5, -1, 10**3, 10**9, -(2**63), "same", "valid", (1, 1), (2, 1), (1, 0), (3, 3, 3), 1.0]
    )
    put(
        file,
        name,
        np.full(np.shape(old), new) if np.ndim(new) == 0 and not isinstance(new, str) and rng.random() < 0.5 else new,
    )


SETTINGS = {
    "stride", "padding", "dilation", "groups", "kernel_size", "start_dim", "end_dim",
    "shape", "input_shape", "input_type",
}  # fmt: skip


def arrays(file):
    return [n for n in objects(file, h5py.Dataset) if file[n].dtype.kind in "iuf" and n.startswith("node/nodes")]


def types(file, rng):
    name = rng.choice(arrays(file))
    old = file[name][()]
    kind = rng.choice([">f4", ">f8", ">i4", "f2", "f8", "i1", "u8", "?", "c8", "S8", "O", "<i2", "g"])
    if kind in ("S8", "O"):
        put(file, name, np.array(old).astype("S8"), dtype=h5py.string_dtype() if kind == "O" else None)
    else:
        put(file, name, np.asarray(old).astype(kind))


def shapes(file, rng):
    name = rng.choice(arrays(file))
    old = np.asarray(file[name][()])
    ways = [
        lambda: old.reshape(-1),
        lambda: old[None],
        lambda: old[..., None],
        lambda: old.T,
        lambda: old.reshape(-1)[:1],
        lambda: old.reshape(-1)[0],
        lambda: np.stack([old] * old.shape[-1]) if old.ndim else old,
        lambda: np.concatenate([old, old]) if old.ndim else old,
        lambda: old[:-1] if old.ndim else old,
        lambda: old[:, :1] if old.ndim > 1 else old,
        lambda: old.mean(tuple(range(1, old.ndim)), keepdims=True) if old.ndim > 1 else old,
    ]
    put(file, name, rng.choice(ways)())


def values(file, rng):
    name = rng.choice(arrays(file))
    new = np.array(file[name][()], np.float64)
    if rng.random() < 0.5 and new.ndim:
        new.reshape(-1)[rng.randrange(max(1, new.size))] = rng.choice([np.nan, np.inf, -np.inf, 1e300, -1, 0, 1e38])
    else:
        new = new * rng.choice([np.nan, np.inf, 1e300, -1, 0, 1e38, 2])
    put(file, name, new)


def group_for_array(file, rng):
    name = rng.choice(objects(file, h5py.Dataset))
    del file[name]
    file.create_group(name)["x"] = 1


def huge(file, rng):
    """Declared, but not stored."""
    name = rng.choice(objects(file, h5py.Dataset))
    old = file[name]
    if rng.random() < 0.5:
        shape = tuple(rng.choice([1, 10**3, 10**6, 10**9]) for _ in range(max(1, old.ndim)))
    else:
        shape = tuple(n * 10**4 for n in old.shape) or (10**10,)
    del file[name]
    file.create_dataset(name, shape, "f4", chunks=tuple(min(n, 10) for n in shape), compression="gzip")


def bomb(file, rng):
    """Zeros that compress to nothing: of more than a file may hold, or of just as much."""
    name = rng.choice(objects(file, h5py.Dataset))
    del file[name]
    rows = rng.choice([12, 15, 2000])
    data = file.create_dataset(name, (rows, 1000, 1000), "f4", chunks=(5, 1000, 1000), compression="gzip")
    data[:5] = 0


def outer(file, rng):
    """Fields whose product is larger than memory."""
    name = rng.choice(arrays(file))
    size = rng.choice([10**4, 10**5, 10**6])
    for field in file[name].parent.values():
        if isinstance(field, h5py.Dataset) and field.dtype.kind in "iuf":
            put(file, field.name, np.ones((1, size) if rng.random() < 0.3 else (size, 1), np.int8), compression="gzip")


def linked(file, rng):
    name = rng.choice(objects(file, (h5py.Dataset, h5py.Group)))
    places = [
        h5py.ExternalLink("/etc/passwd", "/"),
        h5py.ExternalLink(SECRET_FILE, "/values"),
        h5py.ExternalLink(SECRET_FILE, "/"),
        h5py.ExternalLink(file.filename, "/node"),
        h5py.SoftLink("/node"),
        h5py.SoftLink(f"/{name}"),
        file[rng.choice(objects(file, (h5py.Dataset, h5py.Group)))],
    ]
    target = rng.choice(places)
    if file.get(name) is not None and target != file[name]:
        del file[name]
        with contextlib.suppress(RuntimeError, ValueError, OSError, KeyError):  # the target lay inside
            file[name] = target


def endless(file, rng):
    """A group that holds itself."""
    group = rng.choice(["node", "node/nodes"])
    file[group]["again"] = file[rng.choice(["/", "node", "node/nodes"])]


def nested(file, rng):
    """Graphs in graphs, deep or wide."""
    inner = file["node/nodes"]
    for _ in range(rng.choice([3, 14, 40, 2000])):
        inner = inner.create_group("graph")
        inner["type"] = "NIRGraph"
        inner["edges"] = np.zeros((0, 2))
        inner = inner.create_group("nodes")


def many(file, rng):
    """Many small groups, nodes, or texts."""
    kind, count = rng.choice(["group", "node", "text"]), rng.choice([100, 300, 1000, 2000, 4000, 20_500])
    if kind == "text":
        file["node/metadata/texts"] = np.array(["x" * 1000] * count, dtype=object)
        return
    for i in range(count):
        group = file.create_group(f"node/nodes/many{i}")
        if kind == "node":
            group["type"], group["scale"] = "Scale", 1.0


def external_values(file, rng):
    name = rng.choice(objects(file, h5py.Dataset))
    del file[name]
    if rng.random() < 0.5:
        file.create_dataset(name, (64,), "i1", external=[(rng.choice(["/etc/passwd", SECRET_FILE]), 0, 64)])
    else:
        layout = h5py.VirtualLayout(shape=(64,), dtype="f8")
        layout[:] = h5py.VirtualSource(rng.choice(["/etc/hostname", SECRET_FILE]), "values", shape=(64,))
        file.create_virtual_dataset(name, layout)


def other_objects(file, rng):
    name = rng.choice(objects(file, h5py.Dataset))
    kind = rng.choice(["type", "reference", "attributes", "filter"])
    old = file[name][()]
    if kind == "attributes":
        file[name].attrs["type"] = "evil"
        file["node"].attrs.create("big", np.zeros(4000))
        return
    del file[name]
    if kind == "type":
        file[name] = np.dtype("f8")
    elif kind == "reference":
        file.create_dataset(name, data=np.array([file["node"].ref], dtype=h5py.ref_dtype))
    else:
        numbers = np.atleast_1d(old) if np.asarray(old).dtype.kind in "iuf" else np.zeros(4)
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk(tuple(max(1, n) for n in numbers.shape))
        plist.set_filter(32015 if rng.random() < 0.5 else h5py.h5z.FILTER_NBIT, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple(numbers.shape)
        h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(numbers.dtype), space, plist)


def edges(file, rng):
    found = [tuple(x.decode() for x in edge) for edge in file["node/edges"][()]]
    names = [*file["node/nodes"], "nowhere"]
    change = rng.choice(["drop", "all", "cycle", "random", "double", "self", "out", "skip", "dense", "flat"])
    if change == "drop":
        found.pop(rng.randrange(len(found)))
    elif change == "all":
        found = []
    elif change == "cycle":
        found += [(b, a) for a, b in found]
    elif change == "double":
        found += rng.sample(found, 1) if rng.random() < 0.5 else found
    elif change == "self":
        found.append((names[0], names[0]))
    elif change == "out":
        found.append(rng.choice([("output", names[0]), (names[0], "input")]))
    elif change == "skip":
        found.append((rng.choice(found)[0], "output"))
    elif change == "dense":
        found = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    else:
        found += [(rng.choice(names), rng.choice(names)) for _ in range(rng.choice([1, 5]))]
    value = np.array(found, dtype=h5py.string_dtype()).reshape((-1,) if change == "flat" else (-1, 2))
    put(file, "node/edges", value, dtype=h5py.string_dtype())


def names(file, rng):
    """A node called something else, everywhere."""
    old = rng.choice([*file["node/nodes"]])
    new = rng.choice(
        [
            "self",
            "type",
            "forward",
            "output",
            "input",
            "import",
            "__class__",
            "a.b",
            "a b",
            "é",
            "\n",
            "\x1b[31m",
            "x" * 5000,
            "名",
            "nodes",
            "1",
        ]
    )
    found = [tuple(x.decode() for x in edge) for edge in file["node/edges"][()]]
    if new in file["node/nodes"]:
        return
    file.move(f"node/nodes/{old}", f"node/nodes/{new}")
    found = [tuple(new if x == old else x for x in edge) for edge in found]
    put(file, "node/edges", np.array(found, dtype=h5py.string_dtype()).reshape(-1, 2), dtype=h5py.string_dtype())


def exchanged(file, rng):
    """Two nodes in each other's place, or one twice."""
    a, b = rng.choices([*file["node/nodes"]], k=2)
    if a == b:
        file.copy(f"node/nodes/{a}", "node/nodes/twice")
        return
    file.move(f"node/nodes/{a}", "node/between")
    file.move(f"node/nodes/{b}", f"node/nodes/{a}")
    file.move("node/between", f"node/nodes/{b}")


def odd_type(file, rng):
    node = rng.choice([*file["node/nodes"]])
    kinds = [
        "Conv9d",
        "IF",
        "Conv2d",
        "NIRGraph",
        "__class__",
        "read",
        "",
        "x" * 10**6,
        "Delay",
        "Linear",
        "LI",
        "Scale",
    ]
    put(file, f"node/nodes/{node}/type", rng.choice(kinds))


def header(file, rng):
    """Metadata of ours that says something else."""
    keys = [key for key in ("pascal_nm", "pascal_nm_profile") if f"node/metadata/{key}" in file]
    if not keys:
        file["node/metadata/pascal_nm_profile"] = rng.choice(["{}", "[" * 100_000, '{"a":' * 500 + "1" + "}" * 500])
        return
    content = json.loads(file[f"node/metadata/{keys[0]}"][()])
    place, key = content, rng.choice([*content])
    while isinstance(place[key], (dict, list)) and place[key] and rng.random() < 0.6:
        place = place[key]
        key = rng.choice([*place] if isinstance(place, dict) else range(len(place)))
    deep = 1
    for _ in range(900):
        deep = [deep]
    odd = [
        None,
        -1,
        0,
        10**12,
        10**400,
        "x",
        "1",
        [],
        {},
        [["a", "b"]],
        1.5,
        1.9,
        math.nan,
        math.inf,
        [None],
        {"scale": 0},
        True,
        deep,
    ]
    if rng.random() < 0.8:
        place[key] = rng.choice(odd)
    elif isinstance(place, dict):
        place.pop(key)
    text = json.dumps(content) if rng.random() < 0.9 else json.dumps(content)[: rng.randrange(200)]
    if rng.random() < 0.05:
        text = rng.choice(["[" * 100_000, "1" * 10_000, ""])
    put(file, f"node/metadata/{keys[0]}", text)


BYTES = [truncated, flipped, flipped_in_the_structure, copied, zeroed, heap_references]
STRUCTURE = [
    missing, replaced, settings, types, shapes, values, group_for_array, huge, bomb, outer, linked, endless, nested,
    many, external_values, other_objects, edges, names, exchanged, odd_type, header,
]  # fmt: skip


def damaged(good, path, seed):
    """Make file number ``seed`` at ``path``; gives the ways in which it was damaged."""
    rng = random.Random(seed)
    shutil.copyfile(good[seed % len(good)], path)
    ways = []
    for _ in range(rng.choice([1, 1, 1, 2])):
        way = rng.choice(rng.choice([BYTES, STRUCTURE, STRUCTURE]))
        with contextlib.suppress(*([] if not ways else [Exception])):  # what is damaged already may not open
            try:
                if way in BYTES:
                    way(path, rng)
                else:
                    with h5py.File(path, "a") as file:
                        way(file, rng)
            except IndexError:  # no such part in this file
                continue
            ways.append(way.__name__)
    return ways


# --- what comes of a file -------------------------------------------------------------------------


def called(*arguments):
    """The command line in this process: exit code, and what it says."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        try:
            code = main.load(arguments[0]).main([*map(str, arguments[1:])], standalone_mode=False)
        except (PascalError, OSError) as error:  # as pascal_nm.cli.main has it
            return 2, str(error)
        except main._USAGE_ERROR as error:
            return 2, str(error)
    return code or 0, shown.getvalue()


def outcome(path, good):
    """What the commands make of a file, what is wrong with that, and the most seconds that
    one of them takes.
    """
    wrong, found, seconds = [], [], []
    run = ["run", path, "--limit", 10, "--json"]
    for arguments in (["inspect", path, "--json"], run):
        start = processor_seconds()
        code, text = called(*arguments)
        seconds.append(processor_seconds() - start)
        if code == 2 and "give --timesteps" in text:
            start = processor_seconds()
            code, text = called(*run, "-T", 5, "--reset", "zero")
            seconds.append(processor_seconds() - start)
        found.append(code)
        if code == 2 and ("\n" in text or not text.isprintable() or ("file.nir" not in text and arguments is not run)):
            wrong.append(f"not one line: {text[:300]!r}")
        if str(SECRET) in text:
            wrong.append("holds what another file holds")
    if found[1] == 0 and "pasc" not in good.name:
        wrong += differences(path)
    return ("run" if found[1] == 0 else "inspected" if found[0] == 0 else "refused"), wrong, max(seconds)


def differences(path):
    """Whether torch answers as the equations say, for a file that nir itself reads, too."""
    ours = read_raw(path)
    try:
        raw = nir.read(str(path), type_check=False)
    except ValueError:  # it checks graphs inside graphs all the same, and takes every kernel for a square one
        raw = ours
    profile = profile_of(ours)
    timesteps, after_spike = (profile.timesteps, "zero") if profile else (5, "zero")
    program = NirProgram(ours, timesteps, nir_modules.Reading(after_spike=after_spike), dtype=torch.float64)
    x = np.random.default_rng(0).normal(0.5, 1, (2, *program.input_shape))
    expected = interpreter.run(raw, x, timesteps, after_spike)
    found = program.run(x).outputs
    if not np.allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max(initial=1)):
        return [f"silently wrong: {found.reshape(-1)[:4]} instead of {expected.reshape(-1)[:4]}"]
    return []


FORBIDDEN = {"os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "pickle.find_class"}


def judged(path, good):
    """In a child: what came of a file, its seconds and memory."""
    executed = []
    sys.addaudithook(lambda event, arguments: executed.append(event) if event in FORBIDDEN else None)
    base = memory()
    try:
        result, wrong, seconds = outcome(path, good)
    except BaseException:
        result, wrong, seconds = "traceback", [traceback.format_exc()[-1500:]], 0
    most = max(memory(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024) - base
    if seconds > SECONDS:
        wrong.append(f"takes {seconds:.1f} s")
    if most > MEMORY + path.stat().st_size:
        wrong.append(f"takes {most / 2**20:.0f} MB")
    wrong += [f"executed: {event}" for event in executed]
    return {"outcome": result, "wrong": wrong, "seconds": round(seconds, 2), "megabytes": most >> 20}


def processor_seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def memory():
    """The most memory of this process so far, in bytes: since the fork, where there was one."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def in_a_child(work):
    """What ``work`` returns, in a process that is ended after WALL seconds."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        signal.alarm(WALL)
        os.close(reading)
        try:
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if text:
        return json.loads(text)
    return {
        "outcome": "hang or crash",
        "wrong": [f"ended by signal {os.WTERMSIG(status)}"],
        "seconds": WALL,
        "megabytes": 0,
    }


class Watch:
    """Whether anybody opens a file, by inotify."""

    OPENED = 0x20

    def __init__(self, path):
        system = ctypes.CDLL(None)
        self.handle = system.inotify_init1(os.O_NONBLOCK)
        system.inotify_add_watch(self.handle, os.fsencode(path), self.OPENED)

    def opened(self):
        try:
            return bool(os.read(self.handle, 4096))
        except BlockingIOError:
            return False


def prepared(good):
    """Load what every child needs, once; forks must not inherit a pool of threads."""
    torch.set_num_threads(1)
    options.load_data = cached(options.load_data)
    for path in good[:2]:
        outcome(path, path)
    gc.collect()
    gc.freeze()


def cached(load):
    known = {}

    def once(*arguments, network=None):
        if arguments not in known:
            known[arguments] = load(*arguments)
        return known[arguments]

    return once


def results(first, count):
    """Make files and judge them, one after the other."""
    global SECRET_FILE
    with tempfile.TemporaryDirectory() as folder:
        path, secret = Path(folder) / "file.nir", Path(folder) / "secret.h5"
        with h5py.File(secret, "w") as file:
            file["values"] = np.full(64, SECRET)
        SECRET_FILE = str(secret)
        made = subprocess.run(
            [sys.executable, "-m", "tests.export.hostile", folder], check=True, capture_output=True, text=True
        )
        good = [
            Path(line) for line in made.stdout.splitlines()
        ]  # elsewhere: what converts is large, and a fork copies its tables
        prepared(good)
        watch = Watch(secret)
        for seed in range(first, first + count):
            ways = damaged(good, path, seed)
            watch.opened()
            origin = good[seed % len(good)]
            result = in_a_child(lambda origin=origin: judged(path, origin))
            if watch.opened():
                result["wrong"].append("another file was opened")
            yield {"seed": seed, "from": origin.stem, "ways": ways, "bytes": path.stat().st_size, **result}


SECRET_FILE = ""

if __name__ == "__main__" and len(sys.argv) == 2:
    print(*good_files(Path(sys.argv[1])), sep="\n")
elif __name__ == "__main__":
    began = time.monotonic()
    for line in results(int(sys.argv[1]), int(sys.argv[2])):
        print(json.dumps(line), flush=True)
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
