"""Faults put into the package one at a time, to see whether the tests nearby find them:
``make mutants``.

The faults are mutmut's: another operator, another number, the other branch, an argument left out.
Those that only show that a line runs (``None`` for a value) are left out, and so are annotations,
assertions, decorators and the words of messages. ``mutants.toml`` says which tests are near to
which module, and which faults change nothing that the package promises, and why.

Nothing is written into the working tree. This process imports what is not ours; each fault is a
fork of it, which reads the one module with the fault in it, and runs the tests until one fails.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import importlib.machinery
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

import libcst
import pytest
import torch
from hypothesis import Phase, settings
from mutmut.mutation import mutators

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).parent
UNTOUCHED = (
    libcst.Annotation,
    libcst.Assert,
    libcst.Decorator,
    libcst.FormattedString,
    libcst.Import,
    libcst.ImportFrom,
    libcst.Raise,
)
SPARE = 4 << 30
"""Bytes of address space that a fault may take on top of what this process has."""


class Fault(NamedTuple):
    """A module's whole source with one fault, the line where it is, and the code
    before and after it.
    """

    source: str
    line: int
    was: str
    now: str


class Faults(libcst.CSTVisitor):
    """Collects pairs of a node and what stands in its place."""

    def __init__(self) -> None:
        self.found: list[tuple[libcst.CSTNode, libcst.CSTNode]] = []

    def on_visit(self, node: libcst.CSTNode) -> bool:
        """Whether to look inside the node."""
        if isinstance(node, UNTOUCHED):
            return False
        for kind, operator in mutators.mutation_operators:
            if isinstance(node, kind) and operator is not mutators.operator_assignment:
                self.found += [(node, other) for other in operator(node) if not _only_none(node, other)]
        return True


def _only_none(node: libcst.CSTNode, other: libcst.CSTNode) -> bool:
    """Whether a call differs in one argument's value only, which is then None."""
    if not (isinstance(node, libcst.Call) and isinstance(other, libcst.Call) and node.func is other.func):
        return False
    return len(node.args) == len(other.args) and all(
        a.keyword is b.keyword for a, b in zip(node.args, other.args, strict=True)
    )


def faults_of(source: str, share: float, seed: int) -> list[Fault]:
    """The faults of a module, or a share of them, drawn at random; in the order of their lines."""
    tree, collected, lines = libcst.parse_module(source), Faults(), source.splitlines()
    tree.visit(collected)
    drawn = random.Random(seed).sample(collected.found, round(share * len(collected.found)))
    faults = [_fault(lines, tree.deep_replace(node, other).code) for node, other in drawn]
    return sorted((fault for fault in faults if fault), key=lambda fault: fault.line)


def _fault(lines: list[str], source: str) -> Fault | None:
    """What of these lines is other in the source; None, where nothing is."""
    changed = source.splitlines()
    edits = [e for e in difflib.SequenceMatcher(None, lines, changed, autojunk=False).get_opcodes() if e[0] != "equal"]
    if not edits:
        return None
    (_, first, _, new, _), (_, _, last, _, end) = edits[0], edits[-1]
    was, now = (" ".join(map(str.strip, some)) for some in (lines[first:last], changed[new:end]))
    return Fault(source, first + 1, was, now)


class Instead(importlib.machinery.SourceFileLoader):
    """Loads a module from other source than its file's."""

    other = ""

    def get_code(self, fullname: str):
        """The code of the other source, in the file's name."""
        return compile(self.other, self.path, "exec", dont_inherit=True)


class Finder:
    """Finds one module, and gives it other source."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self.name, self.path, self.source = name, path, source

    def find_spec(self, fullname, path=None, target=None):
        """As import asks."""
        if fullname != self.name:
            return None
        loader = Instead(fullname, str(self.path))
        loader.other = self.source
        return importlib.util.spec_from_file_location(fullname, self.path, loader=loader)


def survives(
    module: str, path: Path, source: str, tests: list[str], processor: float, output: str = os.devnull
) -> bool:
    """Whether all tests pass in a fork that reads the module from ``source``, within so many
    seconds of the processor.
    """
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            sink = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            resource.setrlimit(resource.RLIMIT_CPU, (int(processor) + 1,) * 2)
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (taken + SPARE,) * 2)
            signal.alarm(int(20 * processor))  # for what waits and does nothing
            sys.meta_path.insert(0, Finder(module, path, source))
            options = ["-x", "-q", "-p", "no:cacheprovider", "--disable-plugin-autoload", "--tb=no"]
            options += ["-p", "_hypothesis_pytestplugin", "--hypothesis-profile=faults"]
            status = int(pytest.main([*options, *tests]))
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def run(name: str, about: dict, share: float, seed: int) -> tuple[str, int]:
    """One module. Prints what survives, and gives its line of the table, and how many survive."""
    path = HERE.parent / "pascal_nm" / f"{name}.py"
    module, source, tests = f"pascal_nm.{name}", path.read_text(), [str(HERE / test) for test in about["tests"]]
    known = {(fault["was"], fault.get("now")) for fault in about.get("equivalent", [])}
    report = f"{os.environ.get('TMPDIR', '/tmp')}/pascal-nm-mutants-{os.getpid()}"
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    if not survives(module, path, source, tests, 600, report):
        sys.exit(f"the tests of {name} fail without a fault:\n{Path(report).read_text()[-3000:]}")
    processor = 5 + 4 * (resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
    os.remove(report)
    faults = faults_of(source, share, seed)
    equivalent = [fault for fault in faults if known & {(fault.was, fault.now), (fault.was, None)}]
    begun, survivors = time.monotonic(), []
    for i, fault in enumerate(faults):
        if fault not in equivalent and survives(module, path, fault.source, tests, processor):
            survivors.append(fault)
            print(f"{path.name}:{fault.line}: {fault.was}\n    survives as: {fault.now}", flush=True)
        if (i + 1) % 10 == 0:
            print(f"{name} {i + 1}/{len(faults)}, {len(survivors)} survive", file=sys.stderr, flush=True)
    killed = len(faults) - len(equivalent) - len(survivors)
    seconds = time.monotonic() - begun
    line = f"| {name} | {len(faults)} | {killed} | {len(equivalent)} | {len(survivors)} | {seconds:.0f} s |"
    return line, len(survivors)


def main() -> int:
    """The command line; 1 where a fault survives."""
    modules = tomllib.loads((HERE / "mutants.toml").read_text())
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help=f"which modules; all by default: {', '.join(modules)}")
    parser.add_argument("--share", type=float, default=1.0, help="share of the faults, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if unknown := set(options.modules) - set(modules):
        parser.error(f"no tests are named for {', '.join(sorted(unknown))}; there are: {', '.join(modules)}")
    os.chdir(HERE.parent)
    sys.path.insert(0, str(HERE.parent))
    for foreign in (
        "torch.export",
        "torch._dynamo",
        "nir",
        "nirtorch",
        "h5py",
        "sklearn.datasets",
        "hypothesis.strategies",
    ):
        importlib.import_module(foreign)
    torch.set_num_threads(1)
    # A fault is found or not: no time goes into its smallest example, and every run draws
    # the same examples.
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("faults", deadline=None, derandomize=True, database=None, phases=phases)
    done = [run(name, modules[name], options.share, options.seed) for name in options.modules or modules]
    print(
        "| module | faults | killed | equivalent | survive | time |",
        "|---|---|---|---|---|---|",
        *(line for line, _ in done),
        sep="\n",
    )
    return int(any(left for _, left in done))


if __name__ == "__main__":
    sys.exit(main())
