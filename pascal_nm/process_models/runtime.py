"""A Lava run that ends.

It ends with its results, or with the error of the child that failed, and with nothing left behind.

Lava's own Runtime waits for ever once a child has died. :class:`Session` runs any network of Lava
Processes, ours and stock ones, under a guard: it polls the children while it waits, turns a death,
and a run that does not go on (:mod:`pascal_nm.process_models.watchdog`), into a
:class:`TargetError`, and at the end (after success, an error, Ctrl-C or SIGTERM) kills every child.
Channels live in memory without a name, so that there is no manager process and no segment in
/dev/shm that could stay.

Threads may each run a network of their own at the same time: only while Processes are made,
compiled, started and ended do they wait for each other
(:func:`pascal_nm.process_models.compat.making`).
"""

from __future__ import annotations

import faulthandler
import functools
import os
import signal
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any, NoReturn

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.common.processes import ChildError, check_open_files, end_with_parent, ending, not_started
from pascal_nm.errors import TargetError
from pascal_nm.process_models.channel import POLL, FrameChannel, Pulse, select
from pascal_nm.process_models.compat import (
    MGMT_RESPONSE,
    AbstractProcess,
    Compiler,
    CspSelector,
    InPort,
    LavaRuntime,
    Loihi2SimCfg,
    MultiProcessing,
    RunSteps,
    Semaphore,
    enum_equal,
    forget,
    making,
)
from pascal_nm.process_models.memory import ChannelMemory, own_semaphores, shared_zeros
from pascal_nm.process_models.model import Model
from pascal_nm.process_models.service import FreeService
from pascal_nm.process_models.watchdog import PATIENCE, Watchdog

_GRACE = 1.0
"""Seconds that a dying child has to deliver its traceback."""

_SLOTS = 2
"""Frames that a channel holds: one under way while the next is written."""

_FILES = 4
"""Open files that a child takes in its parent: both ends of the pipe that brings its errors, and
two that tell of its end."""

_MOST_STEPS = 2**31 - 1
"""Timesteps that one command to Lava's service can ask for: an int32, of which the negative ones
are other commands."""


class Session:
    """A network of connected Lava Processes, compiled and started; a context manager.

    Args:
        process: any Process of the network.
        tag: which ProcessModels to run, ``"floating_pt"`` or ``"fixed_pt"``.
        run_config: a Lava run configuration in place of the default one for ``tag``.
        patience: seconds after which a run in which every child is idle is given up; None: never,
            for networks that wait for something outside, as stock ``Injector`` does.

    Raises:
        TargetError: on entry and from :meth:`run`: a child has failed or is stuck; the cause holds
            its traceback. Also on entry: the system starts no more processes, or the Session is
            open already; and from :meth:`run`: it is not open, or there are no such timesteps.

    Example:
        >>> with Session(neuron, tag="fixed_pt") as session:
        ...     session.run(10)
        ...     v = neuron.v.get()
    """

    def __init__(
        self, process: AbstractProcess, *, tag: str, run_config: Any = None, patience: float | None = PATIENCE
    ) -> None:
        self._process = process
        self._patience = patience
        self._run_config = run_config or Loihi2SimCfg(select_tag=tag)
        self._runtime: Runtime | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Session:
        if self._runtime is not None:
            raise TargetError("this Session is open already: make another one")
        if self._process.is_compiled:
            raise TargetError(
                f"Lava runs a Process once, and {self._process.name} was run before: make the network anew"
            )
        with ExitStack() as stack:
            stack.enter_context(_terminated_as_exit())
            with making():
                executable = Compiler({"pypy_channel_size": _SLOTS}).compile(self._process, self._run_config)
                stack.callback(forget, [p for p in executable.proc_builders if p.parent_proc is not None])
                _run_ahead(executable)
                runtime = Runtime(executable, None, self._patience)
                stack.callback(runtime.stop)
                executable.assign_runtime_to_all_processes(runtime)
                try:
                    runtime.initialize()
                except OSError as error:
                    raise not_started(error) from error
            runtime.await_children()
            stack.callback(setattr, self, "_runtime", None)
            self._runtime, self._stack = runtime, stack.pop_all()
        return self

    def run(self, steps: int) -> None:
        """Run ``steps`` timesteps, on from where the last call ended."""
        if not isinstance(steps, int | np.integer) or not 1 <= steps <= _MOST_STEPS:
            raise TargetError(f"a run takes a whole number of timesteps, from 1 to {_MOST_STEPS}, not {steps!r}")
        self._open.start(RunSteps(num_steps=int(steps)))

    @property
    def pids(self) -> dict[str, int]:
        """The children's process numbers by the names of their Processes."""
        return {name: actor.pid for name, actor in self._open._children()}

    @property
    def _open(self) -> Runtime:
        if self._runtime is None:
            raise TargetError(_NOT_OPEN)
        return self._runtime

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


_NOT_OPEN = "this network does not run any more, or not yet: run it and read its Vars inside the Session's with block"


class Runtime(LavaRuntime):
    """Lava's Runtime with a guard; see the module."""

    _owner: int | None = None
    """The process that runs it: None before it is started and after it is stopped; another's in a
    copy that a child has."""

    def __init__(self, exe: Any, message_infrastructure_type: Any, patience: float | None = PATIENCE) -> None:
        super().__init__(exe, message_infrastructure_type)
        self._patience = patience
        self._outside: list[tuple[Any, str]] = []
        """Ports with an end in the program itself, and the name by which it is their attribute."""

    def initialize(self, node_cfg_idx: int = 0) -> None:
        """Build channels and children."""
        count = len(self._executable.proc_builders) + len(self._executable.runtime_service_builders)
        check_open_files(count, _FILES)
        self._owner = os.getpid()
        with _signals_held(), own_semaphores():
            self._build_watchdog_manager()
            self._messaging_infrastructure = Children(count)
            self._messaging_infrastructure.start()
            self._watchdog = self._messaging_infrastructure.watchdog(self._patience)
            self._build_channels()
            self._build_sync_channels()
            self._build_processes()
            self._build_runtime_services()
        self._start_ports()

    def await_children(self) -> None:
        """Wait until all children are ready."""
        for port in self.service_to_runtime:
            port.guarded(self._check)
        for _ in self._messaging_infrastructure.actors:
            while not self._messaging_infrastructure.ready.acquire(True, POLL):
                self._check()
        self._is_initialized = True

    def _build_processes(self) -> None:
        for process, builder in self._executable.proc_builders.items():
            process._runtime = self
            self._create_external_channels(process, builder)
            self._messaging_infrastructure.build_actor(None, builder)

    def _create_external_channels(self, process: AbstractProcess, builder: Any) -> None:
        """The channels between the program and its Injectors and Extractors.

        Lava's own have threads that nothing ends, and memory that is written to when it is gone.
        """
        for name, end in builder.py_ports.items():
            port = getattr(process, name)
            if not port.external_pipe_flag:
                continue
            size = port.external_pipe_buffer_size
            channel = FrameChannel(self._messaging_infrastructure, name, name, end.shape, end.d_type, size)
            ends: list[Any] = [channel.src_port, channel.dst_port]
            sends = isinstance(port, InPort)
            ours, theirs = ends if sends else reversed(ends)
            attribute = "external_pipe_csp_send_port" if sends else "external_pipe_csp_recv_port"
            builder.set_csp_ports([theirs])
            ours.start()
            ours.guarded(self._check_alive)
            setattr(port, attribute, ours)
            self._outside.append((port, attribute))

    def _build_runtime_services(self) -> None:
        for builder in self._executable.runtime_service_builders.values():
            self._messaging_infrastructure.build_actor(None, builder)

    def start(self, run_condition: Any) -> None:
        """Run: Lava's entry would write to memory that is gone where the network was stopped.

        Raises:
            TargetError: the network is stopped, or is to run without an end.
        """
        self._check_open()
        if not isinstance(run_condition, RunSteps):
            raise TargetError(
                f"a Session runs a number of timesteps: session.run(steps), again and again where there is no end, "
                f"instead of {type(run_condition).__name__}, which it could not pause"
            )
        super().start(run_condition)

    def pause(self) -> None:
        """Refuse: children run ahead of each other, and stand in no timestep together.

        Raises:
            TargetError: always.
        """
        raise TargetError(
            "a Session cannot be paused in the middle of a run: run fewer timesteps at a time, session.run(steps); "
            "Vars can be read between two runs"
        )

    def get_var(self, *arguments: Any) -> Any:
        """Read a Var."""
        self._check_open()
        return super().get_var(*arguments)

    def set_var(self, *arguments: Any) -> None:
        """Write a Var."""
        self._check_open()
        super().set_var(*arguments)

    def _check_open(self) -> None:
        if self._owner != os.getpid():
            raise TargetError(_NOT_OPEN)

    def _get_resp_for_run(self) -> None:
        """Wait until all timesteps are done: Lava's hook, called by start and wait."""
        if self._watchdog is not None:
            self._watchdog.reset()
        for port in self.service_to_runtime:
            if not enum_equal(port.recv(), MGMT_RESPONSE.DONE):
                self._fail()
        self._is_running = False

    def _children(self) -> Iterator[tuple[str, Any]]:
        """The children with their names, in the order in which they were started."""
        names = [process.name for process in self._executable.proc_builders]
        names += ["Lava's runtime service"] * len(self._executable.runtime_service_builders)
        return zip(names, self._messaging_infrastructure.actors, strict=False)

    def _check_alive(self) -> None:
        """Raise where a child has failed; none ends by itself before it is told to."""
        self._check_open()
        if any(actor._pconn.poll() or not actor.is_alive() for _, actor in self._children()):
            self._fail()

    def _check(self) -> None:
        """Raise where a child has failed or is stuck."""
        self._check_alive()
        if self._watchdog is not None:
            pids = {name: actor.pid for name, actor in self._children()}
            if wrong := self._watchdog.look(pids):
                text = self._watchdog.trace(pids)
                raise TargetError(f"Lava does not go on: {wrong}") from (ChildError(text) if text else None)

    def _fail(self) -> NoReturn:
        """Raise the error of the child that failed first; it may still be writing its traceback."""
        deadline = time.monotonic() + _GRACE
        while time.monotonic() < deadline:
            for name, actor in self._children():
                if actor.exception:
                    cause: ChildError = actor.exception[0]
                    raise TargetError(f"{name} failed in Lava: {_last_line(cause.args[0])}") from cause
                if actor.exitcode:
                    raise TargetError(f"{name} died in Lava: its process ended by {ending(actor.exitcode)}")
            time.sleep(POLL / 10)
        # Lava's service ends with exit code 0 too, once a Process has failed: whose error would
        # have been found above.
        ended = ", ".join(name for name, actor in self._children() if actor.exitcode == 0)
        raise TargetError(f"{ended or 'Lava'} ended the run before its time, with exit code 0 and no error")

    def stop(self) -> None:
        """Kill all children.

        Their results are in shared memory already; there is nothing to wait for.
        """
        if self._owner != os.getpid():
            return
        with making(), _signals_held():
            self._owner = None
            for port, attribute in self._outside:
                delattr(port, attribute)
            self._is_started = self._is_running = False
            self.join()
            self._messaging_infrastructure.stop()
            self._watchdog_manager.stop()


class Children(MultiProcessing):
    """Lava's child processes, which share memory without a name and die with their parent."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._pulses = shared_zeros((count,), np.uint8)
        self.ready = Semaphore(0)
        """Released by every child that is built."""

    def start(self) -> None:
        """Channels take their memory from here."""
        self._smm = ChannelMemory()
        self._traces = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # stop() closes it

    def watchdog(self, patience: float | None) -> Watchdog | None:
        """What tells stuck children; None where the system does not show what they do."""
        if patience is None or not Path("/proc/self/stat").exists():
            return None
        return Watchdog(self._pulses, self._traces, patience)

    def channel_class(self, channel_type: Any) -> type[FrameChannel]:
        """The channel between two Python processes; Lava has others for chips."""
        return FrameChannel

    def build_actor(self, target_fn: Callable[..., None] | None, builder: Any, exception_q: Any = None) -> Any:
        """Fork a child, which does what :func:`_child` does."""
        with warnings.catch_warnings():
            # Python 3.12 warns of forks beside other threads: torch's own, of which
            # no child uses any.
            warnings.simplefilter("ignore", DeprecationWarning)
            index = len(self._actors)
            run = functools.partial(_child, self._pulses[index : index + 1], self._traces, self.ready)
            return super().build_actor(run, builder, exception_q)

    def stop(self) -> None:
        """Kill and reap all children, and give the channels' memory back."""
        for actor in self._actors:
            actor.kill()
        for actor in self._actors:
            actor.join()
        self._actors.clear()
        self._traces.close()
        self._smm.shutdown()


def _child(pulse: Array, traces: IO[bytes], ready: Any, builder: Any, exception_q: None) -> None:
    """What a child does, in place of Lava's function.

    Its errors cross as text, because not every exception can be pickled.
    """
    Pulse.cell = pulse
    faulthandler.register(signal.SIGUSR1, file=traces, all_threads=False)
    end_with_parent()
    CspSelector.select = select
    try:
        actor = builder.build()
        ready.release()
        actor.start()
        return
    except Exception:
        text = traceback.format_exc()
    raise ChildError(text)  # out here, where it has no context: Dask makes contexts part of what is pickled


def _run_ahead(executable: Any) -> None:
    """Do without the barrier after every timestep where all models are this package's."""
    if all(issubclass(builder.proc_model, Model) for builder in executable.proc_builders.values()):
        for service in executable.runtime_service_builders.values():
            service.rs_class = FreeService


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1].removeprefix("pascal_nm.errors.TargetError: ")


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM.

    Children that are forked inside hold them back for good: the parent ends them.

    A mask alone is not enough in the parent: the system may give a signal to another thread, and
    Python then interrupts the main one.
    """
    held = (signal.SIGINT, signal.SIGTERM)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    arrived: list[tuple[int, FrameType | None]] = []
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.signal(number, lambda *call: arrived.append(call)) for number in held}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, frame in arrived[:1]:
            if callable(handlers[number]):
                handlers[number](number, frame)
            elif handlers[number] == signal.SIG_DFL:
                os.kill(os.getpid(), number)


@contextmanager
def _terminated_as_exit() -> Iterator[None]:
    """Let SIGTERM unwind the stack as SystemExit, so that the children are ended.

    A program that handles it itself is left alone.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
