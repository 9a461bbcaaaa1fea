"""What this package's processes share: they end with their parent, and tell their failures."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import sys

from pascal_nm.errors import TargetError, first_line

_PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>."""

_SPARE = 16
"""Open files beyond those of the children that a run needs: to look at them, and to read the
program's own code."""


class ChildError(Exception):
    """The traceback of another process, as the cause of an error here."""

    def __str__(self) -> str:
        """The text, set off from this process's own traceback."""
        return f"\n{self.args[0]}"


def end_with_parent() -> None:
    """Let this process be killed when the thread that started it ends, even by SIGKILL.

    Linux only; elsewhere it ends when it next hears of its parent.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def ending(exitcode: int) -> str:
    """How a process ended, in words: the name of the signal, or the exit code."""
    return signal.Signals(-exitcode).name if exitcode < 0 else f"exit code {exitcode}"


def check_open_files(count: int, each: int) -> None:
    """Refuse to start ``count`` processes where too few files can be open.

    Each process takes so many open files here.

    Raises:
        TargetError: with the number that is needed and how to allow it.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = len(os.listdir("/dev/fd")) + count * each + _SPARE
    if limit != resource.RLIM_INFINITY and needed > limit:
        raise TargetError(
            f"{count} processes need {needed} open files at once, {limit} are allowed: allow more (ulimit -n {needed})"
        )


def not_started(error: OSError) -> TargetError:
    """The error for a system that starts no more processes."""
    advice = " (ulimit -u says how many processes are allowed)" if error.errno == errno.EAGAIN else ""
    return TargetError(f"the system does not start the processes of this run: {first_line(error)}{advice}")
