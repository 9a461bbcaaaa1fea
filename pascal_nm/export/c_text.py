"""Pieces of C: the neuron and all else that every network has, and how lines are put together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pascal_nm.common.arrays import Array, Pair, Shape
from pascal_nm.neuron import Stage

_TYPES = (("int8_t", 2**7), ("int16_t", 2**15), ("int32_t", 2**31), ("int64_t", 2**63))

HELPERS = {
    "floor_div": """\
/* The largest whole number that is not above a / b, for b > 0. (C rounds towards 0.) */
static int64_t floor_div(int64_t a, int64_t b)
{
    return a % b < 0 ? a / b - 1 : a / b;
}
""",
    "level_of": """\
/* Equation 1 in units of spikes: v / theta rounded down, from 0 to the levels. */
static number level_of(number v, number theta, number levels)
{
    const int64_t level = floor_div(v, theta);

    return (number)(level < 0 ? 0 : level > levels ? levels : level);
}
""",
    "half_of": """\
/* The potential before the first input, theta / 2 rounded down: the shift of QCFS. */
static number half_of(number theta)
{
    return theta / 2;
}
""",
    "give_half": """\
/* Adds theta / 2 to the current of each neuron; the given thresholds are those of neurons in turn. */
static void give_half(number *current, int size, const int32_t *theta, int given)
{
    for (int k = 0; k < given; k++)
        for (int i = k; i < size; i += given)
            current[i] += half_of(theta[k]);
}
""",
    "give_share": """\
/* Adds to the current of each neuron its share of the bias in timestep `step` of `steps`. The shares
   differ by at most one, and add up to the bias. The given biases are those of neurons in turn. */
static void give_share(number *current, int size, const int32_t *bias, int given, int64_t step, int64_t steps)
{
    for (int k = 0; k < given; k++) {
        const int64_t quotient = floor_div(bias[k], steps), rest = bias[k] - quotient * steps;
        const int64_t share = quotient + (step + 1) * rest / steps - step * rest / steps;

        for (int i = k; i < size; i += given)
            current[i] += (number)share;
    }
}
""",
}
"""Functions that others need, in their order."""

NEEDS = {
    "give_share": ("floor_div",),
    "give_half": ("half_of",),
    "level_of": ("floor_div",),
    "encode": ("level_of", "floor_div"),
    "change": ("level_of", "floor_div"),
}

STAGES = {
    Stage.ACCUMULATE: """\
/* Adds the current without firing. */
static void accumulate(number *v, number current)
{
    *v += current;
}
""",
    Stage.INTEGRATE: """\
/* Algorithm 1, lines 5 to 8: adds the current; from the threshold on, counts a spike. */
static void integrate(number *v, number *s, number current, number theta)
{
    *v += current;
    if (*v >= theta) {
        *s += 1;
        *v -= theta;
    }
}
""",
    Stage.CORRECT: """\
/* Algorithm 1, lines 11 to 16: counts a spike, or takes one back, until 0 <= v < theta. */
static void correct(number *v, number *s, number theta)
{
    if (*v >= theta) {
        *s += 1;
        *v -= theta;
    } else if (*v < 0) {
        *s -= 1;
        *v += theta;
    }
}
""",
    Stage.ENCODE: """\
/* Algorithm 2, line 3: adds the whole analog input, and takes its level at once. */
static void encode(number *v, number *s, number current, number theta, number levels)
{
    *v += current;
    *s = level_of(*v, theta, levels);
}
""",
    Stage.EMIT: """\
/* Algorithm 1, lines 19 to 21: a spike as long as the counter is positive. */
static number emit(number *s)
{
    if (*s < 1)
        return 0;
    *s -= 1;
    return 1;
}
""",
    Stage.STREAM: """\
/* Adds the current, and sends +1 or takes back one of its spikes by -1, at once. */
static number stream(number *v, number *s, number current, number theta, number levels)
{
    *v += current;
    if (*v >= theta && *s < levels) {
        *s += 1;
        *v -= theta;
        return 1;
    }
    if (*v < 0 && *s > 0) {
        *s -= 1;
        *v += theta;
        return -1;
    }
    return 0;
}
""",
    Stage.CHANGE: """\
/* Adds the current, and sends by how much the level of the whole potential has changed. */
static number change(number *v, number *s, number current, number theta, number levels)
{
    const number before = *s;

    *v += current;
    *s = level_of(*v, theta, levels);
    return *s - before;
}
""",
}
"""The neuron: :mod:`pascal_nm.neuron` in C."""

SPIKES = """\
/* Spikes are events: the number of the neuron that sends, and what the spike carries. That is +1 or
   -1, but for the analog input, sums, and levels that are sent at once. */
struct spike {
    int neuron;
    number value;
};

/* What a population sends in one timestep. */
struct train {
    int n;
    struct spike *spikes;
};

static void send(struct train *out, int neuron, number value)
{
    out->spikes[out->n].neuron = neuron;
    out->spikes[out->n].value = value;
    out->n++;
}
"""

PRINTING = """\
static void print_number(int64_t x)
{
    if (x < 0) {
        putchar('-');
        x = -x;
    }
    if (x >= 10)
        print_number(x / 10);
    putchar('0' + (int)(x % 10));
}

/* Numbers of neurons in the order (C, H, W). */
static void print_neurons(const number *values, int channels, int pixels)
{
    for (int c = 0; c < channels; c++)
        for (int i = 0; i < pixels; i++) {
            putchar(' ');
            print_number(values[i * channels + c]);
        }
}
"""

READING = """\
/* Reads the next whole number: 1, or 0 where there is none any more, or -1 where there is something
   else, or a number that no input has. */
static int read_number(int64_t *x)
{
    int c = getchar(), negative = 0, digits = 0;

    while (is_space(c))
        c = getchar();
    if (c == EOF)
        return 0;
    if (c == '-' || c == '+') {
        negative = c == '-';
        c = getchar();
    }
    for (*x = 0; c >= '0' && c <= '9'; c = getchar()) {
        digits = 1;
        *x = *x * 10 + (c - '0');
        if (*x > LARGEST_INPUT)
            return -1;
    }
    if (negative)
        *x = -*x;
    return digits && (c == EOF || is_space(c)) ? 1 : -1;
}
"""

MAIN = """\
int main(void)
{
    for (int image = 0;; image++) {
        const int found = read_image(image);

        if (found < 0)
            return 2;
        if (found == 0)
            break;
        run();
        print_results(image);
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "the results cannot be written\\n");
        return 2;
    }
    return 0;
}
"""


def train(name: str, size: int, depth: int) -> list[str]:
    """What a population sends, for so many timesteps."""
    slots = ", ".join(f"{{0, {name}_spikes[{d}]}}" for d in range(depth))
    return [
        f"static struct spike {name}_spikes[{depth}][{size}];",
        f"static struct train {name}[{depth}] = {{{slots}}};",
    ]


def places(shape: Shape) -> list[str]:
    """The channel, row and column of ``neuron``."""
    channels, _, width = shape
    return [
        f"const int channel = neuron % {channels}, row = neuron / {channels * width};",
        f"const int column = neuron / {channels} % {width};",
        "",
    ]


def block(head: str, *body: str) -> list[str]:
    """Lines in braces behind a head."""
    return [f"{head} {{", *(f"    {line}" if line else "" for line in body), "}"]


def body(*lines: str) -> list[str]:
    """The lines of a function."""
    return ["{", *(f"    {line}" if line else "" for line in lines), "}"]


def unless(outside: Sequence[str]) -> list[str]:
    """Go on with the next turn of a loop where one of the conditions holds."""
    return [f"if ({' || '.join(outside)})", "    continue;"]


def during(start: int, stop: int) -> str:
    """Whether a timestep is one of a span, start <= t < stop."""
    return f"t == {start}" if stop == start + 1 else f"t >= {start} && t < {stop}"


def times(word: str, factor: int) -> str:
    """A product, without a factor of 1."""
    return word if factor == 1 else f"{word} * {factor}"


def over(word: str, divisor: int) -> str:
    """A quotient, without a divisor of 1."""
    return word if divisor == 1 else f"{word} / {divisor}"


def offset(word: str, number: int, less: str = "", factor: int = 0) -> str:
    """``word + number - less * factor``, without what is 0 or 1."""
    shown = f" {'+' if number > 0 else '-'} {abs(number)}" if number else ""
    taken = f" {'-' if factor > 0 else '+'} {times(less, abs(factor))}" if factor else ""
    return f"{word}{shown}{taken}"


def by(sizes: Shape | Pair) -> str:
    """A shape in words: ``3 x 32 x 32``."""
    return " x ".join(map(str, sizes))


def type_of(values: Array) -> str:
    """The narrowest type that holds all of some integers."""
    largest = int(np.abs(np.asarray(values, np.int64)).max(initial=0))
    return next(kind for kind, most in _TYPES if largest < most)


def order(shape: Shape) -> Array:
    """Neurons in the order of the program, by their numbers in the order (C, H, W)."""
    numbers = np.arange(math.prod(shape)).reshape(shape)
    return numbers.transpose(1, 2, 0).reshape(-1) if len(shape) == 3 else numbers


def in_turn(values: Array, shape: Shape) -> Array:
    """One number for all, for each channel or for each neuron: those of neurons in turn, flat."""
    if values.size == 1 or values.size == values.shape[0] == shape[0]:
        return values.reshape(-1)
    return np.broadcast_to(values, shape).reshape(-1)[order(shape)]


def turn(index: str, values: Array, shape: Shape) -> str:
    """Where the number of a neuron is in an array of :func:`in_turn`."""
    if values.size == math.prod(shape):
        return index
    return "0" if values.size == 1 else f"{index} % {values.size}"
