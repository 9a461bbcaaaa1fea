"""A program in its own process, which is asked line by line."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

from pascal_nm.errors import TargetError


@contextmanager
def serving(name: str, command: Sequence[str]) -> Iterator[Callable[[dict[str, Any]], dict[str, Any]]]:
    """A program in its own process: gives a function that sends a request and waits for the reply.

    Each is one line of JSON.

    Raises:
        TargetError: from that function: ``name`` failed; the message is its last line.
    """
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdin is not None and process.stdout is not None, "both are pipes"

        def ask(request: dict[str, Any]) -> dict[str, Any]:
            reply = _exchanged(process.stdin, process.stdout, json.dumps(request))
            if not reply:
                code = process.wait()
                errors.seek(0)
                lines = errors.read().strip().splitlines()
                ended = (
                    f"{name} was ended by {signal.Signals(-code).name}"
                    if code < 0
                    else f"{name} ended with code {code}"
                )
                raise TargetError(lines[-1] if lines and code > 0 else ended)
            answer: dict[str, Any] = json.loads(reply)
            return answer

        try:
            yield ask
        finally:
            process.kill()
            process.communicate()


def _exchanged(to: IO[str] | None, back: IO[str] | None, line: str) -> str:
    """One line there and one back; empty where the other side has ended."""
    assert to is not None and back is not None, "both are pipes"
    try:
        print(line, file=to, flush=True)
    except BrokenPipeError:
        return ""
    return back.readline()
