"""Random NIR graphs of every kind of node, as other tools might write them, that take an image of
the bundled digits.
"""

import nir
import numpy as np


def random_graph(rng, depth=0, shape=None, flat=True, recurrent=False):
    """A chain with branches, each node fitting what reaches it; perhaps with edges back."""
    start = shape or ((1, 8, 8) if rng.random() < 0.7 else (64,))
    nodes = {"input": nir.Input({"input": np.array(start)})}
    edges, shapes = [], {"input": start}

    def add(node, sources, sent):
        name = f"{type(node).__name__.lower()}_{len(nodes)}"
        nodes[name] = node
        edges.extend((source, name) for source in sources)
        shapes[name] = sent
        return name

    last = "input"
    for _ in range(rng.integers(2, 7)):
        at = shapes[last]
        alike = [name for name, other in shapes.items() if other == at and name != last]
        sources = [last, *(rng.choice(alike, 1) if alike and rng.random() < 0.3 else [])]
        node, sent = _node(rng, at, depth, recurrent)
        last = add(node, [str(source) for source in sources], sent)
    arriving = {b: shapes[a] for a, b in edges}
    for target, wanted in arriving.items() if recurrent else ():
        back = [name for name in nodes if shapes[name] == wanted and name != "input" and (name, target) not in edges]
        if back and rng.random() < 0.6:
            edges.append((str(rng.choice(back)), target))
    if flat:
        if len(shapes[last]) > 1:
            count = int(np.prod(shapes[last]))
            last = add(nir.Flatten({"input": np.array(shapes[last])}, 0, -1), [last], (count,))
        (count,) = shapes[last]
        last = add(nir.Affine(_weight(rng, 10, count), _weight(rng, 10)), [last], (10,))
    nodes["output"] = nir.Output({"output": np.array(shapes[last])})
    edges.append((last, "output"))
    return nir.NIRGraph(nodes, edges, type_check=False)


def _weight(rng, *shape):
    return rng.normal(0, 1.5 / max(1, np.prod(shape[1:])) ** 0.5, shape).astype(rng.choice(["f4", "f8"]))


def _node(rng, at, depth, recurrent=False):
    kinds = ["delay", "if", "lif", "li", "i", "cuba", "cubali", "scale", "threshold"]
    kinds += ["conv2d", "conv2d", "sum", "avg", "flatten"] if len(at) == 3 else []
    kinds += ["affine", "linear"] if len(at) == 1 else []
    kinds += ["conv1d"] if len(at) == 2 else []
    kinds += ["graph"] if depth == 0 else []
    kind = rng.choice(kinds)

    def each(low, high):
        return rng.uniform(low, high, at)

    match kind:
        case "if":
            return nir.IF(each(0.5, 1), each(0.2, 1), each(-0.1, 0.1)), at
        case "delay":
            return nir.Delay(1e-4 * rng.integers(int(rng.integers(0, 2)), 4, at)), at
        case "i":
            return nir.I(each(0.5, 1)), at
        case "lif":
            return nir.LIF(each(2e-4, 2e-3), each(1, 9), each(-0.1, 0.1), each(0.2, 1), each(-0.1, 0.1)), at
        case "li":
            return nir.LI(each(2e-4, 2e-3), each(1, 4), each(-0.1, 0.1)), at
        case "cuba":
            fields = (each(2e-4, 1e-3), each(2e-4, 1e-3), each(1, 9), each(-0.1, 0.1), each(0.2, 1))
            return nir.CubaLIF(*fields, each(-0.1, 0.1), each(0.5, 2)), at
        case "cubali":
            return nir.CubaLI(each(2e-4, 1e-3), each(2e-4, 1e-3), each(1, 4), each(-0.1, 0.1), each(0.5, 2)), at
        case "scale":
            return nir.Scale(each(-1.5, 1.5)), at
        case "threshold":
            return nir.Threshold(each(-0.5, 0.5)), at
        case "affine" | "linear":
            outputs = int(rng.integers(1, 24))
            weight = _weight(rng, outputs, at[0])
            return nir.Linear(weight) if kind == "linear" else nir.Affine(weight, _weight(rng, outputs)), (outputs,)
        case "sum" | "avg":
            kernel = np.minimum(rng.integers(1, 4, 2), at[1:])
            stride, padding = rng.integers(1, 4, 2), np.minimum(rng.integers(0, 2, 2), kernel // 2)
            sides = (np.array(at[1:]) + 2 * padding - kernel) // stride + 1
            make = nir.SumPool2d if kind == "sum" else nir.AvgPool2d
            return make(kernel, stride, padding), (at[0], *map(int, sides))
        case "flatten":
            if rng.random() < 0.4:
                return nir.Flatten({"input": np.array(at)}, 1, 2), (at[0], at[1] * at[2])
            return nir.Flatten({"input": np.array(at)}, int(rng.integers(0, 2)), -1), (int(np.prod(at)),)
        case "graph":
            inner = random_graph(rng, 1, at, flat=False, recurrent=recurrent)
            return inner, tuple(int(n) for n in inner.nodes["output"].output_type["output"])
    return _convolution(rng, at)


def _convolution(rng, at):
    axes = len(at) - 1
    groups = int(rng.choice([g for g in (1, 2, 3) if at[0] % g == 0]))
    outputs = groups * int(rng.integers(1, 4))
    kernel, dilation, stride = (rng.integers(1, most, axes) for most in (4, 3, 3))
    reach = dilation * (kernel - 1)
    padding = np.minimum(rng.integers(0, 3, axes), reach + 1)
    short = np.array(at[1:]) + 2 * padding - reach < 1
    kernel, reach = np.where(short, 1, kernel), np.where(short, 0, reach)
    padding = np.minimum(padding, reach + 1)
    sides = (np.array(at[1:]) + 2 * padding - reach - 1) // stride + 1
    if rng.random() < 0.2:
        padding, sides, stride = "same", np.array(at[1:]), np.ones(axes, int)
    weight, bias = _weight(rng, outputs, at[0] // groups, *kernel), _weight(rng, outputs)
    if axes == 1:
        numbers = [int(n[0]) for n in (stride, dilation)]
        padding = padding if isinstance(padding, str) else int(padding[0])
        return nir.Conv1d(at[1], weight, numbers[0], padding, numbers[1], groups, bias), (outputs, int(sides[0]))
    form = padding if isinstance(padding, str) else tuple(map(int, padding))
    return (
        nir.Conv2d(at[1:], weight, tuple(map(int, stride)), form, tuple(map(int, dilation)), groups, bias),
        (outputs, *map(int, sides)),
    )
