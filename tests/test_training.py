"""Training: it learns, it resumes to the same weights, and it refuses what does not
belong together.
"""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from pascal_nm import data, training
from pascal_nm.errors import ConversionError, DataError, FileError
from pascal_nm.network.graph import Preprocessing
from pascal_nm.source import checkpoint
from pascal_nm.source.activations import to_qcfs
from pascal_nm.source.architectures import build, qcfs_layers
from pascal_nm.training import TrainingConfig, loop

SMALL = TrainingConfig(arch="mlp", options={"width": 0.25}, epochs=3, shift=1)


@pytest.fixture(scope="module")
def digits():
    train, test = data.load_pair("digits")
    return train.head(600), test


def state(model):
    return {k: v.clone() for k, v in model.module.state_dict().items()}


def test_a_small_network_learns(digits):
    model = training.train(*digits, replace(SMALL, epochs=8))
    assert model.metrics["test_accuracy"] > 0.85


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(digits):
    a, b, c = (training.train(*digits, replace(SMALL, epochs=1, seed=seed)) for seed in (1, 1, 2))
    assert all(torch.equal(v, state(b)[k]) for k, v in state(a).items())
    assert any(not torch.equal(v, state(c)[k]) for k, v in state(a).items())


def test_a_stopped_training_goes_on_to_the_same_weights(digits, tmp_path):
    whole = training.train(*digits, SMALL)

    class StoppedError(Exception):
        pass

    def stop(progress):
        if progress.epoch == 2 and progress.images > 300:
            raise StoppedError

    with pytest.raises(StoppedError):
        training.train_to_file(*digits, SMALL, tmp_path / "model.pt", stop)
    assert not (tmp_path / "model.pt").exists()
    resumed = training.train_to_file(*digits, SMALL, tmp_path / "model.pt")
    assert all(torch.equal(v, state(resumed)[k]) for k, v in state(whole).items())
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]
    assert checkpoint.load(tmp_path / "model.pt").metrics == resumed.metrics


def test_half_precision_halves_the_file_and_gives_the_accuracy_of_what_is_stored(digits, tmp_path):
    config = replace(SMALL, options={"width": 2.0}, epochs=1)
    whole = training.train_to_file(*digits, config, tmp_path / "whole.pt")
    half = training.train_to_file(*digits, replace(config, half=True), tmp_path / "half.pt")
    assert (tmp_path / "half.pt").stat().st_size < 0.55 * (tmp_path / "whole.pt").stat().st_size
    read = checkpoint.load(tmp_path / "half.pt")
    assert all(torch.equal(v, state(read)[k]) and v.dtype == state(read)[k].dtype for k, v in state(half).items())
    assert all(torch.equal(v.half().float(), state(half)[k]) for k, v in state(whole).items() if v.ndim > 1)
    inputs = torch.from_numpy(read.preprocessing(digits[1].pixels))
    right = (read.module(inputs).argmax(1) == torch.from_numpy(digits[1].labels)).float().mean()
    assert read.metrics["test_accuracy"] == pytest.approx(float(right))


def test_a_checkpoint_of_another_training_is_refused(digits, tmp_path):
    training.train(*digits, replace(SMALL, epochs=1), checkpoint=tmp_path / "state")
    with pytest.raises(FileError, match="other settings"):
        training.train(*digits, replace(SMALL, epochs=2), checkpoint=tmp_path / "state")


def test_a_checkpoint_of_a_training_with_other_images_is_refused(digits, tmp_path):
    train, test = digits
    training.train(train, test, replace(SMALL, epochs=1), checkpoint=tmp_path / "state")
    with pytest.raises(FileError, match=r"other settings \(images 600 instead of 500\)"):
        training.train(train.head(500), test, replace(SMALL, epochs=1), checkpoint=tmp_path / "state")


def test_a_checkpoint_of_an_earlier_version_goes_on(digits, tmp_path):
    """It does not say of how many images."""
    whole = training.train(*digits, replace(SMALL, epochs=1), checkpoint=tmp_path / "state")
    stored = torch.load(tmp_path / "state", weights_only=True)
    del stored["config"]["images"], stored["config"]["input_shape"]
    torch.save(stored, tmp_path / "state")
    again = training.train(*digits, replace(SMALL, epochs=1), checkpoint=tmp_path / "state")
    assert all(torch.equal(v, state(again)[k]) for k, v in state(whole).items())


@pytest.mark.parametrize("absent", [("decay_all",), ("start", "decay_all", "images")])
def test_a_checkpoint_that_says_nothing_of_decay_goes_on_as_it_began(digits, tmp_path, absent):
    whole = training.train(*digits, SMALL)

    class StoppedError(Exception):
        pass

    def stop(progress):
        if progress.epoch == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        training.train(*digits, SMALL, checkpoint=tmp_path / "state", progress=stop)
    stored = torch.load(tmp_path / "state", weights_only=True)
    for name in absent:
        del stored["config"][name]
    torch.save(stored, tmp_path / "state")
    with pytest.raises(FileError, match="decay_all False instead of True"):
        training.train(*digits, replace(SMALL, decay_all=True), checkpoint=tmp_path / "state")
    again = training.train(*digits, SMALL, checkpoint=tmp_path / "state")
    assert all(torch.equal(v, state(again)[k]) for k, v in state(whole).items())


@pytest.mark.parametrize("everything", [False, True])
def test_weight_decay_is_on_all_parameters_or_on_weights_only(digits, everything):
    train, _ = digits
    config = replace(SMALL, epochs=1, decay_all=everything, weight_decay=0.25)
    run = loop._Training(build("mlp", train.shape, 10, width=0.25), train, config)
    decays = {id(p): group["weight_decay"] for group in run.optimizer.param_groups for p in group["params"]}
    for name, parameter in run.module.named_parameters():
        assert decays[id(parameter)] == (0.25 if everything or parameter.ndim > 1 else 0.0), name
    assert len(decays) == len(list(run.module.parameters()))


def pictures(shape=(3, 32, 32), classes=10, n=24):
    pixels = np.random.default_rng(0).integers(0, 256, (n, *shape)).astype(np.uint8)
    return data.Dataset("pictures", pixels, np.arange(n) % classes, tuple(map(str, range(classes))))


def test_the_papers_recipe_is_that_of_appendix_a8_and_its_authors_code():
    """A.8, and main_train.py, preprocess/getdataloader.py, models/layer.py and
    main_train_imagenet.py of BrainSeek-Lab/PASCAL.
    """
    cifar10 = training.recipe("paper", pictures())
    assert (cifar10.learning_rate, cifar10.momentum, cifar10.weight_decay) == (0.1, 0.9, 5e-4)
    assert (cifar10.epochs, cifar10.batch_size, cifar10.label_smoothing, cifar10.decay_all) == (300, 300, 0, True)
    assert (cifar10.shift, cifar10.flip, cifar10.cutout, cifar10.auto_augment) == (4, True, 16, True)
    assert cifar10.options == {"threshold": 1.0}
    assert training.recipe("paper", pictures(classes=100)) == replace(cifar10, learning_rate=0.02)
    assert training.recipe("paper", pictures((3, 64, 64), 100)) == cifar10, "a hundred classes, but not CIFAR-100"
    imagenet = training.recipe("paper", pictures((3, 224, 224), 1000))
    assert (imagenet.learning_rate, imagenet.weight_decay, imagenet.decay_all) == (0.1, 1e-4, True)
    assert (imagenet.epochs, imagenet.batch_size, imagenet.auto_augment, imagenet.cutout) == (90, 256, False, 0)
    assert imagenet.options == {"stem": "imagenet", "threshold": 1.0}


def test_a_recipe_that_is_unknown_or_not_for_the_images_is_refused(digits):
    with pytest.raises(DataError, match="takes paper, not 'papers'"):
        training.recipe("papers", pictures())
    with pytest.raises(DataError, match=r"digits.* has 1 channel"):
        training.recipe("paper", digits[0])
    with pytest.raises(ConversionError, match="finite and not zero, not 0"):
        build("mlp", (3, 8, 8), 10, threshold=0.0)


def test_the_policy_works_on_moved_pixels_and_cutout_on_its_result(digits, monkeypatch):
    """The order of the authors' transforms: crop, flip, AutoAugment, normalization, Cutout."""
    images, seen = pictures(), []
    config = TrainingConfig(arch="mlp", options={"width": 0.1}, shift=4, flip=True, cutout=16, auto_augment=True)
    run = loop._Training(build("mlp", images.shape, 10, width=0.1), images, config)

    def policy(pixels, rng):
        seen.append(pixels)
        return np.full_like(pixels, 255)

    monkeypatch.setattr(loop, "auto_augment", policy)
    result = run._augmented(images.pixels, np.random.default_rng(3)).numpy()
    (moved,) = seen
    assert moved.dtype == np.uint8
    assert all((a != b).any() for a, b in zip(moved, images.pixels, strict=True))
    white = images.preprocessing()(np.full((1, 3, 32, 32), 255, np.uint8))[0]
    blanked = (result == 0).all(1)
    assert all(0 < share <= 1 / 4 for share in blanked.mean((1, 2))), "a square of 16 pixels in 32, or its part inside"
    np.testing.assert_array_equal(np.where(blanked[:, None], 0, white), result)


def test_images_of_other_shapes_do_not_belong_together(digits):
    train, test = digits
    with pytest.raises(DataError, match="must be alike"):
        training.train(train, replace(test, pixels=np.zeros((360, 3, 8, 8), np.uint8)), SMALL)


@pytest.mark.parametrize("method", ["mse", "percentile"])
def test_a_relu_network_becomes_a_qcfs_network_that_answers_alike(method):
    from torch import nn

    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Linear(20, 50), nn.ReLU(), nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 5)).eval()
    inputs = torch.randn(400, 20, generator=generator)
    converted = to_qcfs(network, 32, inputs, method)
    assert len(qcfs_layers(converted)) == 2
    assert any(isinstance(layer, nn.ReLU) for layer in network.modules()), "the user's network is not changed"
    agreement = (converted(inputs).argmax(1) == network(inputs).argmax(1)).float().mean()
    assert agreement > 0.95
    coarse = to_qcfs(network, 32)
    assert agreement >= (coarse(inputs).argmax(1) == network(inputs).argmax(1)).float().mean(), "calibration helps"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arch": "alexnet"}, "unknown architecture"),
        ({"input_shape": (8, 8)}, "input shape"),
        ({"classes": 0}, "at least one class"),
        ({"levels": 0}, "levels"),
        ({"levels": [4]}, "1 levels were given for 3"),
        ({"pool": "min"}, "pooling"),
        ({"input_shape": (1, 2, 2)}, "too small"),
    ],
)
def test_networks_that_cannot_be_built_are_refused(arguments, message):
    with pytest.raises(ConversionError, match=message):
        build(**{"arch": "cnn", "input_shape": (1, 8, 8), "classes": 10, **arguments})


def test_levels_change_at_the_switch(digits):
    config = replace(SMALL, epochs=3, final_levels=(2, 1))
    seen = {}

    def watch(progress):
        seen.setdefault(progress.epoch, progress)

    model = training.train(*digits, config, progress=watch)
    assert config.switch_epoch == 2
    assert [layer.levels for _, layer in qcfs_layers(model.module)] == model.recipe["levels"] == [2, 1]
    uniform = training.train(*digits, replace(config, final_levels=None))
    assert [layer.levels for _, layer in qcfs_layers(uniform.module)] == [4, 4]


def test_algorithm_4_is_two_trainings_that_share_their_beginning(digits, tmp_path):
    """What it saves by branching changes nothing: a whole second training ends with
    the same weights.
    """
    config = replace(SMALL, epochs=4)
    uniform, adapted = training.train_adaptively(*digits, config, tmp_path / "model.pt", lambda model: [1, 3])
    assert all(torch.equal(v, state(uniform)[k]) for k, v in state(training.train(*digits, config)).items())
    whole = training.train(*digits, replace(config, final_levels=(1, 3)))
    assert all(torch.equal(v, state(adapted)[k]) for k, v in state(whole).items())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.pt", "model.uniform.pt"]
    loaded = checkpoint.load(tmp_path / "model.pt")
    assert [layer.levels for _, layer in qcfs_layers(loaded.module)] == [1, 3]


@pytest.mark.parametrize("stop_at", range(1, 7))
def test_algorithm_4_goes_on_after_an_interruption(digits, tmp_path, stop_at):
    config = replace(SMALL, epochs=3)

    class StoppedError(Exception):
        pass

    def stop(progress):
        steps[0] += 1
        if steps[0] == stop_at * 7:
            raise StoppedError

    steps = [0]
    with pytest.raises(StoppedError):
        training.train_adaptively(*digits, config, tmp_path / "model.pt", lambda model: [1, 2], stop)
    _, adapted = training.train_adaptively(*digits, config, tmp_path / "model.pt", lambda model: [1, 2])
    whole = training.train(*digits, replace(config, final_levels=(1, 2)))
    assert all(torch.equal(v, state(adapted)[k]) for k, v in state(whole).items())


@pytest.mark.parametrize(("epochs", "switch", "advice"), [(1, 2 / 3, 3), (2, 2 / 3, 3), (4, 0.9, 10), (1, 0.5, 2)])
def test_levels_without_an_epoch_of_their_own_are_refused(digits, tmp_path, epochs, switch, advice):
    """The network would be saved as one with these levels, and had never been trained with them."""
    config = replace(SMALL, epochs=epochs, switch=switch)
    with pytest.raises(DataError, match=f"at least {advice} epochs"):
        training.train(*digits, replace(config, final_levels=(2, 1)))
    with pytest.raises(DataError, match=f"at least {advice} epochs"):
        training.train_adaptively(*digits, config, tmp_path / "model.pt", lambda model: [2, 1])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("switch", "message"), [(1.0, "a switch below 1"), (1.5, "a switch below 1"), (0.0, "above 0")]
)
def test_algorithm_4_needs_epochs_on_both_sides_of_the_switch(digits, tmp_path, switch, message):
    config = replace(SMALL, epochs=3, switch=switch)
    with pytest.raises(DataError, match=message):
        training.train_adaptively(*digits, config, tmp_path / "model.pt", lambda model: [2, 1])


def run_training(path, *arguments, launcher=()):
    command = [sys.executable, *launcher, "-m", "pascal_nm", "train", "-o", str(path), *map(str, arguments), "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path):
    """`accelerate launch`: half of every batch each, and as good as one process."""
    pytest.importorskip("accelerate")
    arguments = ["--arch", "mlp", "--epochs", 10]
    one = run_training(tmp_path / "one.pt", *arguments)
    launcher = ["-m", "accelerate.commands.launch", "--num_processes", "2", "--cpu"]
    two = run_training(tmp_path / "two.pt", *arguments, launcher=launcher)
    assert one.returncode == two.returncode == 0, two.stderr
    a, b = (json.loads(done.stdout)["test_accuracy"] for done in (one, two))
    assert abs(a - b) < 0.02
    assert b > 0.93
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.pt", "two.pt"]


@pytest.mark.slow
def test_a_training_killed_ten_times_ends_with_the_same_weights(tmp_path):
    arguments = ["train", "--arch", "mlp", "--epochs", "12", "-o"]
    whole = run_training(tmp_path / "whole.pt", *arguments[1:-1])
    assert whole.returncode == 0, whole.stderr
    rng, kills = np.random.default_rng(), 0
    command = [sys.executable, "-m", "pascal_nm", *arguments, str(tmp_path / "killed.pt")]
    while kills < 10:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            process.wait(2.5 + 2 * rng.random())
            assert kills, "the training must be longer than the time to a kill"
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
    assert subprocess.run(command, capture_output=True, timeout=300).returncode == 0
    a, b = (checkpoint.load(tmp_path / name) for name in ("whole.pt", "killed.pt"))
    assert all(torch.equal(v, state(b)[k]) for k, v in state(a).items())


def test_fine_tuning_begins_with_the_weights_of_a_network_and_leaves_it_as_it_was(digits):
    first = training.train(*digits, replace(SMALL, epochs=6, levels=8))
    kept = state(first)
    still = training.train(*digits, replace(SMALL, epochs=1, levels=8, learning_rate=1e-9), start=first)
    assert still.metrics["test_accuracy"] == pytest.approx(first.metrics["test_accuracy"], abs=0.02)
    tuned = training.train(*digits, replace(SMALL, arch="cnn", options={}, levels=2, learning_rate=0.02), start=first)
    assert tuned.recipe == first.recipe | {"levels": 2}  # the network's architecture, not the configuration's
    assert tuned.levels == (2, 2) != first.levels
    assert all(torch.equal(v, kept[k]) for k, v in state(first).items())
    assert any(not torch.equal(v, kept[k]) for k, v in state(tuned).items())


def test_fine_tuning_keeps_the_preprocessing_that_the_network_was_trained_with(digits):
    first = training.train(*digits, replace(SMALL, epochs=1))
    first.preprocessing = replace(first.preprocessing, mean=(0.25,))
    assert training.train(*digits, replace(SMALL, epochs=1), start=first).preprocessing.mean == (0.25,)


def test_a_relu_network_of_ones_own_is_fine_tuned(digits):
    torch.manual_seed(0)
    relu = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 30), torch.nn.ReLU(), torch.nn.Linear(30, 10))
    calibration = torch.from_numpy(digits[0].preprocessing()(digits[0].pixels))
    start = checkpoint.Model(to_qcfs(relu, 4, calibration), digits[0].shape)
    tuned = training.train(*digits, replace(SMALL, epochs=8), start=start)
    assert tuned.metrics["test_accuracy"] > 0.7
    assert tuned.graph().populations[-1].name  # it converts


def test_a_stopped_fine_tuning_goes_on_from_its_own_start_only(digits, tmp_path):
    one, other = (training.train(*digits, replace(SMALL, epochs=1, seed=seed)) for seed in (1, 2))
    config = replace(SMALL, epochs=2)
    whole = training.train(*digits, config, start=one)

    def stop(progress):
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train_to_file(*digits, config, tmp_path / "model.pt", stop, start=one)
    for start in (other, None):
        with pytest.raises(FileError, match=r"other settings \(start"):
            training.train_to_file(*digits, config, tmp_path / "model.pt", start=start)
    resumed = training.train_to_file(*digits, config, tmp_path / "model.pt", start=one)
    assert all(torch.equal(v, state(whole)[k]) for k, v in state(resumed).items())


def test_what_cannot_be_fine_tuned_is_said(digits):
    first = training.train(*digits, replace(SMALL, epochs=1))
    wide = replace(first, input_shape=(1, 16, 16))
    with pytest.raises(DataError, match=r"takes images of shape \(1, 16, 16\)"):
        training.train(*digits, SMALL, start=wide)
    train, test = digits
    with pytest.raises(DataError, match="has 10 outputs, the training images 9 classes"):
        training.train(
            replace(train, classes=train.classes[:9]), replace(test, classes=test.classes[:9]), SMALL, start=first
        )
    program = torch.export.export(first.module, (torch.zeros(1, 1, 8, 8),))
    with pytest.raises(ConversionError, match="can be run, not trained"):
        training.train(*digits, SMALL, start=replace(first, module=program))


def test_calibration_takes_inputs_not_pixels(recwarn):
    relu = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU())
    with pytest.raises(DataError, match=r"torch.float32, not torch.uint8: preprocess the pixels"):
        to_qcfs(relu, 4, torch.zeros(2, 4, dtype=torch.uint8))
    inputs = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    array, tensor = (to_qcfs(relu, 4, x)[1].threshold for x in (inputs, torch.from_numpy(inputs)))
    assert torch.equal(array, tensor)
    assert not recwarn


def test_one_number_is_the_mean_of_one_channel():
    assert Preprocessing(255.0, 0.1307, np.float32(0.25)) == Preprocessing(255.0, (0.1307,), (0.25,))


def test_averaging_gives_the_mean_of_before_and_after(digits):
    first = training.train(*digits, replace(SMALL, epochs=1))
    after = training.train(*digits, SMALL, start=first)
    mean = training.train(*digits, replace(SMALL, average=True), start=first)
    for name, value in state(mean).items():
        if value.is_floating_point():
            torch.testing.assert_close(value, (state(first)[name] + state(after)[name]) / 2)
    assert mean.metrics["test_accuracy"] != after.metrics["test_accuracy"]


STATES = {
    "a list for a number": lambda s: s["optimizer"]["param_groups"][0].update(lr=[0.1]),
    "a list for the last epoch": lambda s: s["schedule"].update(last_epoch=[3]),
    "text for the longest": lambda s: s["schedule"].update(T_max="x"),
    "a method's name": lambda s: s["schedule"].update(step=3),
    "a momentum of another shape": lambda s: s["optimizer"]["state"][0].update(momentum_buffer=torch.zeros(3)),
    "more epochs than there are": lambda s: s.update(epochs_done=99),
    "epochs that are text": lambda s: s.update(epochs_done="x"),
    "no settings": lambda s: s.update(config=3),
    "no optimizer": lambda s: s.pop("optimizer"),
}


@pytest.fixture(scope="module")
def stopped(digits, tmp_path_factory):
    class StoppedError(Exception):
        pass

    def stop(progress):
        if progress.test_accuracy is not None:
            raise StoppedError

    path = tmp_path_factory.mktemp("stopped") / "model.pt"
    with pytest.raises(StoppedError):
        training.train_to_file(*digits, SMALL, path, stop)
    return training.state_file(path)


@pytest.mark.parametrize("change", STATES.values(), ids=STATES)
def test_a_state_that_no_training_left_is_refused(change, stopped, digits, tmp_path):
    content = torch.load(stopped, weights_only=True)
    change(content)
    torch.save(content, tmp_path / "model.pt.training")
    with pytest.raises(FileError, match="is damaged and cannot be resumed"):
        training.train_to_file(*digits, SMALL, tmp_path / "model.pt")


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # Python ignores the signal, so that writing further fails
from pascal_nm.cli.main import main
sys.argv = ["pascal-nm", "train", "--epochs", "1", "-q", "-o", sys.argv[1]]
main()
"""


def test_a_full_disk_ends_a_training_in_one_line(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path / "model.pt"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: cannot write") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
