"""What all ProcessModels of this package share: torch in a child process, and a lean input port."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pascal_nm.graph import Array
from pascal_nm.process_models.compat import PyInPortVectorDense, PyLoihiProcessModel


class Model(PyLoihiProcessModel):
    """A ProcessModel that computes with torch on one thread; parameters come from ``proc_params``.

    One thread: a forked child does not have the threads of torch's pool, and would wait for them for ever.
    """

    def __init__(self, proc_params: Any = None) -> None:
        super().__init__(proc_params)
        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        self.timing = proc_params["timing"]

    def run_spk(self) -> None:
        """Lava's entry: timestep t = time_step - 1."""
        self.run_step(self.time_step - 1)

    def run_step(self, t: int) -> None:
        """What the model does in timestep ``t``, counted from 0."""
        raise NotImplementedError


class SumPort(PyInPortVectorDense):
    """Lava's dense input port, which adds up the frames of all connections, without two of its copies."""

    def recv(self) -> Array:
        """The sum of the frames, of shape (B, *shape), as an array that the caller may change."""
        if not self.csp_ports:
            return np.asarray(super().recv())
        first, *rest = self.csp_ports
        total: Array = self._transformer.transform(first.recv(), first)
        for port in rest:
            total = total + self._transformer.transform(port.recv(), port)
        return total
