"""The script that runs Lava's own tests notices what hangs, and leaves nothing behind."""

import contextlib
import os

import pytest

from tests.lava_tests import outcomes

FILE = """
import os, time, unittest

class TestAll(unittest.TestCase):
    def test_1_passes(self):
        pass

    def test_2_hangs(self):
        if (pid := os.fork()) == 0:
            time.sleep(600)
        with open("pid", "w") as file:
            file.write(str(pid))
        os.waitpid(pid, 0)

    def test_3_dies(self):
        os._exit(3)

    def test_4_fails(self):
        self.assertEqual(1, 2)

    @unittest.skip("not today")
    def test_5_is_skipped(self):
        pass
"""


@pytest.mark.slow
def test_a_test_that_hangs_or_dies_is_named_and_those_behind_it_run(tmp_path):
    (tmp_path / "test_all.py").write_text(FILE)
    found = outcomes("test_all.py", tmp_path, mended=False, silence=10)
    names = ("1_passes", "2_hangs", "3_dies", "4_fails", "5_is_skipped")
    expected = dict(zip(names, ("passed", "hangs", "errors", "failed", "skipped"), strict=True))
    assert {test.rpartition("test_")[2]: outcome for test, (outcome, _) in found.items()} == expected
    with contextlib.suppress(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
        pytest.fail("a process of the test that hung still runs")


@pytest.mark.slow
def test_a_file_that_does_not_load_is_one_error_with_its_reason(tmp_path):
    (tmp_path / "test_all.py").write_text("raise ValueError('mutable default')")
    found = outcomes("test_all.py", tmp_path, mended=False, silence=60)
    assert found == {"test_all.py": ("errors", "ValueError: mutable default")}
