"""Makes damaged and hostile NIR files from a good one and reads each: ``python -m tests.export.hostile GOOD.nir FIRST COUNT``.

Prints a line of JSON for each file: how it was made, what came of it, seconds, and the most memory of the process so far.
"""

import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from pascal_nm.errors import PascalError
from pascal_nm.export.nir_format import ForeignError, read_nir
from pascal_nm.export.untrusted import read_raw


def objects(file, kind):
    found = []
    file.visititems(lambda name, item: found.append(name) if isinstance(item, kind) else None)
    return sorted(found)


def truncated(path, rng):
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def flipped(path, rng):
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 4, 64])):
        content[rng.randrange(len(content))] = rng.randrange(256)
    path.write_bytes(content)


def flipped_in_the_structure(path, rng):
    """Headers lie between the arrays: bytes that no array holds."""
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        inside = np.zeros(len(content), bool)
        for name in objects(file, h5py.Dataset):
            start = file[name].id.get_offset()
            if start is not None:
                inside[start : start + file[name].id.get_storage_size()] = True
    for place in rng.choices(np.flatnonzero(~inside).tolist(), k=rng.choice([1, 3, 9])):
        content[place] = rng.randrange(256)
    path.write_bytes(content)


def missing(path, rng):
    with h5py.File(path, "a") as file:
        del file[rng.choice(objects(file, (h5py.Dataset, h5py.Group)))]


def replaced(path, rng):
    """An array of another type, shape or content."""
    values = [
        "text",
        b"\xff\xfe",
        np.nan,
        np.inf,
        -1,
        0,
        2**62,
        1.5,
        np.zeros(0),
        np.zeros((3, 0, 2)),
        np.full((2, 2), np.nan),
        np.array([-1, -1]),
        np.array([2**40, 2**40]),
        np.arange(7, dtype=np.int8),
        np.zeros(2, np.complex64),
        np.zeros((1,) * 12),
        np.zeros(3, bool),
        np.array(["a", "b"], dtype="S1"),
        h5py.Empty("f"),
        np.zeros(2, dtype=[("x", "f4"), ("y", "i4")]),
    ]
    with h5py.File(path, "a") as file:
        name = rng.choice(objects(file, h5py.Dataset))
        del file[name]
        file[name] = rng.choice(values)


def group_for_array(path, rng):
    with h5py.File(path, "a") as file:
        name = rng.choice(objects(file, h5py.Dataset))
        del file[name]
        file.create_group(name)["x"] = 1


def huge(path, rng):
    """Declared, but not stored."""
    with h5py.File(path, "a") as file:
        name = rng.choice(objects(file, h5py.Dataset))
        old = file[name]
        if rng.random() < 0.5:
            shape = tuple(rng.choice([1, 10**3, 10**6, 10**9]) for _ in range(max(1, old.ndim)))
        else:
            shape = tuple(n * 10**4 for n in old.shape) or (10**10,)
        del file[name]
        file.create_dataset(name, shape, "f4", chunks=tuple(min(n, 10) for n in shape), compression="gzip")


def bomb(path, rng):
    """Zeros that compress to nothing."""
    with h5py.File(path, "a") as file:
        name = rng.choice(objects(file, h5py.Dataset))
        del file[name]
        data = file.create_dataset(name, (2000, 1000, 1000), "f4", chunks=(5, 1000, 1000), compression="gzip")
        data[:5] = 0


def linked(path, rng):
    with h5py.File(path, "a") as file:
        name = rng.choice(objects(file, (h5py.Dataset, h5py.Group)))
        places = [
            h5py.ExternalLink("/etc/passwd", "/"),
            h5py.ExternalLink(str(path), "/node"),
            h5py.SoftLink("/node"),
            h5py.SoftLink(f"/{name}"),
        ]
        del file[name]
        file[name] = rng.choice(places)


def endless(path, rng):
    """A group that holds itself."""
    with h5py.File(path, "a") as file:
        group = rng.choice(["node", "node/nodes", "node/metadata"])
        file[group]["again"] = file[rng.choice(["/", "node", "node/nodes"])]


def external_values(path, rng):
    with h5py.File(path, "a") as file:
        name = rng.choice(objects(file, h5py.Dataset))
        del file[name]
        if rng.random() < 0.5:
            file.create_dataset(name, (64,), "i1", external=[("/etc/passwd", 0, 64)])
        else:
            layout = h5py.VirtualLayout(shape=(64,), dtype="i1")
            layout[:] = h5py.VirtualSource("/etc/hostname", "x", shape=(64,))
            file.create_virtual_dataset(name, layout)


def edges(path, rng):
    with h5py.File(path, "a") as file:
        found = [tuple(x.decode() for x in edge) for edge in file["node/edges"][()]]
        names = [*file["node/nodes"], "nowhere"]
        change = rng.choice(["drop", "all", "cycle", "random", "double", "self"])
        if change == "drop":
            found.pop(rng.randrange(len(found)))
        elif change == "all":
            found = []
        elif change == "cycle":
            found += [(b, a) for a, b in found]
        elif change == "double":
            found += found
        elif change == "self":
            found.append((names[0], names[0]))
        else:
            found += [(rng.choice(names), rng.choice(names)) for _ in range(5)]
        del file["node/edges"]
        file["node/edges"] = np.array(found, dtype=h5py.string_dtype()).reshape(-1, 2)


def header(path, rng):
    """PASC metadata that says something else."""
    with h5py.File(path, "a") as file:
        content = json.loads(file["node/metadata/pascal_nm"][()])
        values = [None, -1, 10**12, "x", [], {}, [["a", "b"]], 1.5, float("nan"), [None], {"scale": 0}]
        key = rng.choice([*content, "format"])
        if rng.random() < 0.7:
            content[key] = rng.choice(values)
        else:
            content.pop(key)
        text = json.dumps(content) if rng.random() < 0.8 else json.dumps(content)[: rng.randrange(200)]
        if rng.random() < 0.1:
            text = "[" * 100_000
        del file["node/metadata/pascal_nm"]
        file["node/metadata/pascal_nm"] = text


def odd_type(path, rng):
    with h5py.File(path, "a") as file:
        node = rng.choice([*file["node/nodes"]])
        name = f"node/nodes/{node}/type"
        del file[name]
        file[name] = rng.choice(["Conv9d", "IF", "Conv2d", "NIRGraph", "__class__", "read", "", "x" * 10**6])


WAYS = [
    truncated,
    flipped,
    flipped_in_the_structure,
    missing,
    replaced,
    group_for_array,
    huge,
    bomb,
    linked,
    endless,
    external_values,
    edges,
    header,
    odd_type,
]


def outcome(path, graph):
    try:
        found = read_nir(path)
    except ForeignError as error:
        try:
            read_raw(path)
        except PascalError as second:
            return "refused", str(second)
        return "refused", str(error)
    except PascalError as error:
        return "refused", str(error)
    return "read", "; ".join(graph.differences(found))


def peak():
    """Most memory of this process, in bytes. (getrusage would count the memory of the process that started it.)"""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main(good, first, count):
    graph = read_nir(good)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.nir"
        for seed in range(first, first + count):
            rng = random.Random(seed)
            way = WAYS[seed % len(WAYS)]
            shutil.copyfile(good, path)
            way(path, rng)
            print(json.dumps({"seed": seed, "way": way.__name__}), flush=True)
            start = time.perf_counter()
            result, text = outcome(path, graph)
            memory = peak()
            seconds = time.perf_counter() - start
            print(json.dumps({"outcome": result, "error": text, "seconds": seconds, "memory": memory}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
