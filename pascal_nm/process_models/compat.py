"""Lava 0.10.0 on Python 3.10 to 3.13 and NumPy 1 and 2: the one place that imports it.

Lava was written for Python 3.10, and its project is archived. Six things stand between it
and today's Python:

- Its metadata refuses Python 3.11, so pip must be told to install it anyway (:data:`_INSTALL`).
- ``lava.magma.compiler.var_model`` uses instances of the dataclass ``ByteEncoder`` as field
  defaults. Since Python 3.11 a default whose class has no ``__hash__`` is refused as mutable;
  :func:`_hashable_byte_encoder` gives it one during the import.
- Lava calls ``multiprocessing.set_start_method("fork")`` at import, which fails where the method
  was chosen before.
- Its ports that reshape name an argument of ``numpy.reshape`` that NumPy 2.4 does not have any
  more; :func:`_to_shape` takes its place.
- Its ``InvSqrt`` in fixed point and its ``Allocator`` take an array of one element for a number,
  which NumPy 2.4 refuses; :func:`_of_numbers` and :func:`_with_a_number` give them the number.
- Its collections of ports and Vars raise an AssertionError for a member that is absent, for which
  ``unittest.mock`` asks since Python 3.13; :func:`_with_absent_members` makes it an AttributeError
  as well.

With these Lava's own tests give on 3.11 to 3.13 what they give on 3.10, with NumPy 1 and 2:
``make test-lava``.

Raises:
    NotInstalledError: at import, where Lava is missing or does not load. The message says
        how to install it.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
import multiprocessing
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from pascal_nm.common.arrays import Array, Shape
from pascal_nm.errors import NotInstalledError, TargetError

_INSTALL = "pip install 'asteval<0.10' scipy networkx && pip install --no-deps --ignore-requires-python lava-nc==0.10.0"
"""What installs Lava on Python 3.10 to 3.13."""


@contextmanager
def _hashable_byte_encoder() -> Iterator[None]:
    original = dataclasses.dataclass

    def dataclass(cls: type | None = None, /, **options: Any) -> Any:
        if cls is None:
            return original(**options)
        made: Any = original(cls, **options)
        if cls.__name__ == "ByteEncoder":
            made.__hash__ = object.__hash__
        return made

    replaced: Any = dataclasses
    replaced.dataclass = dataclass
    try:
        yield
    finally:
        replaced.dataclass = original


@contextmanager
def _start_method_unset() -> Iterator[None]:
    method = multiprocessing.get_start_method(allow_none=True)
    if method not in (None, "fork"):
        raise TargetError(f"Lava needs multiprocessing's start method 'fork', but this program has chosen {method!r}")
    multiprocessing.set_start_method(None, force=True)
    try:
        yield
    finally:
        multiprocessing.set_start_method("fork", force=True)


if TYPE_CHECKING:

    class AbstractProcess:
        """Lava's Process, as far as this package uses it."""

        name: str
        proc_params: Any
        vars: Any
        is_compiled: bool

        def __init__(self, **proc_params: Any) -> None: ...

    class AbstractSubProcessModel:
        """Lava's model of a Process that is made of Processes, as far as this package uses it."""

    class PyLoihiProcessModel:
        """Lava's model of a Process that a CPU runs in timesteps, as far as it is used here."""

        proc_params: Any
        time_step: int
        py_ports: list[Any]
        service_to_process: Any
        process_to_service: Any
        var_id_to_var_map: dict[int, str]
        _cmd_handlers: dict[Any, Callable[[], None]]

        def __init__(self, proc_params: Any = None) -> None: ...
        def _set_var(self) -> None: ...
        def _handle_var_port(self, var_port: Any) -> None: ...

        def on_var_update(self) -> None:
            """What the model does once a Var has been written."""

        def start(self) -> None:
            """Start the ports, and obey the runtime service until it says stop."""

        def run_spk(self) -> None:
            """What the model does in a timestep."""

    class LavaRuntime:
        """Lava's Runtime, as far as this package uses it."""

        def __init__(self, exe: Any, message_infrastructure_type: Any) -> None: ...

        def start(self, run_condition: Any) -> None:
            """Run for as long as the condition says."""

        def get_var(self, *arguments: Any) -> Any:
            """Read a Var."""

        def set_var(self, *arguments: Any) -> None:
            """Write a Var."""

        def __getattr__(self, name: str) -> Any: ...

    class MultiProcessing:
        """Lava's children and channels, as far as this package uses it."""

        actors: list[Any]
        _actors: list[Any]
        _smm: Any

        def build_actor(self, target_fn: Callable[..., None] | None, builder: Any, exception_q: Any = None) -> Any:
            """Start a child."""

    class PyInPortVectorDense:
        """Lava's dense input port, as far as this package uses it."""

        csp_ports: list[Any]
        _transformer: Any
        _shape: tuple[int, ...]
        _d_type: Any

        def recv(self) -> Any:
            """The sum of what all connected ports sent in this timestep."""

    class PyOutPortVectorDense:
        """Lava's dense output port, as far as this package uses it."""

        csp_ports: list[Any]
        _shape: tuple[int, ...]
        _d_type: Any

    class _CspPort:
        _shm: Any
        _shape: tuple[int, ...]
        _dtype: Any
        _size: int
        _idx: int
        _req: Any
        _ack: Any
        _array: Any

        def __init__(self, *arguments: Any) -> None: ...

    class CspSendPort(_CspPort):
        """The sending end of Lava's channel, as far as this package uses it."""

        _semaphore: Any

    class CspRecvPort(_CspPort):
        """The receiving end of Lava's channel, as far as this package uses it."""

        _queue: Any

    class LoihiPyRuntimeService:
        """Lava's service that leads Processes through timesteps, as far as it is used here."""

        runtime_to_service: Any
        service_to_runtime: Any
        service_to_process: list[Any]
        _error: bool
        PMResponse: Any
        Phase: Any

        def _handle_get_set(self, command: Any) -> None: ...
        def _handle_pause(self) -> None: ...
        def _handle_stop(self) -> None: ...
        def _send_pm_cmd(self, phase: Any) -> None: ...
        def _get_pm_resp(self) -> Any: ...

    CPU: Any
    MGMT_COMMAND: Any
    CspSelector: Any
    NoOPWatchdog: Any
    Proto: Any
    Semaphore: Any
    MGMT_RESPONSE: Any
    Compiler: Any
    InPort: Any
    LavaPyType: Any
    Loihi2SimCfg: Any
    LoihiProtocol: Any
    OutPort: Any
    ProcessServer: Any
    PyInPort: Any
    PyOutPort: Any
    RunSteps: Any
    Var: Any
    VarServer: Any

    def enum_to_np(value: int) -> Any:
        """A token of Lava's management channels."""

    def enum_equal(a: Any, b: Any) -> bool:
        """Whether two tokens of Lava's management channels are the same."""

    def implements(*, proc: type, protocol: Any) -> Callable[[type], type]:
        """Declare what Process a model implements."""

    def requires(*resources: Any) -> Callable[[type], type]:
        """Declare what a model runs on."""

    def tag(*tags: str) -> Callable[[type], type]:
        """Declare the tags by which a run configuration selects a model."""

else:
    try:
        with _start_method_unset():
            with _hashable_byte_encoder():
                importlib.import_module("lava.magma.compiler.var_model")
            from multiprocessing import Semaphore

            from lava.magma.compiler.channels.pypychannel import CspRecvPort, CspSelector, CspSendPort, Proto
            from lava.magma.compiler.channels.watchdog import NoOPWatchdog
            from lava.magma.compiler.compiler import Compiler
            from lava.magma.compiler.compiler_graphs import ProcGroupDiGraphs
            from lava.magma.core.decorator import implements, requires, tag
            from lava.magma.core.model.py.model import PyLoihiProcessModel
            from lava.magma.core.model.py.ports import PyInPort, PyInPortVectorDense, PyOutPort, PyOutPortVectorDense
            from lava.magma.core.model.py.type import LavaPyType
            from lava.magma.core.model.sub.model import AbstractSubProcessModel
            from lava.magma.core.process.ports.ports import InPort, OutPort, ReshapePort
            from lava.magma.core.process.process import AbstractProcess, Collection, ProcessServer
            from lava.magma.core.process.variable import Var, VarServer
            from lava.magma.core.resources import CPU
            from lava.magma.core.run_conditions import RunSteps
            from lava.magma.core.run_configs import Loihi2SimCfg
            from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
            from lava.magma.runtime.message_infrastructure.multiprocessing import MultiProcessing
            from lava.magma.runtime.mgmt_token_enums import MGMT_COMMAND, MGMT_RESPONSE, enum_equal, enum_to_np
            from lava.magma.runtime.runtime import Runtime as LavaRuntime
            from lava.magma.runtime.runtime_services.runtime_service import LoihiPyRuntimeService
            from lava.proc.clp.nsm import models as clp_models
            from lava.proc.graded import models as graded_models
    except ImportError as error:
        raise NotInstalledError(f"Lava does not load ({error}); install it with: {_INSTALL}") from error

__all__ = [
    "CPU",
    "MGMT_COMMAND",
    "MGMT_RESPONSE",
    "AbstractProcess",
    "AbstractSubProcessModel",
    "Compiler",
    "CspRecvPort",
    "CspSelector",
    "CspSendPort",
    "InPort",
    "LavaPyType",
    "LavaRuntime",
    "Loihi2SimCfg",
    "LoihiProtocol",
    "LoihiPyRuntimeService",
    "MultiProcessing",
    "NoOPWatchdog",
    "OutPort",
    "ProcessServer",
    "Proto",
    "PyInPort",
    "PyInPortVectorDense",
    "PyLoihiProcessModel",
    "PyOutPort",
    "PyOutPortVectorDense",
    "RunSteps",
    "Semaphore",
    "Var",
    "VarServer",
    "enum_equal",
    "enum_to_np",
    "forget",
    "implements",
    "making",
    "requires",
    "tag",
]


_MAKING = threading.RLock()


@contextmanager
def making() -> Iterator[None]:
    """Make, compile, start or end Processes, one thread at a time.

    Lava's compiler and registers belong to the whole program.

    Lava adds a handler to the root logger for each Process, and to its compiler's logger for each
    compilation, so that log lines would multiply with every run: they go at the end.
    """
    with _MAKING:
        handlers = [logging.getLogger(name).handlers for name in (None, "lava.magma.compiler.compiler")]
        before = [len(kept) for kept in handlers]
        try:
            yield
        finally:
            for kept, size in zip(handlers, before, strict=True):
                del kept[size:]


def forget(processes: Iterable[AbstractProcess]) -> None:
    """Make Lava forget Processes and their Vars, which it keeps for the life of the program.

    Their parameters go at once: Lava's objects refer to each other in circles, and would keep the
    arrays for a while.
    """
    with _MAKING:
        for process in processes:
            process.proc_params._parameters.clear()
            for register, made in ((ProcessServer().processes, [process]), (VarServer().vars, process.vars.members)):
                for one in made:
                    with suppress(ValueError):
                        register.remove(one)


def _remembered(find: Callable[..., list[type]]) -> Callable[..., list[type]]:
    """Lava's search for models, done once for each Process of this package.

    Lava's own imports every file of a Process's folder anew; the files of this package stay.
    """
    found: dict[type, list[type]] = {}

    def models(proc: Any) -> list[type]:
        kind = type(proc)
        if not kind.__module__.startswith("pascal_nm."):
            return find(proc)
        if kind not in found:
            found[kind] = find(proc)
        return list(found[kind])

    return models


def _to_shape(shape: Shape) -> Callable[[Array], Array]:
    return lambda frame: frame.reshape(shape)


def _of_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of a number, for arrays of one element too."""
    return lambda value, *options, **named: function(np.asarray(value).item(), *options, **named)


def _with_a_number(run_spk: Callable[[Any], None]) -> Callable[[Any], None]:
    """A timestep of Lava's Allocator, that sees its only counter without an axis."""

    def run(model: Any) -> None:
        counter = model.next_alloc_id
        model.next_alloc_id = counter.reshape(())  # a view, which the timestep counts up in place
        try:
            run_spk(model)
        finally:
            model.next_alloc_id = counter

    return run


class _NoMemberError(AssertionError, AttributeError):
    """What Lava raises, that ``hasattr`` understands."""


def _with_absent_members(find: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    """A collection's search for a member by name."""

    def member(collection: Any, name: str) -> Any:
        try:
            return find(collection, name)
        except AssertionError as error:
            raise _NoMemberError(*error.args) from None

    return member


if not TYPE_CHECKING:
    Collection.__getattr__ = _with_absent_members(Collection.__getattr__)
    graded_models.inv_sqrt = _of_numbers(graded_models.inv_sqrt)
    clp_models.PyAllocatorModel.run_spk = _with_a_number(clp_models.PyAllocatorModel.run_spk)
    ReshapePort.get_transform_func_fwd = lambda port: _to_shape(port.shape)
    ReshapePort.get_transform_func_bwd = lambda port: _to_shape(port.old_shape)
    AbstractProcess._runtime = None  # a Process whose arguments were refused has none, for which its __del__ asks
    ProcGroupDiGraphs._find_proc_models = staticmethod(_remembered(ProcGroupDiGraphs._find_proc_models))
