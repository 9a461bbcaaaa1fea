"""Work in a child: its answers come in order, and whatever becomes of it ends in one
exception, soon.
"""

import os
import signal
import threading
import time

import pytest

from pascal_nm.errors import FileError
from pascal_nm.export.confined import Ended, answers
from tests import pace


def endless(answer):
    while True:
        pass


def greedy(answer):
    bytearray(2**36)


def failing(answer):
    raise KeyError("type")


def refusing(answer):
    raise FileError("this one\nnot")


def test_answers_come_in_order_and_then_end():
    def work(answer):
        for i in range(10_000):
            answer([i, "text\n", None])

    assert [content[0] for content in answers(work, 10, 2**26)] == list(range(10_000))


@pytest.mark.parametrize(
    ("work", "error", "message"),
    [
        (endless, Ended, "takes more than 1 s"),
        (greedy, Ended, "more memory than a file of its size can need"),
        (failing, Ended, "KeyError 'type'"),
        (refusing, FileError, "this one"),
        (lambda answer: os.kill(os.getpid(), signal.SIGSEGV), Ended, "HDF5 crashes on it"),
        (lambda answer: os._exit(3), Ended, "ended early"),
    ],
    ids=["endless", "greedy", "failing", "refusing", "crashing", "leaving"],
)
def test_what_does_not_end_well_ends(work, error, message):
    start = time.process_time()
    with pytest.raises(error, match=message):
        list(answers(work, 1, 2**26))
    assert pace.since(start) < 1, "the parent waits, and does not work"


def test_who_stops_listening_leaves_no_child_behind():
    def work(answer):
        answer(os.getpid())
        for i in range(10**7):
            answer(i)

    listening = answers(work, 10, 2**26)
    child = next(listening)
    listening.close()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_it_works_from_a_thread_beside_others():
    stop = threading.Event()
    others = [threading.Thread(target=stop.wait) for _ in range(4)]
    found = []
    reader = threading.Thread(target=lambda: found.extend(answers(lambda answer: answer("here"), 5, 2**26)))
    for thread in (*others, reader):
        thread.start()
    reader.join(30)
    stop.set()
    assert found == ["here"]
