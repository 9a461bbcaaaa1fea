"""The report: its numbers are those of a run, and its page shows them, offline, light and dark, on
a desk and on a phone.
"""

import html
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from pascal_nm import data
from pascal_nm.cli.main import main
from pascal_nm.common.files import sha256
from pascal_nm.export.nir_format import write_nir
from pascal_nm.hw_targets import run
from pascal_nm.hw_targets.choices import rows
from pascal_nm.network.graph import Timing
from pascal_nm.search.adaptive import histograms
from pascal_nm.source.checkpoint import Model, load
from tests.networks import for_digits

pytest.importorskip("plotly")

IMAGES = 24
FIGURES = {"network", "counts", "rates", "metric", "raster", "potential", "chips", "energy", "cores", "timesteps"}


def command(*arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["pascal-nm", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
    return end.value.code


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with model.pt, model.nir, and the report of the latter: report.html
    and report.json.
    """
    folder = tmp_path_factory.mktemp("report")
    assert command("train", "--epochs", 1, "--width", 0.25, "-q", "-o", folder / "model.pt") == 0
    assert command("export", folder / "model.pt", "--nir", "-q") == 0
    chips = ("--chip", "loihi1", "--chip", "cmos45_int8")
    network = (folder / "model.nir", "--model", folder / "model.pt", "--limit", IMAGES)
    assert command("report", *network, *chips, "-q", "-o", folder / "report.html") == 0
    return folder


@pytest.fixture(scope="module")
def report(made):
    return json.loads((made / "report.json").read_text())


@pytest.fixture(scope="module")
def page(made):
    return (made / "report.html").read_text(encoding="utf-8")


def test_accuracy_spikes_and_curves_are_those_of_a_run(made, report):
    graph, images = load(made / "model.pt").graph(), data.load("digits", limit=IMAGES)
    by_name = {each["schedule"]: each for each in report["schedules"]}
    assert list(by_name) == ["pasc", "two_phase", "streaming", "graded"]
    for name, each in by_name.items():
        result = run(graph.replace(timing=Timing(name)), images)
        steps = int(result.timesteps.max())
        assert each["accuracy"] == result.accuracy == report["accuracy"]
        assert each["accuracy_over_time"] == result.accuracy_over_time[:steps].tolist()
        assert each["certified_over_time"][-1] == each["certified"] == result.exact.mean()
        assert each["timesteps"]["mean"] == result.timesteps.mean()
    result = run(graph, images)
    assert report["spikes_per_image"] == sum(layer.emitted.mean() for layer in result.events)
    rates = {layer["name"]: layer["spikes_per_neuron"] for layer in report["layers"]}
    assert rates == {layer.name: layer.emitted.mean() / graph[layer.name].size for layer in result.events}


def test_the_al_metric_is_that_of_adapt_of_training_images(made, report, page, pascal):
    command = ("adapt", made / "model.pt", "--limit", IMAGES, "-o", made / "levels.json", "--json")
    adapted = json.loads(pascal(*command)[1])
    layers = {layer["name"]: layer for layer in report["layers"]}
    for each in adapted["layers"]:
        assert layers[each["name"]]["al_metric"] == each["metric"]
        assert layers[each["name"]]["cluster"] == each["cluster"]
    assert report["al_metric"] == {"data": "digits", "images": IMAGES, "training_images": True}
    assert f"Measured over {IMAGES} training images (digits)." in page


def test_without_training_images_the_al_metric_is_of_the_reports_own_and_the_page_says_so(tmp_path):
    datasets = pytest.importorskip("datasets")
    images = data.load("digits", limit=IMAGES)
    pixels = (images.pixels[:, 0].astype(int) * 255 // 16).astype(np.uint8)
    rows = {"image": list(pixels), "label": images.labels.tolist()}
    features = datasets.Features({"label": datasets.ClassLabel(names=list(images.classes)), "image": datasets.Image()})
    table = datasets.Dataset.from_dict(rows, features=features)
    for name, rows in (("some", range(IMAGES)), ("my-test", range(IMAGES)), ("my-train", range(IMAGES // 2))):
        table.select(rows).to_parquet(str(tmp_path / f"{name}.parquet"))
    model = tmp_path / "model.pt"
    assert command("train", "-d", tmp_path / "my-train.parquet", "--arch", "mlp", "--epochs", 1, "-q", "-o", model) == 0
    for name, of, images, kind in (
        ("some", "some", IMAGES, "images"),
        ("my-test", "my-train", IMAGES // 2, "training images"),
    ):
        output = tmp_path / f"{name}.html"
        assert command("report", model, "-d", tmp_path / f"{name}.parquet", "-q", "-o", output) == 0
        found = json.loads(output.with_suffix(".json").read_text())["al_metric"]
        assert found == {"data": f"{of}.parquet", "images": images, "training_images": name != of}
        assert f"Measured over {images} {kind} ({of}.parquet)." in output.read_text(encoding="utf-8")


def test_shares_of_the_levels_are_those_of_the_images(made, report):
    graph, images = load(made / "model.pt").graph(), data.load("digits", limit=IMAGES)
    found = histograms(graph, [graph.preprocessing(images.pixels)])
    layers = {layer["name"]: layer for layer in report["layers"]}
    for name, histogram in found.items():
        shares = histogram / histogram.sum()
        assert layers[name]["share_of_each_count"] == shares.tolist()
        assert (layers[name]["silent"], layers[name]["saturated"]) == (shares[0], shares[-1])


def test_the_certificate_is_that_of_verify(made, report, pascal):
    command = ("verify", made / "model.pt", "--nir", made / "model.nir", "--limit", IMAGES, "--json")
    verified = json.loads(pascal(*command)[1])
    about = {key: verified.pop(key) for key in ("model", "network", "target")}
    assert report["source"] == verified and verified["exact"], about


def test_the_bill_is_that_of_energy(made, report, pascal):
    for chip in report["chips"]:
        command = ("energy", made / "model.nir", "--limit", IMAGES, "--chip", chip["name"], "--json")
        bill = json.loads(pascal(*command)[1])
        assert chip["dynamic_joules_per_image"] == bill["dynamic_joules_per_image"]
        assert chip["seconds_per_image"] == bill["seconds_per_image"]
        assert chip["schedules"] == bill["schedules"]
        assert [layer["joules_by_event"] for layer in chip["layers"]] == [
            layer["joules_by_event"] for layer in bill["layers"]
        ]
        assert sum(layer["joules"] for layer in chip["layers"]) == pytest.approx(chip["dynamic_joules_per_image"])
    loihi, cmos = report["chips"]
    assert cmos["cores"] is None
    operations = sum(layer["events"]["synaptic_operations"] for layer in loihi["layers"])
    assert sum(loihi["cores"]["synaptic_operations"]) == pytest.approx(operations)
    assert sum(loihi["cores"]["neurons"]) == sum(layer["neurons"] for layer in report["layers"])


def test_the_least_of_each_figure_is_marked_for_each_chip(report, page):
    for chip in report["chips"]:
        table = page.split(f"<h3>Which schedule takes the least on {chip['chip']}</h3>")[1].split("</table>")[0]
        shown = {
            cells[0]: [cells[column].endswith(" (least)") for column in (1, 2, 5)]
            for cells in (re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in table.split("<tr>")[2:])
        }
        expected = rows(chip["schedules"])
        assert len(expected) == len(shown) > 3
        for row in expected:
            assert shown[row["name"]] == [key in row["least"] for key in ("dynamic_joules", "total_joules", "seconds")]
        assert {"pipelined" in name for name, marks in shown.items() if marks[0]} == {True, False}


def test_the_least_that_is_marked_is_that_of_energy(made, page, pascal):
    said = pascal("energy", made / "model.nir", "--limit", IMAGES, "--chip", "loihi1")[1]
    said = said.split("which schedule takes the least")[1].split("\n* the least")[0].replace("\N{NO-BREAK SPACE}", " ")
    marked = [[cell.strip() for cell in line.split("\u2502")[1:-1]] for line in said.splitlines() if "\u2502" in line]
    printed = [[marked[i][column].endswith("*") for column in (1, 2, 5)] for i in range(len(marked)) if marked[i][1]]
    table = page.split("<h3>Which schedule takes the least on Loihi 1</h3>")[1].split("</table>")[0]
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in table.split("<tr>")[2:]]
    assert printed == [[row[column].endswith(" (least)") for column in (0, 1, 4)] for row in cells]
    assert any(map(any, printed))


def test_the_page_names_what_is_not_known_of_each_chip(report, page):
    for chip in report["chips"]:
        assert chip["not_known"]
        named = f"Not known of {chip['chip']}, and not in its total: {', '.join(chip['not_known'])}."
        assert named in html.unescape(page)


def test_a_schedule_that_a_network_cannot_have_is_left_out_and_named(made, tmp_path, monkeypatch):
    from pascal_nm.errors import GraphError
    from pascal_nm.simulation import schedule

    def refuse(graph, delay):
        raise GraphError("no windows for these neurons")

    monkeypatch.setitem(schedule._MAKERS, "two_phase", refuse)
    assert command("report", made / "model.nir", "--limit", 8, "-q", "-o", tmp_path / "r.html") == 0
    left_out = [s for s in json.loads((tmp_path / "r.json").read_text())["schedules"] if "refused" in s]
    assert left_out == [{"schedule": "two_phase", "lag": 0, "stop": None, "refused": "no windows for these neurons"}]
    assert "Without two_phase: no windows for these neurons." in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_images_show_the_run_of_each(made, report):
    graph, images = load(made / "model.pt").graph(), data.load("digits", limit=IMAGES)
    result = run(graph, graph.preprocessing(images.pixels))
    for image in report["images"]:
        i = image["image"]
        assert (image["label"], image["prediction"]) == (images.labels[i], result.predictions[i])
        assert image["answer_after_each_timestep"] == result.answers[i].tolist()
        for layer in image["layers"]:
            for neuron in layer["neurons"] if layer["kind"] != "readout" else ():
                count = result.counts[layer["name"]][i][tuple(neuron["neuron"])]
                assert len(neuron["spikes"]) - len(neuron["taken_back"]) == count
    wrong = [image for image in report["images"] if image["label"] != image["prediction"]]
    assert len(report["images"]) == 6 and len(wrong) <= 2


def test_the_report_says_how_to_make_it_again(made, report):
    again = report["reproduce"]
    assert again["files"] == {str(made / name): sha256(made / name) for name in ("model.nir", "model.pt")}
    assert again["command"].startswith("pascal-nm report ") and f"--limit {IMAGES}" in again["command"]
    assert {"pascal-nm", "python", "torch", "numpy", "nir", "plotly"} == set(again["versions"])


@pytest.mark.slow
def test_the_same_command_writes_the_same_files(made, tmp_path, report):
    arguments = ("--limit", IMAGES, "-q", "-o", tmp_path / "a.html")
    pages = []
    for _ in range(2):
        assert command("report", made / "model.pt", *arguments) == 0
        pages.append(((tmp_path / "a.html").read_bytes(), (tmp_path / "a.json").read_bytes()))
    assert pages[0] == pages[1]
    alone = json.loads(pages[0][1])
    assert alone["source"] == report["source"], "a .pt is its own source network"


class Elements(HTMLParser):
    """Every element's name and attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_the_page_has_every_figure_and_loads_nothing(page):
    elements = Elements(page).found
    assert {attributes.get("id") for _, attributes in elements} >= FIGURES
    loading = [
        (tag, attributes) for tag, attributes in elements if {"src", "srcset", "data", "action"} & set(attributes)
    ]
    assert not loading and not [tag for tag, _ in elements if tag in ("link", "iframe", "object", "embed", "base")]
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert "url(" not in style and "@import" not in style
    (policy,) = (a["content"] for tag, a in elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "http" not in policy


def test_numbers_in_the_page_are_those_beside_it(page, report):
    (embedded,) = re.findall(r'<script type="application/json" id="report">(.*?)</script>', page, re.DOTALL)
    assert json.loads(embedded) == report


def test_names_from_outside_cannot_become_markup(made, tmp_path, monkeypatch):
    model = load(made / "model.pt")
    hostile = "</script><img src=x onerror=alert(1)>"
    graph = Model(model.module, model.input_shape, (hostile, *"123456789"), model.preprocessing).graph()
    write_nir(graph, tmp_path / "<b>.nir")
    assert command("report", tmp_path / "<b>.nir", "--limit", 8, "-q", "-o", tmp_path / "r.html") == 0
    elements = Elements((tmp_path / "r.html").read_text(encoding="utf-8")).found
    assert "img" not in [tag for tag, _ in elements]


def test_a_network_that_is_not_its_source_is_called_so(made, tmp_path):
    write_nir(for_digits(), tmp_path / "other.nir")
    arguments = (tmp_path / "other.nir", "--model", made / "model.pt", "--limit", 8, "-q", "-o", tmp_path / "r.html")
    assert command("report", *arguments) == 0
    assert json.loads((tmp_path / "r.json").read_text())["source"]["exact"] is False
    assert "<b>Not exact</b>:" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_names_in_figures_are_shown_as_they_are_not_as_tags():
    from pascal_nm.report import page

    name = "<b>a</b> & <a href='javascript:alert(1)'>b</a>"
    shown = page._literal({name: [name, 1, None, {"x": (name,)}]})
    escaped = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert shown == {escaped: [escaped, 1, None, {"x": [escaped]}]}


def test_class_layer_and_file_names_of_any_kind_stand_in_the_page(made, tmp_path, monkeypatch):
    """Characters that are no text in files whose names are bytes, formulas, tags, and what a
    terminal would obey.
    """
    graph = load(made / "model.pt").graph()
    names = ("<img src=x>", "$x^2$", "\x1b[31m", "&amp;", "%{x}", "", "\\N", "'\"", "é", "☃")
    monkeypatch.chdir(tmp_path)
    odd = os.fsdecode(b"$a$ <i>\xff%s.nir")
    write_nir(graph.replace(classes=names), tmp_path / "m.nir")
    (tmp_path / "m.nir").rename(odd)
    assert command("report", odd, "--limit", 8, "-q", "-o", "r.html") == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert not {"img", "i"} & {tag for tag, _ in Elements(page).found}
    assert json.loads((tmp_path / "r.json").read_text())["data"]["classes"]


@pytest.mark.parametrize("blocked", ["r.html", "r.json"])
def test_page_and_numbers_are_both_written_or_none(made, tmp_path, monkeypatch, blocked):
    arguments = ("report", made / "model.nir", "--limit", 8, "-q", "-o", tmp_path / "r.html")
    (tmp_path / blocked).mkdir()
    assert command(*arguments) == 2
    assert os.listdir(tmp_path) == [blocked]
    (tmp_path / blocked).rmdir()
    for before in ({}, {"r.html": "old page", "r.json": "old numbers"}):
        for name, text in before.items():
            (tmp_path / name).write_text(text)

        def failing(source, target, _of=os.replace):
            if str(target).endswith(blocked) and not Path(source).read_text().startswith("old"):
                raise OSError(28, "No space left on device")
            _of(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", failing)
            assert command(*arguments) == 2
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["model.pt", "-o", "report.txt"], ["report.txt", ".html"]),
        (["model.pt", "-o", "missing/report.html"], ["missing", "does not exist"]),
        (["model.pt", "--model", "model.pt"], ["leave --model out"]),
        (["model.nir", "--model", "model.nir"], ["needs the source network"]),
        (["model.nir", "--chip", "tpu"], ["tpu", "loihi1"]),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(made, pascal, monkeypatch, tmp_path, arguments, words):
    monkeypatch.chdir(made)
    before = sorted(made.iterdir())
    code, out, err = pascal("report", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert all(word in err for word in words)
    assert sorted(made.iterdir()) == before


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium here")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
        yield browser
        browser.close()


def changed(page, expression, before):
    """Whether the expression gets another value soon.

    (Playwright's own wait evaluates strings inside of the page, which its policy forbids.)
    """
    for _ in range(100):
        if page.evaluate(expression) != before:
            return True
        page.wait_for_timeout(50)
    return False


@pytest.mark.parametrize("width, scheme", [(1280, "light"), (390, "dark")])
def test_the_page_works_in_a_browser(browser, made, report, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    address = (made / "report.html").as_uri()
    page.goto(address)
    page.wait_for_selector("#potential .main-svg")
    drawn = page.evaluate(
        "[...document.querySelectorAll('.plot')].filter(e => e.querySelector('.main-svg')).map(e => e.id)"
    )
    assert set(drawn) == FIGURES
    assert page.evaluate("document.documentElement.scrollWidth") == width, "nothing is wider than the screen"

    spikes = "JSON.stringify([byId('raster').data[0].x, byId('raster').data[0].y])"
    first, answer = page.evaluate(spikes), page.inner_text("#answer")
    page.click("#images button:nth-child(3)")
    assert changed(page, spikes, first)
    assert page.inner_text("#answer") != answer
    assert page.get_attribute("#images button:nth-child(3)", "aria-pressed") == "true"

    page.select_option("#layer", index=0)
    page.select_option("#neuron", index=5)
    name = page.evaluate("byId('layer').selectedOptions[0].text")
    (layer,) = (layer for layer in report["images"][2]["layers"] if layer["name"] == name)
    shown = page.evaluate("[...byId('potential').data[0].y]")
    assert np.array_equal(shown, layer["neurons"][5]["potential"])

    page.select_option("#chip", index=1)
    assert page.is_hidden("#core-map")
    page.select_option("#chip", index=0)
    page.select_option("#quantity", index=2)
    assert page.is_visible("#cores .main-svg")

    ink = "getComputedStyle(document.querySelector('#timesteps .xtick text')).fill"
    before = page.evaluate(ink)
    page.emulate_media(color_scheme="light" if scheme == "dark" else "dark")
    assert changed(page, ink, before)
    assert said == []
    assert asked == [address]
    page.close()
