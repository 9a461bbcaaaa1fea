"""An integer network as one C99 file that depends on nothing.

It is a second writing of what the simulator runs: weights are arrays, a neuron is a function for
each of its stages (:mod:`pascal_nm.neuron`), and the schedule is a loop over timesteps in which
populations hear, step and send. Spikes travel as lists of events, a neuron's number and a value
each. Whoever builds the network in hardware can read it beside the paper, and compare with it: it
reads the integer currents of images and prints every count and every potential.

:func:`source` writes the program, :func:`check_text` what it reads, and :func:`parse` takes back
what it prints. What a spike does behind an operator is in :mod:`pascal_nm.export.c_synapses`.

Inside the program a neuron at (c, y, x) of a population (C, H, W) has the number
``(y * W + x) * C + c``: the channels of a pixel are neighbours, so that a spike adds to neighbours
in memory. All that is read and printed is in the order (C, H, W).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.errors import ConversionError, DataError, GraphError
from pascal_nm.export import c_text as c
from pascal_nm.export.c_synapses import pooling, synapses
from pascal_nm.network import bounds
from pascal_nm.network.dynamics import Dynamics
from pascal_nm.network.graph import Graph, Population, Projection
from pascal_nm.network.reach import volume
from pascal_nm.neuron import LISTENING, SENDING, Stage
from pascal_nm.simulation import schedule
from pascal_nm.simulation.schedule import Schedule

MOST_NUMBERS = 1 << 24
"""Numbers in the arrays of a program, at most: with these a compiler takes some 2 GB."""

_ROW = 24
"""Numbers of an array in a line."""

_NUMBERS = (("int32_t", 2**30), ("int64_t", 2**62))
"""Types of potentials, and below what they stay.

A potential and what comes to it in a timestep are below the bound each, so that one bit more holds
their sum."""


# -- what a program is -----------------------------------------------------------------------------


def source(graph: Graph, plan: Schedule | None = None) -> str:
    """The C text of an integer network.

    Args:
        graph: the network.
        plan: its schedule; its own where it is None.

    Raises:
        ConversionError: the network has no such form: its numbers are floats, state is kept from
            frame to frame, neurons have steps of their own, or it is too large.
        GraphError: potentials would need more than 64 bits.
    """
    plan = plan or schedule.of(graph)
    if not graph.is_integer:
        raise ConversionError("a float network has no reference in C: quantize it first (pascal-nm quantize)")
    if plan.kept:
        raise ConversionError("the reference in C runs images from rest: give it a schedule that keeps no state")
    return "\n".join([*_Program(graph, plan).lines(), ""])


def source_or_reason(graph: Graph, plan: Schedule | None = None) -> str:
    """As :func:`source`; of a network that has no program, a text that says why to a compiler."""
    try:
        return source(graph, plan)
    except (ConversionError, GraphError) as error:
        return f'#error "{str(error).translate({34: None, 92: None, 10: 32})}"\n'


def check_text(inputs: Array) -> str:
    """Integer inputs (N, *input shape), as ``check.npz`` has them, as a program reads them.

    Raises:
        DataError: they are no whole numbers.
    """
    if inputs.dtype.kind not in "iu":
        raise DataError(f"a reference in C reads whole numbers, not {inputs.dtype}: give it the integer currents")
    return "".join(f"{' '.join(map(str, image))}\n" for image in inputs.reshape(len(inputs), -1).tolist())


def parse(text: str, graph: Graph) -> dict[str, Array]:
    """What a program printed: ``count_NAME`` (N, *shape) and ``potential`` (N, outputs), int64.

    Raises:
        DataError: no program of this network printed it.
    """
    shapes = {f"count_{p.name}": p.shape for p in graph.counted}
    shapes["potential"] = (sum(p.size for p in graph.outputs),)
    found: dict[str, list[list[int]]] = {name: [] for name in shapes}
    images = 0
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        name = f"count_{rest.pop(0)}" if word == "count" and rest else word
        try:
            numbers = [int(x) for x in rest]
        except ValueError:
            raise DataError(f"a reference in C prints whole numbers, not {line[:60]!r}") from None
        if name in shapes and len(numbers) == math.prod(shapes[name]):
            found[name].append(numbers)
        elif name != "class" and (name, numbers) != ("image", [images]):
            raise DataError(f"no reference in C of this network prints {line[:60]!r}")
        images += name == "image"
    if any(len(rows) != images for rows in found.values()):
        raise DataError(f"what was printed is not whole: some lines of {images} image(s) are missing")
    return {name: np.asarray(found[name], np.int64).reshape(images, *shapes[name]) for name in shapes}


_ARGUMENTS = {
    Stage.ACCUMULATE: "&{v}[i], {x}[i]",
    Stage.INTEGRATE: "&{v}[i], &{s}[i], {x}[i], {theta}",
    Stage.CORRECT: "&{v}[i], &{s}[i], {theta}",
    Stage.ENCODE: "&{v}[i], &{s}[i], {x}[i], {theta}, {levels}",
    Stage.EMIT: "&{s}[i]",
    Stage.STREAM: "&{v}[i], &{s}[i], {x}[i], {theta}, {levels}",
    Stage.CHANGE: "&{v}[i], &{s}[i], {x}[i], {theta}, {levels}",
}


class _Program:
    """The text of one network under one schedule."""

    def __init__(self, graph: Graph, plan: Schedule) -> None:
        self.graph, self.plan = graph, plan
        self.number = _number_type(graph)
        self.used: set[str] = set()
        self.left = MOST_NUMBERS
        plain = all(p.name.isascii() for p in graph.populations)
        self.names = {p.name: p.name if plain else f"p{i}" for i, p in enumerate(graph.populations)}

    def lines(self) -> Iterator[str]:
        """All of it."""
        body = [line for p in self.graph.populations for line in ("", *self._population(p))]
        yield from _about(self.graph, self.plan)
        yield from ("", *(f"#include <{name}.h>" for name in ("stdint", "stdio", "string")), "")
        yield "/* No potential, current or sum in this network needs more bits. */"
        yield f"typedef {self.number} number;"
        yield from ("", *c.SPIKES.splitlines())
        yield from self._functions()
        yield from body
        yield from ("", *self._clock(), "", *_reading(self.graph, self.names[self.graph.input.name]))
        yield from ("", *self._printing(), "", *c.MAIN.splitlines())

    def _functions(self) -> Iterator[str]:
        for name in list(self.used):
            self.used.update(c.NEEDS.get(name, ()))
        stages = {stage.value: text for stage, text in c.STAGES.items()}
        for name, text in {**c.HELPERS, **stages}.items():
            if name in self.used:
                yield from ("", *text.splitlines())

    def _use(self, name: str) -> str:
        self.used.add(name)
        return name

    def _name(self, projection: Projection) -> str:
        ends = f"{self.names[projection.source]}__{self.names[projection.target]}"
        return ends + (f"__{projection.number}" if projection.number else "")

    def _table(self, name: str, values: Array, kind: str | None = None) -> list[str]:
        """An array of constants, in the type that holds them, or another."""
        flat = np.asarray(values).reshape(-1)
        self.left -= flat.size
        if self.left < 0:
            raise ConversionError(
                f"the network has more than the {MOST_NUMBERS:,} weights and other constants of a reference in C"
            )
        numbers = list(map(str, flat.tolist()))
        rows = [", ".join(numbers[k : k + _ROW]) for k in range(0, len(numbers), _ROW)]
        return [
            f"static const {kind or c.type_of(flat)} {name}[{flat.size}] = {{",
            *(f"    {row}," for row in rows[:-1]),
            f"    {rows[-1]}",
            "};",
        ]

    # -- populations -------------------------------------------------------------------------------

    def _population(self, p: Population) -> Iterator[str]:
        name, window = self.names[p.name], self.plan.windows[p.name]
        stages = ", ".join(f"{span.stage.value} {span.start}-{span.stop - 1}" for span in window.spans)
        levels = f", {p.levels} levels" if p.dynamics.fires else ""
        heading = f"{name}: {p.kind}, {c.by(p.shape)}{levels}, timesteps: {stages}"
        yield f"/* ---- {heading} {'-' * max(0, 90 - len(heading))} */"
        yield ""
        incoming = self.graph.incoming(p.name)
        if p.dynamics.weighted:
            for q in incoming:
                yield from self._projection(q)
        if p.dynamics.sends or p.dynamics.injects:
            yield from c.train(f"{name}_sent", p.size, self._depth(p))
        if p.dynamics.injects:
            yield from self._injecting(p, name)
        elif p.dynamics.reads_out:
            yield from self._reading_out(p, name)
        elif p.dynamics.adds:
            yield from self._adding(p, name)
        elif p.dynamics.relays:
            yield from self._relaying(p, name)
        else:
            yield from self._firing(p, name)

    def _projection(self, q: Projection) -> Iterator[str]:
        name, shape = self._name(q), self.graph[q.source].shape
        target = self.graph[q.target].shape
        found = synapses(q.operator, q.pooled(shape), target)
        for word, values in found.tables.items():
            yield from self._table(f"{name}_{word}", values)
        if q.pool is not None:
            yield from pooling(q.pool, shape, name)
        lines = list(found.lines)
        for word in found.tables:
            lines = [line.replace(f"${word}", f"{name}_{word}") for line in lines]
        yield ""
        yield f"/* What spikes of {self.names[q.source]} bring: {q.operator}."
        yield f"   {found.order} */"
        yield f"static void {name}_bring(const struct train *in, number *restrict current)"
        yield from c.body(
            *([f"in = {name}_pool(in);"] if q.pool is not None else []),
            *c.block(
                "for (int e = 0; e < in->n; e++)",
                "const int neuron = in->spikes[e].neuron;",
                "const number value = in->spikes[e].value;",
                "",
                *lines,
            ),
        )
        yield ""

    def _depth(self, p: Population) -> int:
        """Timesteps for which what a population sends is still heard, the present one included."""
        return 1 + max((self.plan.way(q) for q in self.graph.outgoing(p.name)), default=0)

    def _out(self, p: Population) -> list[str]:
        depth = self._depth(p)
        slot = f"t % {depth}" if depth > 1 else "0"
        return [f"struct train *out = &{self.names[p.name]}_sent[{slot}];"]

    def _ins(self, p: Population) -> list[str]:
        """What arrives, from each projection."""
        lines = []
        for k, q in enumerate(self.graph.incoming(p.name)):
            depth, way = self._depth(self.graph[q.source]), self.plan.way(q)
            slot = f"(t + {depth - way}) % {depth}" if depth > 1 else "0"
            lines.append(f"const struct train *in{k} = &{self.names[q.source]}_sent[{slot}];")
        return lines

    def _silence(self, p: Population) -> str:
        return " && ".join(f"in{k}->n == 0" for k in range(len(self.graph.incoming(p.name))))

    def _brought(self, p: Population, current: str) -> list[str]:
        return [f"{self._name(q)}_bring(in{k}, {current});" for k, q in enumerate(self.graph.incoming(p.name))]

    def _still(self, p: Population) -> list[str]:
        """Before an image nothing has been sent."""
        return [f"for (int d = 0; d < {self._depth(p)}; d++)", f"    {self.names[p.name]}_sent[d].n = 0;"]

    def _injecting(self, p: Population, name: str) -> Iterator[str]:
        yield f"static number {name}_value[{p.size}];"
        yield ""
        yield f"static void {name}_rest(void)"
        yield from c.body(*self._still(p))
        yield ""
        yield f"static void {name}_step(int t)"
        yield from c.body(
            *self._out(p),
            "",
            "out->n = 0;",
            f"if (t == {self.plan.windows[p.name].emit.start})",
            f"    for (int i = 0; i < {p.size}; i++)",
            f"        if ({name}_value[i] != 0)",
            f"            send(out, i, {name}_value[i]);",
        )

    def _reading_out(self, p: Population, name: str) -> Iterator[str]:
        bias = c.in_turn(p.bias, p.shape)
        yield from self._table(f"{name}_bias", bias, "int32_t")
        yield f"static number {name}_v[{p.size}];"
        yield ""
        yield f"static void {name}_rest(void)"
        yield from c.body(
            f"for (int i = 0; i < {p.size}; i++)",
            f"    {name}_v[i] = {name}_bias[{c.turn('i', bias, p.shape)}];",
        )
        yield ""
        yield "/* Adds up all that arrives, and never fires. */"
        yield f"static void {name}_step(int t)"
        yield from c.body(*self._ins(p), "", *self._untimed(p), *self._brought(p, f"{name}_v"))

    def _untimed(self, p: Population) -> list[str]:
        """A line that uses the timestep where nothing else does."""
        used = any("t +" in line for line in self._ins(p))
        return [] if used else ["(void)t;"]

    def _adding(self, p: Population, name: str) -> Iterator[str]:
        yield f"static number {name}_current[{p.size}];"
        yield ""
        yield f"static void {name}_rest(void)"
        yield from c.body(*self._still(p))
        yield ""
        yield "/* Sends what arrives, added up, in the same timestep. */"
        yield f"static void {name}_step(int t)"
        out = self._out(p)
        yield from c.body(
            *out,
            *self._ins(p),
            "",
            *([] if "t %" in out[0] else self._untimed(p)),
            "out->n = 0;",
            f"if ({self._silence(p)})",
            "    return;",
            f"memset({name}_current, 0, sizeof {name}_current);",
            *self._brought(p, f"{name}_current"),
            f"for (int i = 0; i < {p.size}; i++)",
            f"    if ({name}_current[i] != 0)",
            f"        send(out, i, {name}_current[i]);",
        )

    def _relaying(self, p: Population, name: str) -> Iterator[str]:
        (q,) = self.graph.incoming(p.name)
        heard, pool = self.graph[q.source], q.pool
        if pool is None:
            raise ConversionError(f"population {p.name!r} passes on the largest of a window, and has none")
        signs = c.in_turn(p.dynamics.sign(p), p.shape).astype(np.int64)
        signed = bool(np.any(signs < 0))
        if signed:
            yield from self._table(f"{name}_sign", signs)
        yield f"static number {name}_heard[{heard.size}], {name}_largest[{p.size}], {name}_count[{p.size}];"
        yield ""
        yield f"static void {name}_rest(void)"
        yield from c.body(
            f"memset({name}_heard, 0, sizeof {name}_heard);",
            f"memset({name}_largest, 0, sizeof {name}_largest);",
            f"memset({name}_count, 0, sizeof {name}_count);",
            *self._still(p),
        )
        sign = f"{name}_sign[{c.turn('i', signs, p.shape)}] * " if signed else ""
        channels, height, width = volume(p.shape)
        (rows, columns), (down, across) = heard.shape[1:], pool.stride
        (high, wide), (top, left) = pool.kernel, pool.padding
        value = f"{sign}{name}_heard[(k * {columns} + l) * {channels} + channel]"
        window = [
            "const int i = neuron + channel;",
            f"const int top = {c.offset(c.times('y', down), -top)}, left = {c.offset(c.times('x', across), -left)};",
            "number most = 0;",
            "int met = 0;",
            "",
            *c.block(
                f"for (int k = top < 0 ? 0 : top; k < top + {high} && k < {rows}; k++)",
                *c.block(
                    f"for (int l = left < 0 ? 0 : left; l < left + {wide} && l < {columns}; l++)",
                    f"const number value = {value};",
                    "",
                    "if (!met || value > most)",
                    "    most = value;",
                    "met = 1;",
                ),
            ),
            f"most = {sign}most;" if signed else "",
            *c.block(
                f"if (most != {name}_largest[i])",
                f"send(out, i, most - {name}_largest[i]);",
                f"{name}_count[i] += most - {name}_largest[i];",
                f"{name}_largest[i] = most;",
            ),
        ]
        yield ""
        yield "/* Adds up what each neuron has sent so far, and sends by how much the largest sum of a window has"
        yield f"   changed{' (the smallest, where the sign is -1)' if signed else ''}. */"
        yield f"static void {name}_step(int t)"
        out = self._out(p)
        yield from c.body(
            *out,
            *self._ins(p),
            "int neuron = 0;",
            "",
            *([] if "t %" in out[0] else self._untimed(p)),
            "out->n = 0;",
            "if (in0->n == 0)",
            "    return;",
            "for (int e = 0; e < in0->n; e++)",
            f"    {name}_heard[in0->spikes[e].neuron] += in0->spikes[e].value;",
            *c.block(
                f"for (int y = 0; y < {height}; y++)",
                *c.block(
                    f"for (int x = 0; x < {width}; x++, neuron += {channels})",
                    *c.block(
                        f"for (int channel = 0; channel < {channels}; channel++)", *(line for line in window if line)
                    ),
                ),
            ),
        )

    def _firing(self, p: Population, name: str) -> Iterator[str]:
        if type(p.dynamics).step is not Dynamics.step:
            raise ConversionError(
                f"population {p.name!r}: neurons of kind {p.kind} have steps of their own, which have no form in C"
            )
        window = self.plan.windows[p.name]
        theta, bias = (c.in_turn(values, p.shape) for values in (p.threshold, p.bias))
        yield from self._table(f"{name}_theta", theta, "int32_t")
        yield from self._table(f"{name}_bias", bias, "int32_t")
        words = ", ".join(f"{name}_{word}[{p.size}]" for word in ("v", "s", "current", "count"))
        yield f"static number {words};"
        streams = window.span(Stage.STREAM) is not None
        if streams:
            yield f"static int {name}_quiet;"
        at = f"{name}_theta[{c.turn('i', theta, p.shape)}]"
        rest = f"{self._use('half_of')}({at})" if window.shift is None else "0"
        yield ""
        yield f"static void {name}_rest(void)"
        yield from c.body(
            *c.block(
                f"for (int i = 0; i < {p.size}; i++)", f"{name}_v[i] = {rest};", f"{name}_s[i] = {name}_count[i] = 0;"
            ),
            *([f"{name}_quiet = 0;"] if streams else []),
            *self._still(p),
        )
        yield ""
        yield f"static void {name}_step(int t)"
        branches: list[str] = []
        for span in window.spans:
            head = f"if ({c.during(span.start, span.stop)})"
            found = c.block(head, *self._stage(p, name, span.stage, span.start, span.stop, at))
            branches = [*branches[:-1], f"}} else {found[0]}", *found[1:]] if branches else found
        yield from c.body(*self._out(p), *self._ins(p), "", "out->n = 0;", *branches)

    def _stage(self, p: Population, name: str, stage: Stage, start: int, stop: int, theta: str) -> list[str]:
        """What all neurons of a population do in the timesteps of a stage."""
        window, lines = self.plan.windows[p.name], list[str]()
        if stage is Stage.STREAM:
            # Where nothing comes, and nothing was sent in the last timestep, all stays as it is.
            lines += [f"if (t >= {window.begun} && {name}_quiet && {self._silence(p)})", "    return;"]
        if stage in LISTENING:
            current = f"{name}_current"
            lines.append(f"memset({current}, 0, sizeof {current});")
            given = window.bias
            first, last = max(start, given.start), min(stop, given.stop)
            if first < last:
                arguments = f"{current}, {p.size}, {name}_bias, {c.in_turn(p.bias, p.shape).size}"
                call = f"{self._use('give_share')}({arguments}, t - {given.start}, {given.steps});"
                lines += [call] if (first, last) == (start, stop) else [f"if ({c.during(first, last)})", f"    {call}"]
            if window.shift is not None and start <= window.shift < stop:
                arguments = f"{current}, {p.size}, {name}_theta, {c.in_turn(p.threshold, p.shape).size}"
                lines += [f"if (t == {window.shift})", f"    {self._use('give_half')}({arguments});"]
            lines += self._brought(p, current)
        words = {"v": f"{name}_v", "s": f"{name}_s", "x": f"{name}_current", "theta": theta, "levels": p.levels}
        call = f"{self._use(stage.value)}({_ARGUMENTS[stage].format(**words)})"
        loop = f"for (int i = 0; i < {p.size}; i++)"
        if stage not in SENDING:
            return [*lines, loop, f"    {call};"]
        lines += c.block(
            loop,
            f"const number spike = {call};",
            "",
            *c.block("if (spike != 0)", "send(out, i, spike);", f"{name}_count[i] += spike;"),
        )
        return [*lines, f"{name}_quiet = out->n == 0;"] if stage is Stage.STREAM else lines

    # -- the clock, and what is printed ------------------------------------------------------------

    def _clock(self) -> Iterator[str]:
        names = list(self.names.values())
        yield "/* One image, from rest: all timesteps, and in each of them all populations in their order. */"
        yield "static void run(void)"
        yield from c.body(
            *(f"{name}_rest();" for name in names),
            *c.block(f"for (int t = 0; t < {self.plan.steps}; t++)", *(f"{name}_step(t);" for name in names)),
        )

    def _printing(self) -> Iterator[str]:
        yield from c.PRINTING.splitlines()
        yield ""
        yield from self._answer(self.graph.output)
        yield ""
        yield "static void print_results(int image)"
        lines = ['printf("image %d\\n", image);']
        for p in self.graph.counted:
            lines += [f'printf("count {p.name}");', self._printed(p, "count"), "putchar('\\n');"]
        lines.append('printf("potential");')
        lines += [self._printed(p, "v") for p in self.graph.outputs]
        yield from c.body(*lines, 'printf("\\nclass %d\\n", answer());')

    def _printed(self, p: Population, word: str) -> str:
        channels, *sides = volume(p.shape)
        return f"print_neurons({self.names[p.name]}_{word}, {channels}, {math.prod(sides)});"

    def _answer(self, p: Population) -> Iterator[str]:
        """The class: of the largest output, and of equal ones the first."""
        channels, *sides = volume(p.shape)
        pixels, name = math.prod(sides), self.names[p.name]
        scale = np.broadcast_to(p.threshold, p.shape).reshape(-1).astype(np.float64)
        scaled = bool(np.any(scale != scale[0]))
        if scaled:
            yield "/* The potential of one unit of each output. */"
            yield f"static const double {name}_scale[{p.size}] = {{{', '.join(map(repr, scale.tolist()))}}};"
            yield ""
        place = f"{name}_v[k % {pixels} * {channels} + k / {pixels}]" if pixels > 1 else f"{name}_v[k]"
        kind = "double" if scaled else "number"
        value = f"(double){place} / {name}_scale[k]" if scaled else place
        yield "/* The class of the largest output; of equal ones the first. */"
        yield "static int answer(void)"
        yield from c.body(
            "int best = 0;",
            f"{kind} most = 0;",
            "",
            *c.block(
                f"for (int k = 0; k < {p.size}; k++)",
                f"const {kind} value = {value};",
                "",
                *c.block("if (k == 0 || value > most)", "most = value;", "best = k;"),
            ),
            "return best;",
        )


def _number_type(graph: Graph) -> str:
    """The type in which nothing overflows: potentials, and sums over windows in front of them."""
    largest = float(graph.input.levels)
    for p in graph.populations:
        for q in graph.incoming(p.name):
            largest = max(largest, q.window * graph.largest(q.source, bounds.largest_input))
        if p.dynamics.weighted:
            largest = max(largest, bounds.potential_bound(graph, p.name))
    for kind, most in _NUMBERS:
        if largest < most:
            return kind
    raise GraphError(
        f"potentials can reach {largest:.3g}, beyond the 64 bits of a reference in C: quantize to fewer bits"
    )


def _reading(graph: Graph, name: str) -> Iterator[str]:
    channels, *sides = volume(graph.input.shape)
    pixels, size = math.prod(sides), graph.input.size
    yield f"enum {{ LARGEST_INPUT = {graph.input.levels} }};"
    yield ""
    yield "static int is_space(int c)"
    yield from c.body("return c == ' ' || (c >= '\\t' && c <= '\\r');")
    yield from ("", *c.READING.splitlines(), "")
    yield "/* Reads an image: 1, or 0 where there is none any more, or -1 and says what is wrong. */"
    yield "static int read_image(int image)"
    place = f"k % {pixels} * {channels} + k / {pixels}" if pixels > 1 else "k"
    yield from c.body(
        *c.block(
            f"for (int k = 0; k < {size}; k++)",
            "int64_t x = 0;",
            "const int found = read_number(&x);",
            "",
            "if (found == 0 && k == 0 && !ferror(stdin))",
            "    return 0;",
            *c.block(
                "if (found == 0)",
                f'fprintf(stderr, "image %d ends after %d of its {size} numbers\\n", image, k);',
                "return -1;",
            ),
            *c.block(
                "if (found < 0)",
                'fprintf(stderr, "image %d: number %d is no whole number from %d to %d\\n", image, k, -LARGEST_INPUT,',
                "        LARGEST_INPUT);",
                "return -1;",
            ),
            f"{name}_value[{place}] = (number)x;",
        ),
        "return 1;",
    )


# -- the comment at the top ------------------------------------------------------------------------


def _about(graph: Graph, plan: Schedule) -> list[str]:
    first = graph.output
    text = [
        f"A spiking network in integers: {c.by(graph.input.shape)} inputs, {len(graph.spiking)} spiking layers,",
        f"{sum(p.size for p in graph.outputs)} outputs; at most {plan.steps} timesteps an image.",
        "It computes, bit for bit, the spike counts and potentials of the integer QCFS network.",
        *([f"It stops after {plan.steps} timesteps, whether they are final or not."] if plan.stop is not None else []),
        "",
        "To compile and run it:",
        "",
        "    cc -std=c99 -O2 -o reference reference.c",
        "    ./reference < inputs.txt > results.txt",
        "",
        "It reads whole numbers in decimal, with blanks or ends of lines between them, until there are no more.",
        f"Each {graph.input.size} are an image, in the order (C, H, W) or as a row: the currents that the input",
        f"injects, from {-graph.input.levels} to {graph.input.levels}. Of each image it prints these lines:",
        "",
        "    image I            its number, from 0 on",
        "    count NAME c ...   of each population that counts: what each neuron has sent, added up",
        "    potential v ...    of the outputs",
        f"    class K            the largest of the {first.size} outputs of {first.name}, and of equal ones the first",
        "",
        "It ends with 0, or with 2 and a line on stderr where the input is something else.",
        "",
        *_pixels(graph),
        "",
        "Inside, the neuron at channel c, row y and column x of a population of C x H x W neurons has the number",
        "(y * W + x) * C + c. A weight is found by the neuron that spikes, then by the one that hears it.",
    ]
    if graph.classes:
        text += ["", "Classes:", *(f"    {k}  {name}" for k, name in enumerate(graph.classes))]
    return ["/*", *(f" * {_plain(line)}".rstrip() for line in text), " */"]


def _pixels(graph: Graph) -> Iterable[str]:
    pre, p = graph.preprocessing, graph.input
    unit, offset = (_numbers(np.asarray(x, np.float64).reshape(-1)) for x in (p.threshold, p.bias))
    whole = f"input / ({unit}) + ({offset}), by channel, rounded to a whole number (halves to the even one)."
    if pre is None:
        yield "The current of an input is"
        yield f"    {whole}"
    elif (zero := p.zero(pre)) is not None:
        yield f"Pixels are whole numbers from 0 to {pre.scale:g}. The current of a pixel is the pixel less, by channel,"
        yield f"    {_numbers(zero.reshape(-1))}."
    else:
        mean, std = (_numbers(np.asarray(x)) for x in (pre.mean, pre.std))
        yield "The input of a pixel is, in double precision and then rounded to single,"
        yield f"    (pixel / {pre.scale:g} - ({mean})) / ({std}), by channel,"
        yield "and the current of an input"
        yield f"    {whole}"


def _numbers(values: Array) -> str:
    found = [f"{x!r}".removesuffix(".0") for x in np.asarray(values, np.float64).tolist()]
    return found[0] if len(set(found)) == 1 else " ".join(found)


def _plain(text: str) -> str:
    """Text that cannot end a comment, or be anything but text in one."""
    shown = json.dumps(text)[1:-1].replace('\\"', '"').replace("??", "? ?")
    return shown.replace("*/", "* /").replace("/*", "/ *")
