"""Reads damaged and hostile files in a process of its own, and says of each what came of it.

A fuzzer is a module that calls :func:`serve` with a function that writes file number ``seed`` and
one that reads it. :func:`results` runs it from a test: a file that never ends, or ends the process,
is a result like any other, and the next ones are read all the same.
"""

import json
import queue
import random
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

from pascal_nm.errors import PascalError
from tests import pace

ROOT = Path(__file__).parents[1]
PATIENCE = 30
"""Seconds after which a file counts as one that is never done with: more than it may take, because
the machine may be busy."""


def memory(name):
    """A figure of this process's memory, in bytes: VmRSS now, VmHWM at most."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def outcome(read, path):
    """``read``, ``refused`` or ``traceback``; what was said; processor seconds by
    :mod:`tests.pace`; memory taken on top of what the process had before.
    """
    Path("/proc/self/clear_refs").write_text("5")  # the most memory so far becomes that of now
    before, start = memory("VmRSS"), time.process_time()
    try:
        result, text = "read", str(read(path) or "")
    except PascalError as error:
        result, text = "refused", str(error)
    except BaseException:  # RecursionError, MemoryError and the panics of extensions too
        result, text = "traceback", traceback.format_exc()
    return {
        "outcome": result,
        "text": text,
        "seconds": pace.since(start),
        "memory": memory("VmHWM") - before,
    }


def serve(write, read, first, count):
    """Print two lines of JSON for each file: the way it was made, and its :func:`outcome`.

    Args:
        write: given (seed, a random number generator), writes a file and gives its path
            and the way's name.
        read: given the path, reads the file; what it returns is noted.
        first: the first seed.
        count: how many files.
    """
    for seed in range(first, first + count):
        path, way = write(seed, random.Random(seed))
        print(json.dumps({"seed": seed, "way": way, "size": path.stat().st_size}), flush=True)
        print(json.dumps(outcome(read, path)), flush=True)


def results(module, *arguments, first=0, count):
    """What :func:`serve` of a module says of each file, one dictionary each; begun again behind a
    file that stopped it.
    """
    found, last = [], first + count
    while (seed := first + len(found)) < last:
        command = [sys.executable, "-m", module, *map(str, arguments), str(seed), str(last - seed)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            lines: queue.Queue = queue.Queue()
            threading.Thread(target=_pass_on, args=(process.stdout, lines), daemon=True).start()
            said: list[str] = []
            threading.Thread(target=lambda pipe=process.stderr, said=said: said.extend(pipe), daemon=True).start()
            made = None
            while True:
                try:
                    line = lines.get(timeout=PATIENCE if made else 4 * PATIENCE)
                except queue.Empty:
                    process.kill()
                    assert made, (module, "made no file", said[-5:])
                    found.append({**made, "outcome": "hang", "text": "", "seconds": PATIENCE, "memory": 0})
                    break
                if line is None:
                    if made or seed == first + len(found):
                        text = f"exit code {process.wait()}: {''.join(said[-20:])}"
                        assert made, text
                        found.append({**made, "outcome": "crash", "text": text, "seconds": 0, "memory": 0})
                    break
                content = json.loads(line)
                if made is None:
                    made = content
                else:
                    found.append({**made, **content})
                    made = None
    return found


def _pass_on(pipe, lines):
    for line in pipe:
        lines.put(line)
    lines.put(None)


def faults(found, seconds=5, extra=500e6):
    """The files that were neither read nor refused in one line within ``seconds`` and ``extra``
    bytes over their size.
    """
    return [
        result
        for result in found
        if result["outcome"] not in ("read", "refused")
        or (result["outcome"] == "refused" and (not result["text"] or "\n" in result["text"]))
        or result["seconds"] > seconds
        or result["memory"] > result["size"] + extra
    ]


def figures(found):
    """One line: files, refused, read, the slowest and the largest."""
    refused = sum(result["outcome"] == "refused" for result in found)
    read = sum(result["outcome"] == "read" for result in found)
    slowest, largest = (max(found, key=lambda result: result[key]) for key in ("seconds", "memory"))
    return (
        f"{len(found)} files: {refused} refused, {read} read; at most {slowest['seconds']:.2f} s ({slowest['way']}), "
        f"{largest['memory'] / 1e6:.0f} MB ({largest['way']})"
    )
