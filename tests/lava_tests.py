"""Lava's own tests, with and without the mends of ``process_models.compat``: ``make test-lava``.

The wheel of lava-nc 0.10.0 installs its tests beside the package, as ``site-packages/tests/lava``,
so that nothing is fetched. They run from a copy in a temporary folder, each file in a process of
its own. A test that is silent for too long is ended with all its processes and counted as one that
hangs; the tests behind it run in a new process.

The table has a line for each way, and below it stands by name whatever does not pass.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

ROOMS = (
    "frameworks",
    "magma/compiler",
    "magma/core",
    "magma/runtime",
    "networks",
    "proc",
    "utils",
)
"""The folders of ``tests/lava`` that run. What is left out executes tutorials, as notebooks."""

OUTCOMES = ("passed", "failed", "errors", "hangs", "skipped")


class Recorder:
    """A plugin of pytest that writes down, line by line, what begins and what comes out of it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def write(self, **entry: Any) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.write(test=report.nodeid, outcome="errors", why=_last_line(report))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.write(test=nodeid, outcome=None)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            outcome = "failed" if report.when == "call" else "errors"
            self.write(test=report.nodeid, outcome=outcome, why=_last_line(report))
        elif report.skipped:
            self.write(test=report.nodeid, outcome="skipped")
        elif report.when == "call":
            self.write(test=report.nodeid, outcome="passed")


def _last_line(report: Any) -> str:
    """The error of a report, without where it came from."""
    lines = [line[1:].strip() for line in report.longreprtext.splitlines() if line.startswith("E ")]
    return next((line for line in reversed(lines) if "Error" in line or "Exception" in line), "".join(lines[:1]))


def child(file: str, log: str, mended: bool, done: list[str]) -> int:
    """Run the tests of one file in this process, but for those that are done."""
    sys.path[:] = [path for path in sys.path if Path(path) != ROOT / "tests"]
    if mended:
        sys.path.append(str(ROOT))
        importlib.import_module("pascal_nm.process_models.compat")
    import pytest

    quiet = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", ".", "-c", os.devnull]
    return pytest.main([file, *quiet, *(f"--deselect={test}" for test in done)], plugins=[Recorder(log)])


@contextlib.contextmanager
def _started(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, of which nothing stays."""
    with open(folder / "output", "wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        # The tracker of shared memory outlives SIGTERM, and frees what the others have left.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
            for _ in range(100):
                process.poll()
                os.killpg(process.pid, 0)
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def outcomes(file: str, folder: Path, mended: bool, silence: float) -> dict[str, tuple[str, str]]:
    """By test, what came out of it and why."""
    found: dict[str, tuple[str, str]] = {}
    log = folder / "log"
    while True:
        log.write_text("")
        command = [sys.executable, __file__, "--child", file, "--log", str(log), "--done", json.dumps(list(found))]
        with _started([*command, *(["--mended"] if mended else [])], folder) as process:
            while (code := process.poll()) is None:
                if time.time() - log.stat().st_mtime > silence:
                    break
                time.sleep(0.05)
        running = None
        for line in log.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            running = entry["test"]
            if entry["outcome"] is not None and found.get(running, ("passed",))[0] in ("passed", "skipped"):
                found[running] = entry["outcome"], entry.get("why", "")
        if code in (0, 1, 5) or (code == 2 and running in found):  # the latter where the file does not load
            return found
        why = f"silent for {silence:g} s" if code is None else f"ended with {code}"
        if running is None:
            tail = (folder / "output").read_text(errors="replace").strip().splitlines()[-1:]
            return {**found, file: ("hangs" if code is None else "errors", " ".join([why, *tail]))}
        found[running] = "hangs" if code is None else "errors", why


def copied(folder: Path) -> list[str]:
    """Put the tests of the installed Lava into a folder; return the files to run."""
    lava = importlib.metadata.distribution("lava-nc")
    for file in lava.files or ():
        if file.parts[0] == "tests" and "__pycache__" not in file.parts:
            to = folder / file
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(lava.locate_file(file), to)
    rooms = [folder / "tests" / "lava" / room for room in ROOMS]
    return sorted(str(path.relative_to(folder)) for room in rooms for path in room.rglob("test_*.py"))


def _named(way: str, found: dict[str, tuple[str, str]]) -> list[str]:
    """What does not pass, a line each; what many share, in one line."""
    alike: dict[tuple[str, str], list[str]] = {}
    for test, (outcome, why) in found.items():
        if outcome not in ("passed", "skipped"):
            alike.setdefault((outcome, why[:300]), []).append(test.removeprefix("tests/lava/"))
    lines = []
    for (outcome, why), tests in alike.items():
        names = tests if len(tests) <= 20 else [f"{tests[0]} and {len(tests) - 1} more"]
        lines += [f"{way}, {outcome}: {name}: {why}" for name in names]
    return lines


def main() -> int:
    """Print the table, and return 1 where a test does not pass with the mends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only the files with one of these in their path, such as proc/lif")
    parser.add_argument("--silence", type=float, default=120, help="seconds after which a test hangs")
    parser.add_argument("--only", choices=("with", "without"), help="one way alone")
    for name in ("--child", "--log", "--done"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--mended", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options.child, options.log, options.mended, json.loads(options.done))

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs is ended below
    lines, named = [], []
    for way in ("with", "without"):
        if options.only in (None, way):
            with tempfile.TemporaryDirectory(prefix="lava-tests-") as temporary:
                found: dict[str, tuple[str, str]] = {}
                for file in copied(Path(temporary)):
                    if not options.words or any(word in file for word in options.words):
                        began = time.time()
                        found |= outcomes(file, Path(temporary), way == "with", options.silence)
                        print(f"{way} compat: {file}: {time.time() - began:.0f} s", file=sys.stderr, flush=True)
            counts = Counter(outcome for outcome, _ in found.values())
            cells = [platform.python_version(), importlib.metadata.version("numpy"), way]
            lines.append("| " + " | ".join([*cells, *(str(counts[outcome]) for outcome in OUTCOMES)]) + " |")
            named += _named(f"{way} compat", found)
    heads = ["Python", "NumPy", "compat", *OUTCOMES]
    print("| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), *lines, "", *named, sep="\n")
    return int(any(line.startswith("with ") for line in named))


if __name__ == "__main__":
    sys.exit(main())
