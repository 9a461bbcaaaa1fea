"""Every schedule on the same network and images.

Timesteps to the answer, spikes, operations, energy. All answers are exact, which is checked.

python benchmarks/schedules.py MODEL --data DATA [--limit 200] [--bits 8] [--levels 2,4,8,16]
    [--plot FILE.svg] [--json FILE] [--rate 64]

--levels gives the same weights other numbers of levels (the accuracy says how well they bear
it). --rate T adds what rate coding answers after each of T timesteps
(pascal_nm/simulation/rate_coding.py): the conversion of the QCFS network, and that of the same
weights with ReLU, whose thresholds come from the images.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from pascal_nm import data, quantize
from pascal_nm.hw_targets import chip, cost, mapping
from pascal_nm.hw_targets.traffic import Traffic
from pascal_nm.network.graph import Timing
from pascal_nm.paper import analysis
from pascal_nm.simulation import events, rate_coding, schedule, simulate
from pascal_nm.source import checkpoint
from pascal_nm.source.architectures import set_levels

COLUMNS = ("accuracy", "steps", "p99", "max", "answer", "excess", "operations", "energy")
HEADER = (
    f"{'':18}{'accuracy':>9}{'quiet: mean':>13}{'99 %':>6}{'max':>5}{'answer':>8}"
    f"{'spikes over least':>19}{'operations':>12}{'energy':>10}"
)


def timings(levels):
    yield "pasc", Timing()
    yield "two_phase", Timing("two_phase")
    for lag in range(levels):
        yield f"streaming, lag {lag}", Timing("streaming", lag)


def measure(graph, timing, inputs, labels, expected, described, watcher):
    """One schedule; every count is compared with the integer QCFS network's."""
    result = simulate.steps(graph.replace(timing=timing), inputs, watcher=watcher)
    for population, count in expected.counts.items():
        assert np.array_equal(count, result.counts[population]), (timing, population)
    counted = events.count(graph, result)
    least = sum(int(count.sum(dtype=np.int64)) for count in expected.counts.values())
    spikes = sum(int(sent.sum(dtype=np.int64)) for sent in result.spikes.values())
    final = result.answers == result.predictions[:, None]
    since = final.shape[1] - np.argmin(final[:, ::-1], axis=1)  # timesteps after which the answer stays what it is
    since[final.all(1)] = 1
    row = {
        "accuracy": float(np.mean(result.predictions == labels)),
        "steps": float(result.timesteps.mean()),
        "p99": float(np.percentile(result.timesteps, 99)),
        "max": int(result.timesteps.max()),
        "answer": float(since.mean()),
        "excess": spikes / least - 1,
        "operations": sum(float(layer.operations.mean()) for layer in counted),
        "energy": sum(layer.dynamic for layer in cost.energy(counted, described)),
        "over_time": (result.answers == labels[:, None]).mean(0).tolist(),
    }
    rates = {name: float(count.mean()) for name, count in expected.counts.items()}
    return row, analysis.analyse(graph, rates).effective_timesteps


def draw(report, path):
    """Left: energy against timesteps for each L.

    Right: accuracy over time at the network's own L.
    """
    import matplotlib
    from matplotlib.figure import Figure

    from pascal_nm.report.style import COLOURS

    matplotlib.rcParams["svg.hashsalt"] = "pascal-nm"
    figure = Figure((10, 5.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, (levels, rows) in enumerate(report["levels"].items()):
        stream = [row for name, row in rows.items() if name.startswith("streaming")]
        places, heights = [r["steps"] for r in stream], [1e3 * r["energy"] for r in stream]
        left.plot(
            places, heights, "o-", color=COLOURS[i], markersize=4, label=f"L = {levels}: streaming, lags from the left"
        )
        for name, marker in (("two_phase", "s"), ("pasc", "*")):
            left.plot(rows[name]["steps"], 1e3 * rows[name]["energy"], marker, color=COLOURS[i], markersize=9)
    left.plot([], [], "s", color="grey", label="two phases")
    left.plot([], [], "*", color="grey", label="the paper's schedule")
    left.set(xlabel="timesteps to the exact answer, mean", ylabel=f"mJ per image, {report['chip']}", xscale="log")
    ticks = [t for t in (10, 20, 30, 50, 70, 100, 150, 200, 300, 500) if left.get_xlim()[0] <= t <= left.get_xlim()[1]]
    left.set_xticks(ticks, [str(t) for t in ticks])
    left.set_xticks([], minor=True)
    left.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    own = report["levels"][str(report["own"])]
    for i, name in enumerate(["streaming, lag 0", "streaming, lag 1", "two_phase", "pasc"]):
        if name in own:
            curve = own[name]["over_time"]
            right.plot(range(1, len(curve) + 1), 100 * np.array(curve), color=COLOURS[i], label=name)
    for i, (name, curve) in enumerate(report["rate"].items()):
        right.plot(range(1, len(curve) + 1), 100 * np.array(curve), "--", color=COLOURS[4 + i], label=name)
    right.axhline(100 * own["pasc"]["accuracy"], color="black", linewidth=0.8, linestyle=":", label="source network")
    right.set(xlabel="timesteps", ylabel="accuracy (%)", ylim=(0, 102))
    right.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    figure.suptitle(report["title"])
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--bits", type=int, default=8)
    parser.add_argument("--levels", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--chip", default="loihi1_calibrated")
    parser.add_argument("--rate", type=int, default=0)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = checkpoint.load(options.model)
    own = max(p.levels for p in model.graph().spiking)
    images = data.load(options.data, limit=options.limit)
    described = chip.load(options.chip)
    title = f"{options.model.name}, {len(images)} images of {images.name}, {options.bits} bits"
    report = {"title": title, "chip": described.name, "own": own, "levels": {}, "rate": {}}
    for levels in options.levels or [own]:
        if options.levels:
            set_levels(model.module, levels)
        graph = quantize(model.graph(), options.bits)
        inputs = graph.pixels(images.pixels)
        expected = simulate.counts(graph, inputs)
        watcher = Traffic(mapping.place(graph, described, "cores")) if described.core else None
        layers = sum(1 for _ in graph.spiking) + 1
        depth = max(w.start for w in schedule.streaming(graph).windows.values())
        print(f"{title}: L = {levels}, {layers} layers, {depth} populations on the longest path\n{HEADER}", flush=True)
        rows = report["levels"][str(levels)] = {}
        for name, timing in timings(levels):
            rows[name], effective = measure(graph, timing, inputs, images.labels, expected, described, watcher)
            r = rows[name]
            print(
                f"{name:18}{100 * r['accuracy']:7.2f} %{r['steps']:13.1f}{r['p99']:6.0f}{r['max']:5d}{r['answer']:8.1f}"
                f"{100 * r['excess']:17.2f} %{r['operations']:12,.0f}{1e3 * r['energy']:7.3f} mJ",
                flush=True,
            )
        print(
            f"the paper's own count for its schedule, from these spike rates: T_eff = {effective:.2f} (Equation 16)\n"
        )
    if options.rate:
        set_levels(model.module, own)
        graph = model.graph()
        inputs = graph.pixels(images.pixels)
        relu = np.mean(rate_coding.relu_logits(graph, inputs).argmax(1) == images.labels)
        for name, made in (
            ("QCFS conversion, rate coded, no delays", rate_coding.qcfs(graph)),
            (f"ReLU conversion (its ReLU network: {100 * relu:.1f} %)", rate_coding.relu(graph, inputs)),
        ):
            answers = rate_coding.run(made, inputs, options.rate).answers
            report["rate"][name] = (answers == images.labels[:, None]).mean(0).tolist()
        places = [t for t in (4, 8, 16, 32, 64, 128, 256) if t <= options.rate]
        for name, curve in report["rate"].items():
            print(f"{name}: " + ", ".join(f"T = {t}: {100 * curve[t - 1]:.2f} %" for t in places))
    print(
        "Every count of every layer is the integer QCFS network's, in each row. Energy: "
        f"{described.name}, of counted events."
    )
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.plot:
        draw(report, options.plot)


if __name__ == "__main__":
    main()
