"""A PASC network from its NIR file, run spike by spike: NumPy and h5py, nothing else.

Written from docs/nir-spec.md, whose sections the comments name.

    python examples/nir/reader.py model.nir inputs.npz    # x: inputs (N, *shape); prints classes
"""

import itertools
import json
import sys

import h5py
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def content(group):
    """A group of the file as a dictionary."""
    found = {key: content(item) if isinstance(item, h5py.Group) else item[()] for key, item in group.items()}
    return {key: item.decode() if isinstance(item, bytes) else item for key, item in found.items()}


class Network:
    """Populations and projections of a file (section 2), and when each does what (section 4)."""

    def __init__(self, path):
        with h5py.File(path) as file:
            graph = content(file["node"])
        self.header, nodes = json.loads(graph["metadata"]["pascal_nm"]), graph["nodes"]
        assert self.header["format"] == 2 and self.header["schedule"] == "pasc", "another version, or schedule"
        self.about = {name: nodes[name]["metadata"]["pascal_nm"] for name in self.header["populations"]}
        for name, own in self.about.items():
            own["theta"] = own.get("threshold", nodes[name].get("v_threshold"))
        edges = [(a.decode(), b.decode()) for a, b in graph["edges"]]
        self.ways = {name: [] for name in self.about}  # by target: each source, and the nodes on the way
        for source, first in edges:
            way, at = [], first
            while source in self.about and at not in self.about:
                way.append(nodes[at])
                (at,) = (b for a, b in edges if a == at)
            if source in self.about:
                self.ways[at].append((source, way))
        order = [tuple(ends) for ends in self.header["projections"]]
        for target, ways in self.ways.items():
            ways.sort(key=lambda way: order.index((way[0], target)))
        self.integer = all(w["weight"].dtype.kind == "i" for w in nodes.values() if "weight" in w)
        self.spans, self.emits = {}, {}
        for name, own in self.about.items():
            self.schedule(name, own["kind"], int(own["levels"]))

    def schedule(self, name, kind, levels):
        """The spans of a population, from those of its sources (section 4)."""
        arrivals = [(a + 1, b + 1) for source, _ in self.ways[name] for a, b in self.emits[source]]
        if kind == "analog":
            self.emits[name] = [(0, 1)]
            return
        first, last = min(a for a, _ in arrivals), max(b for _, b in arrivals)
        main = max(arrivals, key=lambda span: (span[1], span[1] - span[0]))
        analog = all(self.about[source]["kind"] == "analog" for source, _ in self.ways[name])
        settled = last + (0 if analog else max(main[1] - main[0], levels) - 1)
        if kind == "pasc":
            self.spans[name] = (first if analog else main[0], last, settled, analog)
            self.emits[name] = [(settled, settled + levels)]
        else:
            self.emits[name] = sorted(set(arrivals)) if kind == "linear" else [(first, last)]

    def run(self, inputs):
        """Counts by population, (N, *shape), and outputs, for inputs (N, *shape) (section 3)."""
        about, dtype = self.about, np.float64  # which holds the integers of integer files exactly
        v, s, sent, counts = {}, {}, {}, {}
        steps = max(stop for spans in self.emits.values() for _, stop in spans)
        for t in range(steps):
            before, sent = sent, {}
            for name, own in about.items():
                kind, theta, bias = own["kind"], own["theta"], own["bias"]
                if kind == "analog":
                    current = inputs / theta.astype(np.float64) + bias
                    sent[name] = (np.rint(current) if self.integer else current) if t == 0 else None
                    continue
                theta, bias = theta.astype(dtype), bias.astype(dtype)
                parts = [
                    along(way, before[source]) for source, way in self.ways[name] if before.get(source) is not None
                ]
                arrived = sum(parts[1:], parts[0]) if parts else None
                if kind == "pasc":
                    start = v.get(name, theta // 2 if self.integer else theta / 2)
                    v[name], s[name], spikes = self.step(name, t, start, s.get(name, 0), arrived, theta, bias)
                    sent[name] = None if spikes is None else spikes.astype(dtype)
                elif kind in ("max", "peak"):
                    s[name] = s.get(name, 0) + (0 if arrived is None else arrived)
                    sign = own["theta"] if kind == "max" else 1
                    pool = self.ways[name][0][1][0]
                    top = (
                        s[name] if np.ndim(s[name]) == 0 else sign * windows(s[name] * sign, pool, -np.inf).max((4, 5))
                    )
                    sent[name], v[name] = (top - v.get(name, 0)).astype(dtype) if np.ndim(top) else None, top
                elif kind == "linear":
                    sent[name] = arrived
                else:  # readout
                    v[name] = v.get(name, bias) + (0 if arrived is None else arrived)
                if kind in ("pasc", "max") and sent[name] is not None:
                    counts[name] = counts.get(name, 0) + sent[name]
        outputs = [v[name] / own["theta"] for name, own in about.items() if own["kind"] == "readout"]
        return counts, np.concatenate(outputs, 1)

    def step(self, name, t, v, s, arrived, theta, bias):
        """One timestep of pasc neurons: their state, and the spikes that leave (section 3)."""
        begin, last, settled, analog = self.spans[name]
        if t < last:
            parts = [share(bias, t - begin, last - begin, self.integer)] if t >= begin else []
            v = v + sum(parts, 0 if arrived is None else arrived)
        if begin <= t < last and analog:
            return v, np.clip(v // theta, 0, self.about[name]["levels"]).astype(np.int64), None
        if begin <= t < settled:
            fired = (v >= theta).astype(v.dtype) - (v < 0) * (t >= last)
            return v - fired * theta, s + fired.astype(np.int64), None
        if settled <= t < settled + self.about[name]["levels"]:
            fired = (s >= 1).astype(np.int64)
            return v, s - fired, fired
        return v, s, None


def share(bias, k, n, integer):
    """Share k of n of the bias (section 3)."""
    if not integer:
        return bias * ((k + 1) / n) - bias * (k / n) if n > 1 else bias
    whole, rest = bias // n, bias % n
    return whole + (k + 1) * rest // n - k * rest // n


def along(way, x):
    """Spikes or numbers (N, *shape) over the nodes of a projection (section 2)."""
    for node in way:
        kind = node["type"]
        if kind == "SumPool2d":
            x = windows(x, node, 0).sum((4, 5)) if node is not way[-1] else x  # alone, it is a window for its target
        elif kind == "Flatten":
            x = x.reshape(len(x), -1)
        elif kind in ("Affine", "Linear"):
            x = x @ node["weight"].astype(x.dtype).T
        elif kind == "Scale":
            x = x * node["scale"].astype(x.dtype)
        else:
            x = convolved(x, node)
    return x


def windows(x, node, fill):
    """(N, C, H, W) to (N, C, H', W', kh, kw)."""
    kernel, stride, padding = (tuple(np.broadcast_to(node[k], 2)) for k in ("kernel_size", "stride", "padding"))
    sides = [(0, 0), (0, 0)]
    for size, k, s, p in zip(x.shape[2:], kernel, stride, padding, strict=True):
        more = -(size + 2 * p - k) % s if node.get("metadata", {}).get("pascal_nm", {}).get("ceil") else 0
        sides.append((p, p + (more if size + p > (size + 2 * p - k + more) // s * s else 0)))
    padded = np.pad(x.astype(np.float64) if fill else x, sides, constant_values=fill)
    return sliding_window_view(padded, kernel, (2, 3))[:, :, :: stride[0], :: stride[1]]


def convolved(x, node):
    """A correlation, as torch has it."""
    (ph, pw), (dh, dw), (sh, sw) = (node[k] for k in ("padding", "dilation", "stride"))
    weight, groups = node["weight"].astype(x.dtype), int(node["groups"])
    reach = [d * (k - 1) + 1 for d, k in zip((dh, dw), weight.shape[2:], strict=True)]
    seen = sliding_window_view(np.pad(x, [(0, 0), (0, 0), (ph, ph), (pw, pw)]), reach, (2, 3))
    seen = seen[:, :, ::sh, ::sw, ::dh, ::dw]
    parts = zip(np.split(seen, groups, 1), np.split(weight, groups), strict=True)
    return np.concatenate([np.tensordot(a, w, ((1, 4, 5), (1, 2, 3))) for a, w in parts], 3).transpose(0, 3, 1, 2)


if __name__ == "__main__":
    inputs = np.load(sys.argv[2])["x"]
    print(*itertools.chain.from_iterable(Network(sys.argv[1]).run(inputs)[1].argmax(1, keepdims=True)))
