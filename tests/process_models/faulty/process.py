"""A Process whose model misbehaves in a chosen timestep."""

from pascal_nm.process_models.compat import AbstractProcess, OutPort


class Faulty(AbstractProcess):
    def __init__(self, *, step: int, how: str, name: str = "faulty") -> None:
        super().__init__(step=step, how=how, name=name)
        self.s_out = OutPort(shape=(1, 2))
