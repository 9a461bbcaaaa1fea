"""Faults injected into running networks: each ends with the right error within five seconds, and
nothing stays behind.
"""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from torch import nn

pytest.importorskip("lava.magma", exc_type=ImportError)

import pascal_nm as pnm
from pascal_nm import QCFS
from pascal_nm.errors import TargetError
from pascal_nm.hw_targets.lava import LavaTarget
from pascal_nm.process_models.analog.models import AnalogInputFixed
from pascal_nm.process_models.max_pool.models import MaxPoolModel
from pascal_nm.process_models.memory import shared_zeros
from pascal_nm.process_models.pasc.models import PascFixed
from pascal_nm.process_models.readout.models import ReadoutFixed
from pascal_nm.process_models.runtime import Session
from pascal_nm.process_models.synapse.models import SynapseFixed
from tests import networks, pace
from tests.processes import children, launcher, left_behind, nothing_left, running, segments

__all__ = ["launcher", "nothing_left"]

KINDS = (AnalogInputFixed, MaxPoolModel, PascFixed, ReadoutFixed, SynapseFixed)


class Branches(nn.Module):
    """One of each kind of Process."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), QCFS(2))
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), QCFS(2), nn.Conv2d(4, 4, 1))
        self.join = nn.Sequential(QCFS(2), nn.MaxPool2d(2))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

    def forward(self, x):
        x = self.first(x)
        return self.head(self.join(self.second(x) + x))


def branches():
    module, images = networks.randomized(Branches(), seed=2), networks.images(2)
    graph = pnm.quantize(pnm.convert(pnm.SourceNetwork(module, images)), input_range=float(images.abs().max()))
    return graph, images.numpy()


@pytest.fixture(scope="module")
def program():
    graph, images = branches()
    return LavaTarget(batch_size=1).compile(graph), images


@pytest.fixture
def impatient(monkeypatch):
    """Runs are given up after one second in which nothing goes on, not after three."""
    monkeypatch.setitem(Session.__init__.__kwdefaults__, "patience", 1.0)


@pytest.fixture
def inject(monkeypatch):
    """Replaces what models of a kind do in one timestep; gives the time at which
    the first did it.
    """

    def change(kind, step, fault):
        happened, original = shared_zeros((1,), np.float64), kind.run_step

        def run_step(model, t):
            if t == step:
                happened[0] = happened[0] or time.monotonic()
                fault()
            else:
                original(model, t)

        monkeypatch.setattr(kind, "run_step", run_step)
        return happened

    return change


def steps_of(program):
    plan = pnm.schedule.of(program.graph)
    return plan.initiation_interval + plan.steps


def exploding():
    raise ZeroDivisionError("the mantissa of nothing")


def killed(number):
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_exception_in_any_model_ends_the_run_with_the_childs_traceback(kind, place, program, inject, nothing_left):
    lava, images = program
    step = {"first": 0, "middle": steps_of(lava) // 2, "last": steps_of(lava) - 1}[place]
    happened = inject(kind, step, exploding)
    with pytest.raises(TargetError, match="failed in Lava: ZeroDivisionError: the mantissa of nothing") as caught:
        lava.run(images)
    assert 0 < pace.since(happened[0], time.monotonic) < 5
    assert "exploding" in str(caught.value.__cause__), "the cause shows where in the child"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_killed_child_ends_the_run(kind, program, inject, nothing_left):
    lava, images = program
    happened = inject(kind, steps_of(lava) // 2, killed(signal.SIGKILL))
    with pytest.raises(TargetError, match="died in Lava: its process ended by SIGKILL"):
        lava.run(images)
    assert 0 < pace.since(happened[0], time.monotonic) < 5


def test_a_stopped_child_ends_the_run(program, inject, impatient, nothing_left):
    lava, images = program
    happened = inject(SynapseFixed, 3, killed(signal.SIGSTOP))
    with pytest.raises(TargetError, match=r"does not go on: .* stopped"):
        lava.run(images)
    assert 0 < pace.since(happened[0], time.monotonic) < 5


def test_a_sleeping_child_ends_the_run_with_its_traceback(program, inject, impatient, nothing_left):
    lava, images = program
    happened = inject(MaxPoolModel, 3, lambda: time.sleep(3600))
    with pytest.raises(TargetError, match=r"does not go on: .* is stuck") as caught:
        lava.run(images)
    assert 0 < pace.since(happened[0], time.monotonic) < 5
    assert "run_step" in str(caught.value.__cause__), "the cause shows where it sleeps"


def test_processes_that_wait_for_each_other_end_the_run(program, inject, impatient, nothing_left):
    lava, images = program
    first = pnm.schedule.of(lava.graph).windows["first_1"].emit.start
    happened = inject(PascFixed, first, lambda: None)
    with pytest.raises(TargetError, match="all Processes wait for each other"):
        lava.run(images)
    assert 0 < pace.since(happened[0], time.monotonic) < 5


def test_a_slow_child_is_given_its_time(program, inject, impatient, nothing_left):
    lava, images = program
    expected = lava.run(images)

    def slow():
        end = time.monotonic() + 2
        while time.monotonic() < end:
            sum(range(1000))

    inject(AnalogInputFixed, 2, slow)
    np.testing.assert_array_equal(lava.run(images).potential, expected.potential)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 128 + signal.SIGTERM)], ids=["INT", "TERM"]
)
def test_an_interrupted_program_ends_at_once_and_leaves_nothing(number, code, launcher, tmp_path):
    shared = segments()
    program = f"""
import pathlib
from pascal_nm.process_models.synapse.models import SynapseFixed
from tests.process_models.test_faults import LavaTarget, branches

def run_step(model, t):
    pathlib.Path({str(tmp_path / "ready")!r}).touch()
    while True:
        pass

SynapseFixed.run_step = run_step
graph, images = branches()
LavaTarget().compile(graph).run(images)
"""
    pid = launcher.start(program, tmp_path / "ready")
    started = children(pid)
    assert started, "the network has child processes"
    os.kill(pid, number)
    begin = time.monotonic()
    assert launcher.exitcode() == code
    assert pace.since(begin, time.monotonic) < 5
    assert not any(running(child) for child in started)
    assert not left_behind(segments() - shared)


@pytest.mark.slow
def test_fifty_runs_in_one_program_leak_nothing(program):
    lava, images = program
    lava.run(images)  # what is made once and kept: caches, the first heap
    files, processes = len(os.listdir("/proc/self/fd")), children(os.getpid())
    early = late = 0
    for run in range(50):
        lava.run(images)
        if run == 9:
            early = resident()
    late = resident()
    assert len(os.listdir("/proc/self/fd")) == files
    assert children(os.getpid()) == processes
    assert late - early < 8e6, "40 runs may not cost 200 kB each"


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
