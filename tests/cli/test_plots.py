"""Pictures: names in them are shown as they are, whatever a plotting library would make of them."""

import warnings
import xml.dom.minidom
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from pascal_nm.cli import plots
from pascal_nm.errors import DataError
from pascal_nm.export.profile import Measured
from pascal_nm.search.adaptive import LayerMetric, Plan
from pascal_nm.search.comparison import Comparison, Interval, Row
from pascal_nm.search.lags import Cost

NAMES = ["a$b$c", "\\alpha_$1^2$ $\\frac{$", "a\x1b[31mb\t\x00", "\udcff", "<b>&amp;</b> %s {x}"]


def layer(name):
    return SimpleNamespace(name=name, kind="pasc")


MEASURED = [Measured(4, "zero", 5, 0.5, 0.5), Measured(8, "zero", 5, 0.5, 0.5)]
ROW = Row("exact, pasc", True, 0.9, Interval(0.8, 1.0), 1.0, 0, 0, 4.0, 4.2, 30.0, 30, 9.0, 99.0)
COST = Cost((1, 2), 5.0, 6, 1e-6, 0.1)
METRIC = LayerMetric("layer", 4, (9, 1, 1, 1, 1), 0.1, False, 0.5, 1.0, 2.0, 3.0)


def plan(name, metric=3.0):
    return Plan([replace(METRIC, name=name, metric=metric), replace(METRIC, name="other")], [0, 1], [4, 1])


DRAWN = {
    "metric": lambda name, path: plots.metric_bars({name: plan(name), "k": plan(name, float("inf"))}, name, path),
    "activity": lambda name, path: plots.activity([(layer(name), 1.0)], np.array([0.5]), np.array([2]), name, path),
    "accuracy": lambda name, path: plots.accuracy_against_timesteps({name: MEASURED}, 0.9, name, path),
    "energy": lambda name, path: plots.energy({name: {"update": 1e-9}}, {name: 2e-9}, name, path),
    "mesh": lambda name, path: plots.mesh(np.array([[0, 0], [1, 1]]), {name: np.ones(2)}, name, path),
    "methods": lambda name, path: plots.methods(Comparison(0.9, 5, [ROW], {}), name, path),
    "frames": lambda name, path: plots.frames(
        np.ones(3), 2.0, name, {name: np.array([0.5, 0.0, 1.0]), "other": np.zeros(3)}, (0, 2), name, path
    ),
    "costs": lambda name, path: plots.costs([COST], [COST], name, path),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_a_name_is_drawn_as_it_is(draw, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    save = Figure.savefig

    def watched(figure, *arguments, **options):
        save(figure, *arguments, **options)
        from matplotlib.text import Text

        drawn.extend((text.get_text(), text.get_parse_math()) for text in figure.findobj(Text))

    monkeypatch.setattr(Figure, "savefig", watched)
    for name in NAMES:
        drawn.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            draw(name, tmp_path / "x.svg")
        xml.dom.minidom.parse(str(tmp_path / "x.svg"))
        assert not any(math for _, math in drawn)
        assert any(plots.printable(name) in text for text, _ in drawn), (name, drawn)


def test_a_graph_that_dot_does_not_take_is_refused_in_a_line(tmp_path, monkeypatch):
    nirviz = pytest.importorskip("nirviz")

    class Graph:
        def pipe(self, **options):
            raise RuntimeError("syntax error near \\\nand more")

    monkeypatch.setattr(nirviz, "visualize", lambda *a, **o: SimpleNamespace(viz_graph=Graph()))
    with pytest.raises(DataError, match="dot cannot draw this graph: syntax error near"):
        plots.nir_graph(None, tmp_path / "x.svg")
    assert not list(tmp_path.iterdir())
