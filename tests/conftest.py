"""What all tests share: a command line, and a Hypothesis that judges what tests show, not how
fast the machine is.
"""

import os
import sys

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "any_machine",
    deadline=None,
    derandomize="EXPLORE" not in os.environ,  # the same examples in each run; EXPLORE=1 draws new ones
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
settings.load_profile("any_machine")


@pytest.fixture
def pascal(monkeypatch, capsys):
    """Run a command line in this process: exit code, stdout, stderr."""
    from pascal_nm.cli.main import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["pascal-nm", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        return end.value.code, printed.out, printed.err

    return run
