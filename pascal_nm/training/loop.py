"""Training of QCFS networks, seeded and resumable.

It is SGD with momentum and a cosine schedule (Appendix A.8 of the paper).
"""

from __future__ import annotations

import copy
import hashlib
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn import functional as F

from pascal_nm.common import memory
from pascal_nm.common.arrays import Array
from pascal_nm.common.files import replacing
from pascal_nm.data import WHOLE, Dataset, Images, Part
from pascal_nm.data.augmentation import augment, auto_augment
from pascal_nm.errors import ConversionError, DataError, FileError, first_line
from pascal_nm.source import tensors
from pascal_nm.source.architectures import build, qcfs_layers, set_levels
from pascal_nm.source.checkpoint import Model, save
from pascal_nm.training.pointwise import StrideBySlicing
from pascal_nm.training.quantized import QuantizedForward, recipe_of

_LARGE = 128
"""Side of images from which on networks begin with the ImageNet stem."""

PAPER_THRESHOLD = 1.0
"""Where the thresholds of the paper's authors start (``IF`` in their ``models/layer.py``); 8 in
QCFS, 2 in :func:`pascal_nm.source.architectures.build`."""


@dataclass(frozen=True)
class TrainingConfig:
    """What a training depends on: with the same data, the same weights on the same machine.

    Attributes:
        arch: name of an architecture in :data:`pascal_nm.source.architectures.ARCHITECTURES`.
        levels: L for all QCFS layers, or one number for each.
        options: further arguments of :func:`pascal_nm.source.architectures.build`.
        epochs: passes over the data.
        batch_size: images in a step.
        learning_rate: at the start; a cosine brings it to zero.
        momentum: of SGD.
        weight_decay: on weights of convolutions and linear layers only. Decaying a threshold
            or a normalization's scale would shrink the range of the activations for no gain
            in generalization.
        decay_all: decay every parameter all the same, thresholds, biases and normalizations too, as
            the paper's authors do.
        label_smoothing: share of the target spread over all classes.
        shift: images are moved by up to so many pixels each way (random crop).
        flip: images are mirrored at random.
        cutout: side of a square that is blanked out at random; 0 for none.
        auto_augment: change each image by a random sub-policy of AutoAugment for CIFAR-10, after
            crop and flip and before Cutout.
        mixed_precision: run the forward pass in bfloat16.
        channels_last: keep images in the memory order that convolutions like on many processors.
        compile: compile the network with ``torch.compile``.
        final_levels: levels from the epoch ``switch * epochs`` on (Algorithm 4, line 4); None
            keeps ``levels``.
        switch: share of the epochs that are trained with ``levels`` first, 2/3 in the paper.
        average: of a fine-tuned network, the mean of the weights, thresholds and statistics
            that it began with and those that it ended with: one step of stochastic weight
            averaging (Izmailov et al., https://arxiv.org/abs/1803.05407), between the ends of
            two cosine schedules.
        half: round the trained weights to half precision, so that the file is half as large. The
            accuracy is that of the rounded weights.
        bits: fine-tune for integer weights of so many bits, 2 to 8: one number for all layers, or
            one for each and the output. The network then runs in the arithmetic of its integer
            network (:mod:`pascal_nm.training.quantized`), whose accuracies these are.
        seed: of weights, order and augmentation.
        device: ``cpu``, ``cuda``…
    """

    arch: str = "cnn"
    levels: int | tuple[int, ...] = 4
    options: dict[str, Any] = field(default_factory=dict)
    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_all: bool = False
    label_smoothing: float = 0.0
    shift: int = 0
    flip: bool = False
    cutout: int = 0
    auto_augment: bool = False
    mixed_precision: bool = False
    channels_last: bool = False
    compile: bool = False
    final_levels: int | tuple[int, ...] | None = None
    switch: float = 2 / 3
    average: bool = False
    half: bool = False
    bits: int | tuple[int, ...] | None = None
    seed: int = 0
    device: str = "cpu"

    @property
    def switch_epoch(self) -> int:
        """The first epoch with ``final_levels``, counted from 0."""
        return min(self.epochs, math.ceil(self.switch * self.epochs))


class Progress(NamedTuple):
    """Where a training stands.

    Attributes:
        epoch: the running epoch, from 1.
        epochs: how many there will be.
        images: images seen in this epoch.
        total: images of an epoch.
        loss: mean over the epoch so far.
        train_accuracy: over the epoch so far.
        test_accuracy: at the end of the epoch; None before.
    """

    epoch: int
    epochs: int
    images: int
    total: int
    loss: float
    train_accuracy: float
    test_accuracy: float | None


def defaults(data: Images) -> TrainingConfig:
    """A configuration that suits the images: their size decides.

    For large ones batch size, weight decay and learning rate are those of He et al.
    (https://arxiv.org/abs/1512.03385, section 3.4). Images that are random crops already are not
    moved or blanked out as well.
    """
    config = _by_size(_image_shape(data))
    return replace(config, shift=0, cutout=0) if data.crops else config


def _image_shape(data: Images) -> tuple[int, int, int]:
    """(C, H, W) of images that can be trained on."""
    if isinstance(data, Dataset):
        data.check_images()
    channels, height, width = data.shape
    return channels, height, width


def _by_size(shape: tuple[int, int, int]) -> TrainingConfig:
    channels, height, width = shape
    if height <= 8:
        return TrainingConfig(epochs=25, shift=1)
    if min(height, width) >= _LARGE:
        return TrainingConfig(
            arch="resnet18",
            options={"stem": "imagenet"},
            epochs=90,
            batch_size=256,
            weight_decay=1e-4,
            shift=height // 8,
            flip=True,
            channels_last=True,
        )
    if channels == 1:
        return TrainingConfig(arch="resnet8", epochs=12, batch_size=128, shift=2, channels_last=True)
    return TrainingConfig(
        arch="resnet18",
        options={"width": 0.25},
        epochs=40,
        batch_size=128,
        shift=4,
        flip=True,
        cutout=8,
        channels_last=True,
    )


def paper_recipe(data: Images) -> TrainingConfig:
    """The training of the paper: Appendix A.8, and what it leaves open as its authors' code has it.

    A.8 gives the optimizer, the cosine, the learning rates and the weight decay. Epochs, batch
    size, augmentation, the decay of *all* parameters and the thresholds' start at 1 (8 in QCFS, on
    whose code theirs rests) are those of ``main_train.py``, ``main_train_imagenet.py``,
    ``preprocess/`` and ``models/layer.py`` in https://github.com/BrainSeek-Lab/PASCAL. Their cosine
    moves once an epoch, ours with every step. The architecture is the caller's; without one it is a
    ResNet-18 of full width, one of the paper's three.

    Args:
        data: colour images. A hundred classes of 32x32 pixels are CIFAR-100, sides from
            :data:`_LARGE` on mean the ImageNet form.

    Raises:
        DataError: images with another number of channels than three, which the paper
            does not train on.
    """
    channels, height, width = _image_shape(data)
    if channels != 3:
        raise DataError(
            f"the paper's recipe is for colour images, {data.name} has {channels} channel(s): leave --recipe out, "
            "or choose other images"
        )
    if min(height, width) >= _LARGE:
        large = defaults(data)
        return replace(large, options={**large.options, "threshold": PAPER_THRESHOLD}, decay_all=True)
    cifar100 = data.shape == (3, 32, 32) and len(data.classes) == 100
    return TrainingConfig(
        arch="resnet18",
        options={"threshold": PAPER_THRESHOLD},
        epochs=300,
        batch_size=300,
        learning_rate=0.02 if cifar100 else 0.1,
        decay_all=True,
        shift=0 if data.crops else 4,
        flip=True,
        cutout=0 if data.crops else 16,
        auto_augment=True,
        channels_last=True,
    )


RECIPES: Mapping[str, Callable[[Images], TrainingConfig]] = {"paper": paper_recipe}
"""Configurations by name, made for the images."""


def recipe(name: str, data: Images) -> TrainingConfig:
    """The configuration of a recipe for some images.

    Raises:
        DataError: an unknown recipe, or images that it is not for.
    """
    if name not in RECIPES:
        raise DataError(f"--recipe takes {', '.join(RECIPES)}, not {name!r}")
    return RECIPES[name](data)


def train(
    train_data: Images,
    test_data: Images,
    config: TrainingConfig,
    *,
    start: Model | None = None,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: str | Path | None = None,
    branch: str | Path | None = None,
) -> Model:
    """Train a network from scratch or from another one's weights, or go on from a checkpoint.

    The checkpoint is one of a training.

    Args:
        train_data: images to learn from: a :class:`pascal_nm.data.Dataset`, or a stream
            (:mod:`pascal_nm.data.streams`).
        test_data: images for the accuracy in ``progress`` and in the model's metrics.
        config: see :class:`TrainingConfig`.
        start: a network to begin with (fine-tuning): its weights, architecture and preprocessing,
            so that ``config.arch`` and ``config.options`` have no effect. Its levels become those
            of ``config``. The network itself stays as it is.
        progress: called after every step, and after every epoch with the accuracy on ``test_data``.
        checkpoint: a file for the whole state of the training. It is replaced after every epoch; if
            it exists, training goes on from it and ends with the same weights as an unbroken run.
        branch: a file for the state at ``config.switch_epoch``, from which a training with other
            ``final_levels`` can start.

    Raises:
        DataError: no epoch is left for ``config.final_levels``; test images do not look like the
            training images, or these not like what ``start`` takes; ``config.bits`` without a
            ``start``, out of their range, or with what computes in other numbers.
        ConversionError: ``start`` is a program of ``torch.export``, which can be run, not trained.
        GraphError: ``config.bits`` are for another number of layers.
        FileError: the checkpoint is damaged or belongs to another configuration.
    """
    if config.final_levels is not None:
        _check_switch(config)
    if config.bits is not None:
        _check_bits(config, start)
    if _image_shape(test_data) != _image_shape(train_data) or len(test_data.classes) > len(train_data.classes):
        raise DataError(f"training images are {train_data.shape}, test images {test_data.shape}: they must be alike")
    torch.manual_seed(config.seed)
    if start is None:
        recipe = {
            "arch": config.arch,
            "input_shape": list(train_data.shape),
            "classes": len(train_data.classes),
            **config.options,
        }
        run = _Training(build(**{**recipe, "levels": _listed(config.levels)}), train_data, config)
    else:
        recipe = dict(start.recipe)
        run = _Training(_started(start, train_data, config.levels), train_data, config, start)
    first = 0 if checkpoint is None or not Path(checkpoint).exists() else run.restore(checkpoint)
    accuracy = run.accuracy(test_data) if first else 0.0
    for epoch in range(first, config.epochs):
        for state in run.epoch(epoch):
            if progress is not None:
                progress(state)
        accuracy = run.accuracy(test_data)
        for path in (checkpoint, branch if epoch + 1 == config.switch_epoch else None):
            if path is not None and is_main_process():
                run.store(path, epoch + 1)
        if progress is not None:
            progress(state._replace(test_accuracy=accuracy))
    run.set_levels(config.epochs)
    if config.average and start is not None:
        run.average(start)
    if config.half:
        run.round_weights()
    if config.average or config.half:
        accuracy = run.accuracy(test_data)
    final = config.levels if config.final_levels is None else config.final_levels
    metrics = {"test_accuracy": accuracy, "epochs": float(config.epochs)}
    if recipe:
        recipe["levels"] = _listed(final)
    module = _placed(run.module, "cpu", torch.contiguous_format).eval()
    return Model(
        module, train_data.shape, train_data.classes, run.preprocessing, recipe, train_data.name, metrics, config.bits
    )


_ABSENT: dict[str, Any] = {"start": "", "decay_all": False, "bits": None}
"""What the state of a training means by saying nothing of a setting that it could not
have had otherwise."""


def _check_switch(config: TrainingConfig) -> None:
    """Refuse a training that would claim levels with which its network was not trained.

    Raises:
        DataError: no epoch comes after the switch.
    """
    if config.switch_epoch >= config.epochs:
        many = config.epochs + 1
        while config.switch < 1 and replace(config, epochs=many).switch_epoch == many:
            many += 1
        advice = f"give at least {many} epochs" if config.switch < 1 else "give a switch below 1"
        raise DataError(
            f"other levels come after {config.switch:.3g} of the epochs, "
            f"which leaves none of {config.epochs} to train with them: {advice}"
        )


def _check_bits(config: TrainingConfig, start: Model | None) -> None:
    """Refuse bits that a network cannot be trained for.

    Raises:
        DataError: there is no network to begin with, whose normalizations have statistics; or what
            computes is not what the integers stand for.
    """
    recipe_of(config.bits or 0)
    if start is None:
        raise DataError("bits are for fine-tuning, from statistics of a trained network: give --from with --bits")
    for option, given in (("--mixed-precision", config.mixed_precision), ("--compile", config.compile)):
        if given:
            raise DataError(f"{option} does not go with --bits, which computes in whole numbers: leave it out")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise DataError("--bits trains in one process: leave `accelerate launch` out")


def state_file(path: str | Path) -> Path:
    """Where the state of a training into ``path`` stands until it is done."""
    return Path(f"{path}.training")


def train_to_file(
    train_data: Images,
    test_data: Images,
    config: TrainingConfig,
    path: str | Path,
    progress: Callable[[Progress], None] | None = None,
    start: Model | None = None,
) -> Model:
    """Train and write ``path``.

    Until then the state stands in :func:`state_file`, from which a stopped training goes on.
    """
    state = state_file(path)
    model = train(train_data, test_data, config, start=start, progress=progress, checkpoint=state)
    if is_main_process():
        save(model, path)
        state.unlink(missing_ok=True)
    return model


def uniform_file(path: str | Path) -> Path:
    """Where :func:`train_adaptively` writes the network with uniform levels.

    ``model.uniform.pt`` beside ``model.pt``.
    """
    return Path(path).with_suffix(f".uniform{Path(path).suffix}")


def train_adaptively(
    train_data: Images,
    test_data: Images,
    config: TrainingConfig,
    path: str | Path,
    choose: Callable[[Model], Sequence[int]],
    progress: Callable[[Progress], None] | None = None,
    start: Model | None = None,
) -> tuple[Model, Model]:
    """Train with uniform levels, measure, and train again with levels of its own for each layer.

    This is Algorithm 4; the second training goes on from ``switch_epoch`` on.

    Where ``config`` has final levels, they are the uniform ones, and both trainings begin with its
    ``levels``. Up to ``switch_epoch`` the second training is the first one, step by step (same
    seed, same levels), so it starts from the state that the first left there. Every stage goes on
    after an interruption.

    Args:
        train_data: images to learn from.
        test_data: images for the accuracy.
        config: of both trainings.
        path: where the second network is written; the first goes to :func:`uniform_file`.
        choose: gives the levels of each layer for the first network
            (:mod:`pascal_nm.search.adaptive`).
        progress: as in :func:`train`.
        start: as in :func:`train`.

    Returns:
        The network with uniform and that with adapted levels.

    Raises:
        DataError: no epoch before ``switch_epoch``, or none after it: three epochs are needed where
            it is at two thirds. And as :func:`train`.
    """
    _check_switch(config)
    if config.switch_epoch == 0:
        raise DataError("Algorithm 4 begins with uniform levels: give a switch above 0")
    first, second, branch = (Path(f"{path}.{name}") for name in ("uniform.training", "training", "branch"))
    uniform = train(train_data, test_data, config, start=start, progress=progress, checkpoint=first, branch=branch)
    if not second.exists() and is_main_process():
        with replacing(second) as temporary:
            shutil.copyfile(branch, temporary)
    config = replace(config, final_levels=tuple(choose(uniform)))
    adapted = train(train_data, test_data, config, start=start, progress=progress, checkpoint=second)
    if is_main_process():
        save(uniform, uniform_file(path))
        save(adapted, path)
        for state in (first, second, branch):
            state.unlink(missing_ok=True)
    return uniform, adapted


def is_main_process() -> bool:
    """False in all but one process of ``accelerate launch``."""
    return os.environ.get("RANK", "0") == "0"


def _started(start: Model, data: Images, levels: int | tuple[int, ...]) -> nn.Module:
    """A copy of a network to begin with, with the levels of the first epochs."""
    if isinstance(start.module, ExportedProgram):
        raise ConversionError(
            "a program of torch.export (.pt2) can be run, not trained: fine-tune the module it was made of"
        )
    if start.input_shape != data.shape:
        raise DataError(
            f"the network to begin with takes images of shape {start.input_shape}, the training images are {data.shape}"
        )
    module = copy.deepcopy(start.module)
    outputs = module(torch.zeros(1, *data.shape)).shape[1]
    if outputs != len(data.classes):
        raise DataError(
            f"the network to begin with has {outputs} outputs, the training images {len(data.classes)} classes"
        )
    set_levels(module, levels)
    return module


def _digest(module: nn.Module) -> str:
    """What tells networks with different weights or buffers apart."""
    found = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        found.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    return found.hexdigest()[:16]


def _listed(levels: int | tuple[int, ...]) -> int | list[int]:
    return levels if isinstance(levels, int) else list(levels)


class _Training:
    """A network with its optimizer, on its device."""

    def __init__(self, module: nn.Module, data: Images, config: TrainingConfig, start: Model | None = None) -> None:
        self.config, self.data = config, data
        given = None if start is None else start.preprocessing
        self.preprocessing = given or data.preprocessing()
        self.start = "" if start is None else _digest(module)
        self.memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        self.processes = _processes(config)
        self.device = str(self.processes.device) if self.processes else _usable(config.device)
        self.module = _placed(module, self.device, self.memory_format)
        self.network: Callable[..., Any] = torch.compile(self.module) if config.compile else self.module
        decayed = [p for p in module.parameters() if p.ndim > 1 or config.decay_all]
        others = [p for p in module.parameters() if p.ndim <= 1 and not config.decay_all]
        self.optimizer = torch.optim.SGD(
            [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=config.learning_rate,
            momentum=config.momentum,
        )
        if self.processes:
            self.network = self.processes.prepare_model(self.network)
        self.part = Part(self.processes.process_index, self.processes.num_processes) if self.processes else WHOLE
        self.images = self._whole_batches(len(data))
        self.steps = math.ceil(self.images / config.batch_size)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, max(1, config.epochs * self.steps))
        self.quantized = self._quantized()

    def _quantized(self) -> QuantizedForward | None:
        """What runs in the place of a network that is trained for a number of bits."""
        config = self.config
        if config.bits is None:
            return None
        return QuantizedForward(
            self.module, self.data.shape, self.preprocessing, recipe_of(config.bits), half=config.half
        )

    def set_levels(self, epoch: int) -> None:
        """The levels of an epoch."""
        if self.config.final_levels is not None and epoch >= self.config.switch_epoch:
            before = [layer.levels for _, layer in qcfs_layers(self.module)]
            set_levels(self.module, self.config.final_levels)
            if before != [layer.levels for _, layer in qcfs_layers(self.module)]:
                self.quantized = self._quantized()

    def _train_mode(self, training: bool) -> Callable[..., Any]:
        """The network in one of its modes, ready to run."""
        if self.quantized is not None:
            self.quantized.train(training)
            return self.quantized
        self.module.train(training)
        return self.network if training else self.module

    def epoch(self, number: int) -> Iterator[Progress]:
        """One pass over the data, step by step.

        Order and augmentation depend on the seed and the number only.
        """
        self.set_levels(number)
        rng = np.random.default_rng((self.config.seed, number))
        torch.manual_seed(int(rng.integers(2**31)))
        network = self._train_mode(True)
        loss_sum, correct, seen = 0.0, 0, 0
        batches = self.data.shuffled(rng, self.config.batch_size, self.images, self.part)
        if self.processes:  # the same order in all, other augmentations in each
            rng = np.random.default_rng((self.config.seed, number, self.part.rank))
        for pixels, targets in batches:
            images = self._augmented(pixels, rng)
            labels = torch.from_numpy(targets).to(self.device)
            self.optimizer.zero_grad(set_to_none=True)
            autocast = torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.config.mixed_precision)
            with StrideBySlicing(), autocast:
                logits = network(images)
                loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.config.label_smoothing)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.schedule.step()
            right = (logits.argmax(1) == labels).sum()
            batch = self._summed(torch.stack([loss.detach() * len(labels), right, torch.full_like(right, len(labels))]))
            if not math.isfinite(batch[0]):
                raise DataError(
                    f"the training diverged in epoch {number + 1}: "
                    f"try a learning rate below {self.config.learning_rate:g}"
                )
            loss_sum, correct, seen = loss_sum + batch[0], correct + round(batch[1]), seen + round(batch[2])
            yield Progress(
                number + 1,
                self.config.epochs,
                seen,
                len(self.data),
                loss_sum / seen,
                correct / seen,
                test_accuracy=None,
            )

    def _augmented(self, pixels: Array, rng: np.random.Generator) -> Tensor:
        """Images of the training data, as the network sees them."""
        config = self.config
        if not config.auto_augment:
            return augment(self._inputs(pixels), rng, shift=config.shift, flip=config.flip, cutout=config.cutout)
        # The policy follows crop and flip, as in its publication's baseline and in the authors'
        # code: the border is black, not the mean colour.
        moved = augment(torch.from_numpy(pixels), rng, shift=config.shift, flip=config.flip, cutout=0).numpy()
        return augment(self._inputs(auto_augment(moved, rng)), rng, shift=0, flip=False, cutout=config.cutout)

    @torch.no_grad()
    def average(self, start: Model) -> None:
        """The mean of this network and the one that it began with."""
        assert isinstance(start.module, nn.Module), "_started refuses a program"
        before = start.module.state_dict()
        for name, value in self.module.state_dict().items():
            if value.is_floating_point():
                value.lerp_(before[name].to(value), 0.5)

    @torch.no_grad()
    def round_weights(self) -> None:
        """Round the weights of convolutions and linear layers to half precision."""
        for parameter in self.module.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.half())

    @torch.no_grad()
    def accuracy(self, data: Images) -> float:
        """Share of correct predictions."""
        network = self._train_mode(False)
        if self.processes:  # every process has statistics of its own images; those of the first are the network's
            for buffer in self.module.buffers():
                torch.distributed.broadcast(buffer, 0)
        counts = torch.zeros(2, device=self.device)
        size = memory.batch_size(math.prod(data.shape), memory.TRAIN)
        for pixels, labels in data.batches(size, self.part):
            right = network(self._inputs(pixels)).argmax(1) == torch.from_numpy(labels).to(self.device)
            counts += torch.stack([right.sum(), torch.full_like(right.sum(), len(labels))])
        right_in_all, images = self._summed(counts)
        return right_in_all / images

    def store(self, path: str | Path, epochs_done: int) -> None:
        """Write the whole state of the training."""
        state = {
            "config": self._settings(),
            "epochs_done": epochs_done,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        tensors.save(state, path)

    def restore(self, path: str | Path) -> int:
        """Go on from a state; gives the number of epochs done."""
        try:
            state = tensors.load(path)
            here = self._settings()
            stored = here | _ABSENT | state["config"]  # states of earlier versions say less
            if not self._fits(stored, here, int(state["epochs_done"])):
                other = ", ".join(_changed(stored, here))
                raise FileError(f"{path} belongs to a training with other settings ({other}): delete it, or use those")
            epochs_done = int(state["epochs_done"])
            if not 0 <= epochs_done <= self.config.epochs:
                raise ValueError(f"{epochs_done} of {self.config.epochs} epochs are done")
            own = {"optimizer": self._optimizer_state(), "schedule": self.schedule.state_dict()}
            _check_form({key: state[key] for key in own}, own)
            self.module.load_state_dict(state["module"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            return epochs_done
        except FileError:
            raise
        except Exception as error:  # damaged files raise many types
            raise FileError(f"{path} is damaged and cannot be resumed: delete it to start anew") from error

    def _optimizer_state(self) -> dict[str, Any]:
        """The optimizer's state as it is after the first step."""
        state = self.optimizer.state_dict()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        return state | {"state": {i: {"momentum_buffer": p} for i, p in enumerate(parameters)}}

    def _settings(self) -> dict[str, Any]:
        """What the weights depend on."""
        return _plain(self.config) | {
            "input_shape": list(self.data.shape),
            "images": len(self.data),
            "start": self.start,
        }

    def _fits(self, stored: dict[str, Any], here: dict[str, Any], epochs_done: int) -> bool:
        """Whether a state belongs to this training.

        Before the switch it does not depend on the final levels.
        """
        if epochs_done <= self.config.switch_epoch:
            here, stored = ({**settings, "final_levels": None} for settings in (here, stored))
        return here == stored

    def _whole_batches(self, images: int) -> int:
        """How many of an epoch's images are used: not a last batch that is too small."""
        smallest = 2 * self.part.of  # Batch normalization needs two images in every process.
        last = images % self.config.batch_size
        return images - last if last < min(smallest, images) else images

    def _summed(self, values: Tensor) -> list[float]:
        """Values added up over all processes."""
        total = self.processes.reduce(values, "sum") if self.processes else values
        return [float(x) for x in total]

    def _inputs(self, pixels: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(self.preprocessing(pixels)).to(self.device, memory_format=self.memory_format)


def _usable(device: str) -> str:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DataError(f"this torch cannot use the device {device!r}: {first_line(error)}") from error
    return device


def _processes(config: TrainingConfig) -> Any:
    """The accelerator of ``accelerate launch``, or None in a program of one process."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return None
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise DataError("training in several processes needs accelerate: pip install 'pascal-nm[train]'") from error
    return Accelerator(cpu=config.device == "cpu")


def _check_form(stored: Any, own: Any) -> None:
    """Refuse values of other kinds than a training's own.

    Torch takes them over without looking, and fails on them later.

    Raises:
        ValueError: a number where there must be a list, a tensor of another shape, an unknown name…
    """
    if isinstance(own, dict):
        for key, value in stored.items():
            _check_form(value, own[key])
    elif isinstance(own, list):
        for value, one in zip(stored, own, strict=True):
            _check_form(value, one)
    elif isinstance(own, Tensor):
        if stored.shape != own.shape:
            raise ValueError(f"shape {tuple(stored.shape)} instead of {tuple(own.shape)}")
    elif not isinstance(stored, (int, float) if isinstance(own, int | float) else type(own)):
        raise ValueError(f"{type(stored).__name__} instead of {type(own).__name__}")


def _changed(stored: dict[str, Any], here: dict[str, Any]) -> list[str]:
    return [f"{key} {stored.get(key)} instead of {value}" for key, value in here.items() if stored.get(key) != value]


def _plain(config: TrainingConfig) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}


def _placed(module: nn.Module, device: str, memory_format: torch.memory_format) -> nn.Module:
    to: Callable[..., nn.Module] = module.to  # torch's overloads do not know memory_format
    return to(device, memory_format=memory_format)
