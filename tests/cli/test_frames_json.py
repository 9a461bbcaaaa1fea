"""What --json says of frames: JSON whatever the options, and no accuracy of what has no labels."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from pascal_nm import QCFS, Preprocessing, Timing, convert
from pascal_nm.export import read_nir, write_nir

EACH = (["--schedule", "graded"], ["--schedule", "streaming", "--threshold", "2.5"], ["--schedule", "pasc"])


@pytest.fixture
def network(tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 3, 3), QCFS(4), nn.Flatten(), nn.Linear(12, 3)).eval()
    made = convert(module, torch.zeros(1, 1, 4, 4), preprocessing=Preprocessing(255, (0.5,), (0.25,)))
    write_nir(made, tmp_path / "model.nir")
    return tmp_path / "model.nir"


def stored(network, **more):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 4, 4)).astype(np.uint8)
    np.savez(network.parent / "frames.npz", frames=pixels, **more)
    return ["--frames", network.parent / "frames.npz", "--quiet", "--json"]


def strict(outcome):
    code, out, err = outcome
    assert (code, err) == (0, ""), outcome

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(out, parse_constant=refuse)


@pytest.mark.parametrize("options", EACH)
def test_frames_without_labels_have_no_accuracy(pascal, network, options):
    frames = stored(network)
    found = strict(pascal("run", network, *frames, *options))
    assert found["accuracy"] is None and found["accuracy_over_time"] == []
    for more in (["--limit", "1"], [], ["--chip", "loihi2", "--no-compare"]):
        assert strict(pascal("energy", network, *frames, "--chip", "cmos45_int8", *options, *more)[:3])


@pytest.mark.parametrize("labels", [[0, 1, 2], None])
def test_the_energy_of_frames_has_their_accuracy_where_there_are_labels(pascal, network, labels):
    frames = stored(network, **({} if labels is None else {"labels": np.array(labels)}))
    found = strict(pascal("energy", network, *frames, "--chip", "loihi2", "--schedule", "graded"))
    ran = strict(pascal("run", network, *frames, "--schedule", "graded"))
    assert (found["accuracy"] is None) == (ran["accuracy"] is None) == (labels is None)


def test_a_threshold_without_end_is_refused_in_a_line(pascal, network):
    code, out, err = pascal("run", network, *stored(network), "--threshold", "inf")
    assert (code, out) == (2, "")
    assert err == "error: the threshold of a change is 0 or more and finite, not inf\n"


@pytest.mark.parametrize("schedule", ["graded", "streaming"])
def test_frames_that_are_stopped_say_how_many_answers_are_final(pascal, network, schedule):
    options = stored(network)[:2]
    code, out, _ = pascal("run", network, *options, "--schedule", schedule, "-T", "1")
    assert code == 0 and "after 1 timesteps 0.00 % of the answers are final: exact, by certificate" in out
    assert "answers are final" not in pascal("run", network, *options, "--schedule", schedule)[1]


def test_a_schedule_that_is_stopped_before_its_answers_are_final_is_not_the_least(pascal, network):
    read = read_nir(network)
    write_nir(read.replace(timing=Timing("pasc", stop=2)), network)
    arguments = ("energy", network, *stored(network)[:2], "--chip", "cmos45_int8")
    out = pascal(*arguments)[1]
    assert "cmos45_int8, pasc: stopped when 0.00 % of the answers were final" in out
    rows = {line.split("│")[1].strip(): line for line in out.splitlines() if line.startswith("│")}
    assert "*" not in rows["pasc"]
    found = {row["schedule"]: row["exact"] for row in strict(pascal(*arguments, "--json", "--quiet"))["schedules"]}
    assert found["pasc"] == 0
