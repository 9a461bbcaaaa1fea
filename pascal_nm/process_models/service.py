"""A runtime service that lets Processes run ahead of each other.

It is in place of Lava's barrier after every timestep.

Lava's service tells every Process to do one timestep, waits for all answers, and goes on. A network
whose Processes only send and receive frames does not need that: a Process that reads its ports in a
fixed order, and waits where there is nothing to read, computes the same whenever it runs (Kahn, The
semantics of a simple language for parallel programming, IFIP 1974). So each Process gets the number
of timesteps once, and answers once; channels of limited size keep fast ones from running far ahead.
Between two runs all Processes stand in the same timestep, as with Lava's service, and Vars can be
read and written.
"""

from __future__ import annotations

from pascal_nm.process_models.compat import MGMT_COMMAND, MGMT_RESPONSE, LoihiPyRuntimeService, enum_equal, enum_to_np

RUN = enum_to_np(6)
"""The command to a Process; the number of timesteps follows. Lava's own are phases, 1 to 5,
and negative ones."""


class FreeService(LoihiPyRuntimeService):
    """Serves networks whose ProcessModels are all :class:`pascal_nm.process_models.model.Model`."""

    def run(self) -> None:
        """Obey the runtime until it says stop."""
        while True:
            command = self.runtime_to_service.recv()
            if enum_equal(command, MGMT_COMMAND.STOP):
                self._handle_stop()
                return
            if enum_equal(command, MGMT_COMMAND.PAUSE):
                self._handle_pause()
            elif command[0] < 0:
                self._handle_get_set(command)
            else:
                self._run_steps(command)

    def _run_steps(self, steps: object) -> None:
        self._send_pm_cmd(RUN)
        self._send_pm_cmd(steps)
        self._get_pm_resp()
        if not self._error:
            self._send_pm_cmd(self.Phase.HOST)
        self.service_to_runtime.send(MGMT_RESPONSE.ERROR if self._error else MGMT_RESPONSE.DONE)
