"""NIR graphs by their equations in plain NumPy, one node after the other: what torch and Lava must
answer. Nothing of the package is used.

Written from https://neuroir.org and docs/nir.md ("Reading any NIR file"); slow, in
double precision.
"""

import itertools

import nir
import numpy as np

STEP = 1e-4


def run(graph, inputs, timesteps, after_spike="zero", current="last"):
    """The sum at the output over ``timesteps`` of inputs (N, *shape), one or a list of them."""
    nodes, edges = flat(graph)
    late, shorter = late_edges(nodes, edges)
    (output,) = (n for n, node in graph.nodes.items() if isinstance(node, nir.Output))
    gains = [node.r for node in nodes.values() if isinstance(node, (nir.I, nir.IF))]
    unit = STEP if all(np.allclose(r * STEP, 1) for r in gains) else 1.0
    states, total, before = {}, 0, {}
    for t in range(timesteps):
        x = np.asarray(inputs[t] if isinstance(inputs, list) else inputs, np.float64)
        sent = timestep(nodes, edges, late, shorter, x, states, before, (after_spike, current, unit))
        total, before = total + sent[output], sent
    return total.reshape(len(total), -1)


def flat(graph, prefix=""):
    """All nodes and edges; the ends of a graph in a graph are nodes that pass on what they get."""
    nodes, edges, ends = {}, [], {}
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            inner, between = flat(node, f"{prefix}{name}.")
            nodes |= inner
            edges += between
            kinds = (nir.Input, nir.Output)
            ends[name] = [next(f"{prefix}{name}.{n}" for n, m in node.nodes.items() if isinstance(m, k)) for k in kinds]
        else:
            nodes[prefix + name] = node
            ends[name] = [prefix + name] * 2
    return nodes, edges + [(ends[a][1], ends[b][0]) for a, b in graph.edges]


def late_edges(nodes, edges):
    """The edges that come a timestep late, and the delays that are shorter by it (docs/nir.md)."""
    late, shorter = set(), set()
    cutting = {n for n, node in nodes.items() if isinstance(node, nir.Delay) and np.min(node.delay) >= STEP / 2}
    while True:
        left = [edge for edge in edges if edge not in late]
        reach = {n: {n} for n in nodes}
        for _ in nodes:
            for a, b in left:
                reach[a] |= reach[b]
        inside = [(a, b) for a, b in left if a in reach[b]]
        if not inside:
            return late | {(a, b) for a, b in edges if b in shorter}, shorter
        for a, b in inside:
            cycle = reach[a] & {n for n in nodes if a in reach[n]}
            delays = cutting & cycle
            entries = delays or {d for c, d in left if d in cycle and c not in cycle}
            if b in entries:
                late.add((a, b))
                shorter |= {b} & delays


def timestep(nodes, edges, late, shorter, x, states, before, reading):
    """What each node sends."""
    waiting, sent = dict(nodes), {}
    while waiting:
        ready = [n for n in waiting if all(a in sent for a, b in edges if b == n and (a, b) not in late)]
        assert ready, "a cycle"
        for name in ready:
            node = waiting.pop(name)
            brought = [(before if (a, b) in late else sent).get(a) for a, b in edges if b == name]
            arriving = [value for value in brought if value is not None]
            assert len({a.shape for a in arriving}) <= 1, "shapes differ"
            if isinstance(node, nir.Input) and not brought:
                y = x
            elif arriving:
                y = np.sum(arriving, 0)
            else:  # nothing was sent yet
                y = np.zeros((len(x), *node.delay.shape))
            state = states.setdefault(name, {"shorter": name in shorter})
            sent[name] = respond(node, y, state, *reading)
    return sent


def respond(node, x, state, *reading):
    match node:
        case nir.Input() | nir.Output():
            return x
        case nir.Delay():
            came = state.setdefault("came", [])
            came.append(x)
            steps = np.rint(constant(node.delay, x) / STEP).astype(int) - state["shorter"]
            out = np.zeros_like(x)
            for place in np.ndindex(*x.shape):
                ago = np.broadcast_to(steps, x.shape)[place]
                out[place] = came[-1 - ago][place] if ago < len(came) else 0
            return out
        case nir.Affine() | nir.Linear():
            (inputs,) = x.shape[1:]
            assert node.weight.shape[1] == inputs
            return np.stack([node.weight @ row for row in x]) + getattr(node, "bias", 0)
        case nir.Scale():
            return x * constant(node.scale, x)
        case nir.Threshold():
            return (x > constant(node.threshold, x)).astype(float)
        case nir.Conv1d():
            return convolved(x[:, :, None], node, node.weight[:, :, None], 1)[:, :, 0]
        case nir.Conv2d():
            return convolved(x, node, node.weight, 2)
        case nir.SumPool2d():
            return pooled(x, node)
        case nir.AvgPool2d():
            return pooled(x, node) / np.prod(pair(node.kernel_size))
        case nir.Flatten():
            if node.end_dim == -1 and node.start_dim in (0, 1):
                return x.reshape(len(x), -1)
            declared = [int(n) for n in node.input_type["input"]]
            whole = [len(x), *x.shape[1:]] if len(declared) == x.ndim else list(x.shape[1:])
            first, last = (int(n) % len(whole) for n in (node.start_dim, node.end_dim))
            merged = [*whole[:first], int(np.prod(whole[first : last + 1])), *whole[last + 1 :]]
            return x.reshape(merged if len(declared) == x.ndim else [len(x), *merged])
    return neurons(node, x, state, *reading)


def constant(value, x):
    value = np.asarray(value, np.float64)
    if value.shape in ((), (1,)):
        return value.reshape(())
    assert value.ndim == x.ndim - 1 and all(a in (1, b) for a, b in zip(value.shape, x.shape[1:], strict=True))
    return value[None]


def neurons(node, x, state, after_spike, current, unit):
    field = {name: constant(value, x) for name, value in vars(node).items() if name in FIELDS and value is not None}
    v = state.get("v", np.zeros_like(x))
    if "tau_syn" in field:
        i = state.get("i", np.zeros_like(x))
        state["i"] = i + STEP / field["tau_syn"] * (field["w_in"] * x - i)
        x = i if current == "last" else state["i"]
    tau = field.get("tau", field.get("tau_mem"))
    if tau is None:
        v = v + field["r"] * unit * x
    else:
        v = v + STEP / tau * (field["v_leak"] - v) + STEP / tau * field["r"] * x
    if "v_threshold" not in field:
        state["v"] = v
        return v
    fired = v > field["v_threshold"]
    after = v - (field["v_threshold"] - field["v_reset"]) if after_spike == "subtract" else field["v_reset"] + 0 * v
    state["v"] = np.where(fired, after, v)
    return fired.astype(float)


FIELDS = ("tau", "tau_mem", "tau_syn", "r", "v_leak", "v_threshold", "v_reset", "w_in")


def pair(value):
    first, second = np.broadcast_to(np.asarray(value).reshape(-1), 2)
    return int(first), int(second)


def padded(x, before, after):
    return np.pad(x, [(0, 0), (0, 0), *zip(before, after, strict=True)])


def convolved(x, node, weight, axes):
    """x (N, C, H, W); a one-dimensional convolution is one with H = 1."""
    kernel = weight.shape[2:]

    def sides(value, rest):
        return pair(value) if axes == 2 else (rest, int(np.asarray(value).reshape(-1)[0]))

    stride, dilation = sides(node.stride, 1), sides(node.dilation, 1)
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if isinstance(node.padding, str):
        before = [r // 2 if node.padding == "same" else 0 for r in reach]
        after = [r - b if node.padding == "same" else 0 for r, b in zip(reach, before, strict=True)]
    else:
        before = after = sides(node.padding, 0)
    x = padded(x, before, after)
    height, width = ((n - r - 1) // s + 1 for n, r, s in zip(x.shape[2:], reach, stride, strict=True))
    groups = int(np.asarray(node.groups).item())
    inputs, outputs = x.shape[1] // groups, len(weight) // groups
    y = np.zeros((len(x), len(weight), height, width))
    for g, (i, j) in itertools.product(range(groups), np.ndindex(*kernel)):
        rows = slice(i * dilation[0], i * dilation[0] + stride[0] * (height - 1) + 1, stride[0])
        columns = slice(j * dilation[1], j * dilation[1] + stride[1] * (width - 1) + 1, stride[1])
        seen = x[:, g * inputs : (g + 1) * inputs, rows, columns]
        own = slice(g * outputs, (g + 1) * outputs)
        y[:, own] += np.einsum("oc,nchw->nohw", np.asarray(weight, np.float64)[own, :, i, j], seen)
    return y + np.asarray(node.bias, np.float64)[:, None, None]


def pooled(x, node):
    kernel, stride, padding = pair(node.kernel_size), pair(node.stride), pair(node.padding)
    x = padded(x, padding, padding)
    height, width = ((n - k) // s + 1 for n, k, s in zip(x.shape[2:], kernel, stride, strict=True))
    y = np.zeros((*x.shape[:2], height, width))
    for i, j in np.ndindex(height, width):
        window = x[:, :, i * stride[0] : i * stride[0] + kernel[0], j * stride[1] : j * stride[1] + kernel[1]]
        y[:, :, i, j] = window.sum((2, 3))
    return y
