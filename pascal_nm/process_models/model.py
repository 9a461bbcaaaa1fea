"""What all ProcessModels of this package share.

They run torch in a child process, have lean ports, and take timesteps without a barrier.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pascal_nm.common.arrays import Array, Shape
from pascal_nm.errors import TargetError
from pascal_nm.process_models.channel import RecvPort, SendPort
from pascal_nm.process_models.compat import (
    LoihiPyRuntimeService,
    PyInPortVectorDense,
    PyLoihiProcessModel,
    PyOutPortVectorDense,
)
from pascal_nm.process_models.memory import keep_memory
from pascal_nm.process_models.service import RUN
from pascal_nm.process_models.timing import Cycle, Rota


class Model(PyLoihiProcessModel):
    """A ProcessModel that computes with torch on one thread; parameters come from ``proc_params``.

    One thread: a forked child does not have the threads of torch's pool, and would wait
    for them for ever.
    """

    def __init__(self, proc_params: Any = None) -> None:
        super().__init__(proc_params)
        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        self.timing = proc_params["timing"]
        self._cmd_handlers[RUN[0]] = self._run_steps

    def start(self) -> None:
        """Lava's call once the model is built."""
        keep_memory()
        super().start()

    def _set_var(self) -> None:
        """The command to write a Var.

        Its values come row by row, and Lava fills in the order of memory: Vars are brought into
        that of rows first.
        """
        for name in self.var_id_to_var_map.values():
            setattr(self, name, np.ascontiguousarray(getattr(self, name)))
        super()._set_var()

    def _handle_var_port(self, var_port: Any) -> None:
        """A RefPort reads a Var, or writes it in a type of its own: the Var keeps its type."""
        before = getattr(self, var_port.var_name)
        super()._handle_var_port(var_port)
        after = getattr(self, var_port.var_name)
        if after is not before:
            setattr(self, var_port.var_name, after.astype(before.dtype))
            self.on_var_update()

    def run_spk(self) -> None:
        """Lava's entry: timestep t = time_step - 1."""
        self.run_step(self.time_step - 1)

    def run_step(self, t: int) -> None:
        """What the model does in timestep ``t``, counted from 0."""
        raise NotImplementedError

    def _run_steps(self) -> None:
        """The command of :class:`pascal_nm.process_models.service.FreeService`.

        It asks for many timesteps, and gets one answer.
        """
        for _ in range(int(self.service_to_process.recv()[0])):
            self.time_step += 1
            self.run_step(self.time_step - 1)
        self.process_to_service.send(LoihiPyRuntimeService.PMResponse.STATUS_DONE)


def refuse_unheard(arriving: Array | None, t: int, listens: range, cycle: Rota) -> None:
    """Refuse what arrives while nobody listens: it would be lost, and the answer wrong.

    Args:
        arriving: in timestep ``t``; None for nothing.
        t: the timestep.
        listens: timesteps of batch 0 in which the Process listens.
        cycle: how these repeat.

    Raises:
        TargetError: something arrives.
    """
    if arriving is None or not arriving.any():
        return
    first, again = (cycle.first, f" of every {cycle.interval}") if isinstance(cycle, Cycle) else (0, "")
    heard = [f"{step + first}" for step in (listens.start, listens.stop - 1)]
    raise TargetError(
        f"something arrives in timestep {t}, and is heard in {' to '.join(dict.fromkeys(heard))}{again} alone, counted "
        "from 0: send it then, or move the windows (PascNetwork(offset=…) moves those of a network)"
    )


class FramePort(PyOutPortVectorDense):
    """Lava's dense output port, which can also say that nothing is sent."""

    def send(self, data: Array | None) -> None:
        """Send a frame (B, *shape) to all connections; None for zeros."""
        for port in self.csp_ports:
            if data is not None:
                port.send(data)
            elif isinstance(port, SendPort):
                port.send_silence()
            else:
                port.send(np.zeros(self._shape, self._d_type))


class SumPort(PyInPortVectorDense):
    """Lava's dense input port, which adds up the frames of all connections in its own type.

    Where there is one connection, nothing is copied.
    """

    @contextmanager
    def frame(self) -> Iterator[Array | None]:
        """The sum of this timestep's frames (B, *shape), to be read inside the ``with`` block.

        None where all are silent.

        Raises:
            TargetError: numbers arrive that are none of the port's type.
        """
        arrived: list[Array] = []
        for port in self.csp_ports:
            data = port.borrow() if isinstance(port, RecvPort) else port.recv()
            if data is not None:
                arrived.append(whole(self._transformer.transform(data, port), np.dtype(self._d_type)))
        try:
            yield reduce(self._sum, arrived) if arrived else None
        finally:
            for port in self.csp_ports:
                if isinstance(port, RecvPort):
                    port.give_back()

    def _sum(self, a: Array, b: Array) -> Array:
        return np.asarray(np.add(a, b, dtype=np.result_type(a.dtype, b.dtype, np.dtype(self._d_type))))


def whole(data: Array, dtype: np.dtype[Any]) -> Array:
    """Numbers as a port of this type takes them.

    Raises:
        TargetError: it is one of integers, and they have fractions, or more bits.
    """
    if np.can_cast(data.dtype, dtype):
        return data
    limits = np.iinfo(dtype)
    fits = (np.rint(data) == data) & (data >= limits.min) & (data <= limits.max)
    if not fits.all():
        raise TargetError(
            f"{data[~fits][0]} arrives, and a port of integers takes whole numbers of {limits.bits} bits: "
            "send such, or run the network with the tag floating_pt"
        )
    return data.astype(dtype)


class Arithmetic(NamedTuple):
    """What a model computes in: kinds of types of its potential, its tag, and the tag of others."""

    kinds: str
    tag: str
    other: str

    def check(self, process: str, dtype: np.dtype[Any]) -> None:
        """Refuse a type of the potential that is not the model's own.

        Raises:
            TargetError: it is not.
        """
        if dtype.kind not in self.kinds:
            raise TargetError(
                f"{process}: a potential of type {dtype} in a {self.tag} model: run it with the tag {self.other}, or "
                f"make it with dtype={'float32' if self.kinds == 'f' else 'int32'}"
            )


FLOATING = Arithmetic("f", "floating_pt", "fixed_pt")
FIXED = Arithmetic("iu", "fixed_pt", "floating_pt")


def zeros(shape: Shape, dtype: torch.dtype) -> Tensor:
    """Zeros of shape (B, *shape) in the order of a channel's frames.

    Where there are four axes, channels are last in memory.
    """
    form = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    return torch.zeros(shape, dtype=dtype).contiguous(memory_format=form)
