"""Does the AL metric help? The paper's Table 4 in small, with controls that cost the same.

For each seed a network is trained with L levels everywhere (Algorithm 4, line 1) and its layers are
measured. Then, each time from the same state at two thirds of the same training (line 3), the last
third is trained with other levels for each layer (line 4):

    paper      the levels that the metric of Equations 3 to 6 chooses, by clusters
    authors    the same levels, handed out by the metric of the authors' get_stats.py
    reversed   the same levels, handed out in the opposite order of the paper's metric
    random     the same levels in a random order; several times
    matched    likewise, of the orders with T_eff within 2 % of the paper's, or else the nearest
    flat       one number of levels for all layers: that with the T_eff nearest to the paper's
    uniform    L in all layers

All but the last two have the same levels in another order, so their mean is equal. T_eff (Equation
16, spike rate 0.75) is nearly so where layers have many inputs; a first layer with few of them
makes a difference, which is why there is ``matched``. A metric that helps is more accurate than
random orders, and its reverse is less accurate.

Every run that is done stands in a file of the folder, and the same command goes on from there.
``--table`` prints the tables of folders, as Markdown, and runs nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import shutil
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from pascal_nm import data, training
from pascal_nm.common.files import replacing
from pascal_nm.data import Dataset
from pascal_nm.hw_targets import evaluation
from pascal_nm.search import adaptive
from pascal_nm.source.checkpoint import Model, load, save
from pascal_nm.training import Progress, TrainingConfig

WATCHED = 500
"""Test images whose accuracy is seen after each epoch. The result is over all, at the end."""

CONFIDENCE = 0.95

NEAR = 0.02
"""How far, relatively, T_eff of a matched order may be from the paper's."""

DRAWN = 2000
"""Random orders among which matched ones are looked for."""

CONTROLS = ("uniform", "paper", "authors", "reversed", "random", "matched", "flat")

PAIRS = (
    ("paper", "random"),
    ("paper", "matched"),
    ("paper", "reversed"),
    ("paper", "flat"),
    ("paper", "uniform"),
    ("authors", "random"),
    ("reversed", "random"),
)
"""What is compared, seed by seed."""

Timesteps = Callable[[Sequence[int]], float]
"""T_eff of a network with these levels."""


@dataclass(frozen=True)
class Experiment:
    """What is trained, and where its files are.

    Attributes:
        train: images to learn from.
        test: images whose accuracy is reported.
        config: of the training with uniform levels.
        choice: how the metric's levels are made.
        randoms: random orders for each seed.
        folder: for all files.
    """

    train: Dataset
    test: Dataset
    config: TrainingConfig
    choice: adaptive.Choice
    randoms: int
    folder: Path

    def run(self, seed: int) -> None:
        """All trainings of one seed that are not done yet."""
        config = replace(self.config, seed=seed)
        uniform = self._uniform(config)
        graph = uniform.graph()
        calibration = self.train.head(adaptive.IMAGES)
        found = adaptive.histograms(graph, evaluation.inputs(graph, calibration))
        made = self.choice.plan(found)
        by_authors = [m.metric for m in adaptive.measure(found, "authors")]
        metrics = {"paper": [m.metric for m in made.metrics], "authors": by_authors}
        levels = made.before

        def timesteps(levels: Sequence[int]) -> float:
            return adaptive.effective_timesteps(graph, levels)

        self._result(seed, "uniform", levels, timesteps(levels), uniform, metrics=metrics)
        for name, levels in controls(made, by_authors, timesteps, self.randoms, seed):
            if not self._file(seed, name).exists():
                self._result(seed, name, levels, timesteps(levels), self._branched(config, name, levels))

    def _uniform(self, config: TrainingConfig) -> Model:
        """The network with uniform levels; it stays in the folder, with the state to go on from."""
        file, branch = self.folder / f"seed{config.seed}.uniform.pt", self._branch(config)
        if file.exists() and branch.exists():
            return load(file)
        state = file.with_suffix(".training")
        model = training.train(
            self.train, self.watched, config, progress=said(config, "uniform"), checkpoint=state, branch=branch
        )
        model.metrics["test_accuracy"] = accuracy(model, self.test)
        save(model, file)
        state.unlink()
        return model

    def _branched(self, config: TrainingConfig, name: str, levels: Sequence[int]) -> Model:
        """The last third with other levels, as :func:`training.train_adaptively` has it."""
        config = replace(config, final_levels=tuple(levels))
        state = self.folder / f"seed{config.seed}.{name}.training"
        if not state.exists():
            with replacing(state) as temporary:
                shutil.copyfile(self._branch(config), temporary)
        model = training.train(self.train, self.watched, config, progress=said(config, name), checkpoint=state)
        state.unlink()
        return model

    def _branch(self, config: TrainingConfig) -> Path:
        return self.folder / f"seed{config.seed}.branch"

    @property
    def watched(self) -> Dataset:
        """The images for the eye."""
        return self.test.head(WATCHED)

    def _file(self, seed: int, name: str) -> Path:
        return self.folder / f"seed{seed}.{name}.json"

    def _result(self, seed: int, name: str, levels: Sequence[int], timesteps: float, model: Model, **more: Any) -> None:
        """One finished run."""
        right = accuracy(model, self.test)
        content = {"seed": seed, "control": name.rstrip("0123456789"), "levels": list(levels)}
        content |= {"effective_timesteps": timesteps, "accuracy": right, "test_images": len(self.test), **more}
        with replacing(self._file(seed, name)) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n")
        print(
            f"seed {seed}  {name:9} {','.join(map(str, levels))}  T_eff {timesteps:.3f}  {100 * right:.2f} %",
            flush=True,
        )


def controls(
    made: adaptive.Plan, by_authors: Sequence[float], timesteps: Timesteps, randoms: int, seed: int
) -> Iterator[tuple[str, list[int]]]:
    """Levels by layer for each control, all but ``flat`` in another order of the same."""
    yield "paper", made.levels
    yield "authors", in_order_of(by_authors, made.levels)
    yield "reversed", in_order_of([-m.metric for m in made.metrics], made.levels)
    for i in range(randoms):
        yield f"random{i}", [int(n) for n in np.random.default_rng((seed, i)).permutation(made.levels)]
    for i, levels in enumerate(matched(made.levels, timesteps, randoms, np.random.default_rng((seed, randoms)))):
        yield f"matched{i}", levels
    aim = timesteps(made.levels)
    numbers = range(1, max(made.levels) + 1)
    flat = min(numbers, key=lambda n: abs(timesteps([n] * len(made.levels)) - aim))
    yield "flat", [flat] * len(made.levels)


def matched(levels: Sequence[int], timesteps: Timesteps, orders: int, rng: np.random.Generator) -> list[list[int]]:
    """Other orders of these levels with nearly the same T_eff, or else the nearest one."""
    aim = timesteps(levels)
    drawn = {tuple(int(n) for n in rng.permutation(levels)) for _ in range(DRAWN)} - {tuple(levels)}
    distance = {order: abs(timesteps(order) - aim) for order in drawn}
    nearest = sorted(drawn, key=lambda order: (distance[order], order))
    near = [order for order in nearest if distance[order] <= NEAR * aim] or nearest[:1]
    chosen = rng.choice(len(near), min(orders, len(near)), replace=False)
    return [list(near[i]) for i in chosen]


def in_order_of(metric: Sequence[float], levels: Sequence[int]) -> list[int]:
    """These levels, the most for the lowest metric; of layers that tie, the first has more."""
    result = [0] * len(levels)
    for place, level in zip(np.argsort(metric, kind="stable"), sorted(levels, reverse=True), strict=True):
        result[place] = level
    return result


@torch.no_grad()
def accuracy(model: Model, images: Dataset) -> float:
    """Share of images that the source network answers correctly."""
    assert model.preprocessing is not None, "training gives one"
    right = 0
    for pixels, labels in images.batches(500):
        answers = model.module(torch.from_numpy(model.preprocessing(pixels))).argmax(1)
        right += int((answers.numpy() == labels).sum())
    return right / len(images)


def said(config: TrainingConfig, name: str) -> Any:
    """A line after every epoch."""

    def show(state: Progress) -> None:
        if state.test_accuracy is not None:
            print(
                f"seed {config.seed}  {name:9} epoch {state.epoch}/{state.epochs}  loss {state.loss:.4f}"
                f"  {100 * state.test_accuracy:.1f} % of {WATCHED} test images",
                flush=True,
            )

    return show


def collected(folder: Path) -> dict[str, Any]:
    """All finished runs of a folder and what they say together, also in ``results.json``."""
    runs = [json.loads(path.read_text()) for path in sorted(folder.glob("seed*.json"))]
    content = json.loads((folder / "settings.json").read_text()) | {
        "controls": summary(runs),
        "differences": compared(runs),
        "order": order(runs),
        "runs": runs,
    }
    with replacing(folder / "results.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
    return content


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """By control: levels, T_eff, accuracy, and its difference from the seed's random orders."""
    of = {name: [run for run in runs if run["control"] == name] for name in CONTROLS}
    return {
        name: {
            "mean_level": mean(np.mean(run["levels"]) for run in mine),
            "effective_timesteps": mean(run["effective_timesteps"] for run in mine),
            "accuracy": spread([run["accuracy"] for run in mine]),
            "difference_from_random": spread(differences(mine, of["random"])),
        }
        for name, mine in of.items()
        if mine
    }


def differences(some: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> list[float]:
    """How much more accurate the first are, seed by seed."""
    reference = by_seed(others)
    return [value - reference[seed] for seed, value in by_seed(some).items() if seed in reference]


def compared(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The differences of all pairs."""
    of = {name: [run for run in runs if run["control"] == name] for name in CONTROLS}
    return {f"{one} - {other}": spread(differences(of[one], of[other])) for one, other in PAIRS}


def order(runs: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """How alike the metric sorts the layers: Spearman's rank correlation, its mean over pairs."""
    found = [run["metrics"] for run in runs if "metrics" in run]
    between = [(a["paper"], b["paper"]) for a, b in itertools.combinations(found, 2)]
    within = [(each["paper"], each["authors"]) for each in found]
    return {"between_seeds": rank_correlation(between), "between_readings": rank_correlation(within)}


def rank_correlation(pairs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float | None:
    """The mean over pairs that have an order; None where there are none."""
    defined = [stats.spearmanr(a, b).statistic for a, b in pairs if len(set(a)) > 1 and len(set(b)) > 1]
    return statistics.fmean(map(float, defined)) if defined else None


def by_seed(runs: Sequence[dict[str, Any]]) -> dict[int, float]:
    """The mean accuracy of each seed's runs."""
    seeds = sorted({run["seed"] for run in runs})
    return {seed: mean(run["accuracy"] for run in runs if run["seed"] == seed) for seed in seeds}


def mean(values: Any) -> float:
    """The mean; NaN of nothing."""
    found = [float(value) for value in values]
    return statistics.fmean(found) if found else math.nan


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation, how many, and half the mean's confidence interval (Student's t)."""
    n = len(values)
    deviation = statistics.stdev(values) if n > 1 else None
    half = None if deviation is None else float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * deviation / math.sqrt(n)
    return {"mean": mean(values) if n else None, "deviation": deviation, "n": n, "confidence": half}


def table(content: dict[str, Any]) -> str:
    """A Markdown table and what it says."""
    title = ", ".join([f"{content['data']}: {content['arch']}", *(f"{k} {v}" for k, v in content["options"].items())])
    lines = [
        f"{title}, {content['images']:,} training images, {content['epochs']} epochs",
        "",
        "| levels of the last third | mean L | T_eff | accuracy (%) | runs | less random, by seed (points) |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in content["controls"].items():
        right, difference = row["accuracy"], row["difference_from_random"]
        cells = f"{row['mean_level']:.2f} | {row['effective_timesteps']:.2f} | {around(right)} | {right['n']}"
        lines.append(f"| {name} | {cells} | {'' if name == 'random' else around(difference, '+')} |")
    lines += ["", *(answer(pair, found) for pair, found in content["differences"].items())]
    for what, found in content["order"].items():
        alike = "not defined" if found is None else f"{found:.2f}"
        lines.append(f"- order of the layers by the metric {what.replace('_', ' ')}: Spearman's correlation {alike}")
    return "\n".join(lines)


def around(found: dict[str, Any], sign: str = "") -> str:
    """Mean and deviation in percent."""
    if found["mean"] is None:
        return "-"
    spread_of = "" if found["deviation"] is None else f" ± {100 * found['deviation']:.2f}"
    return f"{100 * found['mean']:{sign}.2f}{spread_of}"


def answer(pair: str, found: dict[str, Any]) -> str:
    """Whether two controls differ, by the confidence interval of the paired difference."""
    if found["confidence"] is None:
        return f"- {pair}: too few seeds to say"
    low, high = (100 * (found["mean"] + side * found["confidence"]) for side in (-1, 1))
    verdict = "more accurate" if low > 0 else "less accurate" if high < 0 else "not told apart"
    return f"- {pair}: {around(found, '+')} points, {verdict} ({CONFIDENCE:.0%} interval {low:+.2f} to {high:+.2f})"


def settings(experiment: Experiment, name: str) -> dict[str, Any]:
    """What the results of a folder depend on."""
    config = experiment.config
    return {
        "data": Path(name).name,
        "arch": config.arch,
        "options": config.options,
        "images": len(experiment.train),
        "epochs": config.epochs,
        "levels": config.levels,
        "clusters": experiment.choice.clusters,
        "cluster_levels": experiment.choice.levels,
    }


def prepare(options: argparse.Namespace) -> Experiment:
    """Images and configuration; the folder is made, or must be of the same settings."""
    train, test = data.load_pair(options.data)
    train = train.head(options.images)
    config = replace(training.defaults(train), epochs=options.epochs)
    if options.arch:
        config = replace(config, arch=options.arch, options={})
    config = replace(config, options=config.options | ({"width": options.width} if options.width else {}))
    choice = adaptive.Choice(options.clusters, options.cluster_levels)
    experiment = Experiment(train, test, config, choice, options.random, options.output)
    file = options.output / "settings.json"
    here = json.dumps(settings(experiment, options.data), indent=2) + "\n"
    options.output.mkdir(parents=True, exist_ok=True)
    if file.exists() and file.read_text() != here:
        raise SystemExit(f"{options.output} holds results of other settings ({file}): give another folder to -o")
    file.write_text(here)
    return experiment


def numbers(text: str) -> tuple[int, ...]:
    """``4,2,1``."""
    return tuple(int(part) for part in text.split(","))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", "-d", default="digits", help="as pascal-nm train takes it")
    parser.add_argument("--seeds", type=int, default=3, help="how many; the first is 0")
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--images", type=int, help="training images; all by default")
    parser.add_argument("--arch", help="by the images by default")
    parser.add_argument("--width", type=float)
    parser.add_argument("--clusters", type=int, default=3)
    parser.add_argument(
        "--cluster-levels", type=numbers, help="L of each, from the lowest metric; L, L/2, L/4 by default"
    )
    parser.add_argument("--random", type=int, default=3, help="random orders for each seed")
    parser.add_argument("--output", "-o", type=Path, default=Path("adaptive_controls"), help="folder of all files")
    parser.add_argument(
        "--table", type=Path, nargs="+", metavar="FOLDER", help="print the tables of these, run nothing"
    )
    options = parser.parse_args()
    if options.table:
        print("\n\n".join(table(collected(folder)) for folder in options.table))
        return
    experiment = prepare(options)
    for seed in range(options.seeds):
        experiment.run(seed)
        print("\n" + table(collected(options.output)) + "\n", flush=True)


if __name__ == "__main__":
    main()
