"""What an Akida chip takes: kernels, strides, poolings, bits and registers, from a TOML file."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Annotated, Any

from pascal_nm.errors import FileError
from pascal_nm.hw_targets import tables
from pascal_nm.hw_targets.chip import Figure, Static
from pascal_nm.hw_targets.tables import Within

Side = Annotated[int, Within(1, 1 << 16)]
"""Of a kernel, a stride, a window or an image; and numbers of channels."""

Bits = Annotated[int, Within(1, 32)]
"""Of a register."""


@dataclass(frozen=True)
class Registers:
    """Of a kind of layer.

    Attributes:
        weight_bits: that a weight may have. One bit holds 0 and 1, more are signed, and all but
            eight of them are symmetric around 0.
        potential_bits: signed, of thresholds in version 1, for which no width of the potential is
            published, and of sums in version 2.
        step_bits: of version 1: of ``act_step`` in sixteenths, unsigned.
    """

    weight_bits: tuple[Bits, ...]
    potential_bits: Bits
    step_bits: Bits = 32

    def weights(self, bits: int) -> tuple[int, int]:
        """The least and the largest weight of so many bits."""
        if bits == 1:
            return 0, 1
        most = 2 ** (bits - 1) - 1
        return (-most - 1 if bits == 8 else -most), most

    def potential(self) -> int:
        """The largest magnitude of a potential."""
        return int(2 ** (self.potential_bits - 1) - 1)


@dataclass(frozen=True)
class Image:
    """The convolution that takes pixels of 8 bits.

    Attributes:
        channels: of images.
        least: side of an image, the borders that the host adds among them; and it is one pixel
            larger than the kernel.
        width: of an image at most, likewise.
        kernels: square.
        strides: between windows.
        pools: sides of a max-pooling, which are its strides, too; 1 for none.
        filters: at most, by channels and by kernels.
        registers: their widths.
    """

    channels: tuple[Side, ...]
    least: Side
    width: Side
    kernels: tuple[Side, ...]
    strides: tuple[Side, ...]
    pools: tuple[Side, ...]
    filters: tuple[tuple[Side, ...], ...]
    registers: Registers


@dataclass(frozen=True)
class Convolution:
    """A convolution of counts, which pads by itself, as much before as behind, or one more behind.

    Attributes:
        kernels: square.
        strided: those that may go two pixels at a time.
        pools: sides of a max-pooling; its stride is no larger.
        registers: their widths.
        upper: of those that go two pixels at a time, there may be one zero more before than behind.
        input_shift: by so many bits at most inputs are shifted up, each by its own number.
        joined: it takes the counts of several layers, their channels behind each other.
    """

    kernels: tuple[Side, ...]
    strided: tuple[Side, ...]
    pools: tuple[Side, ...]
    registers: Registers
    upper: bool = False
    input_shift: Annotated[int, Within(0, 31)] = 0
    joined: bool = False


@dataclass(frozen=True)
class Dense:
    """A layer that takes all counts of the one before it.

    Attributes:
        inputs: at most.
        registers: their widths.
    """

    inputs: Annotated[int, Within(1, 1 << 24)]
    registers: Registers


@dataclass(frozen=True)
class Device:
    """A chip; the fields are the keys of its file.

    Attributes:
        name: of the chip.
        device: the vendor's description of it, by its name in ``akida``.
        version: of Akida.
        activation_bits: that a count may have; in version 2 with a sign, and any number of levels.
        source: where the limits are published.
        image: the first layer.
        convolution: the layers behind it.
        dense: likewise, and the output.
        static: power that the chip's board draws whatever runs; None where it is not known.
        multiply_accumulate: dynamic energy of one, those with a count of 0 among them; None where
            it is not known.
    """

    name: str
    device: str
    version: Annotated[int, Within(1, 2)]
    activation_bits: tuple[Bits, ...]
    source: str
    image: Image
    convolution: Convolution
    dense: Dense
    static: Static | None = None
    multiply_accumulate: Figure | None = None

    @property
    def levels(self) -> tuple[int, ...]:
        """L that its neurons may have."""
        if self.version == 1:
            return tuple(2**bits - 1 for bits in self.activation_bits)
        return tuple(range(1, 2 ** (max(self.activation_bits) - 1)))


def available() -> list[str]:
    """Names of the chips that come with the package."""
    return sorted(f.name.removesuffix(".toml") for f in _folder().iterdir() if f.name.endswith(".toml"))


def load(name: str) -> Device:
    """A chip by its name.

    Raises:
        FileError: there is no such chip.
    """
    if name not in available():
        raise FileError(f"unknown Akida chip {name!r}: choose from {', '.join(available())}")
    return tables.parse(Device, _folder().joinpath(f"{name}.toml").read_bytes())


def named(name: str) -> Device:
    """A chip by the name that it has itself.

    Raises:
        FileError: there is no such chip.
    """
    for each in available():
        if (known := load(each)).name == name:
            return known
    raise FileError(f"unknown Akida chip {name!r}")


def _folder() -> Any:
    return resources.files("pascal_nm.hw_targets.akida")
