"""What can go wrong in a child."""

import os
import signal
import sys
import time
from typing import Any

import numpy as np

from pascal_nm.process_models.compat import (
    CPU,
    LavaPyType,
    LoihiProtocol,
    PyLoihiProcessModel,
    PyOutPort,
    implements,
    requires,
    tag,
)
from tests.process_models.faulty.process import Faulty


class TwoArgumentsError(Exception):
    """Can be pickled, but not read back."""

    def __init__(self, what: str, of: str) -> None:
        super().__init__(f"{what} of {of}")


@implements(proc=Faulty, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class FaultyModel(PyLoihiProcessModel):
    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any = None) -> None:
        super().__init__(proc_params)
        self.step, self.how = proc_params["step"], proc_params["how"]

    def run_spk(self) -> None:
        self.s_out.send(np.zeros((1, 2), np.int32))
        if self.time_step != self.step:
            return
        if self.how == "exit":
            sys.exit(0)
        if self.how == "raise unpicklable":
            raise TwoArgumentsError("the mantissa", "nothing")
        if self.how == "raise":
            raise ZeroDivisionError("the mantissa of nothing")
        if self.how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "hang":
            time.sleep(3600)
