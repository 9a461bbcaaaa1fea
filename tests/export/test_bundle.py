"""Bundles: whole or not there, nothing else touched, every file checked, and enough to run from."""

import dataclasses
import io
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pascal_nm import build, convert, quantize
from pascal_nm.common.files import aside, sha256
from pascal_nm.errors import FileError, PascalError
from pascal_nm.export.bundle import FILES, write_bundle
from pascal_nm.export.nir_format import write_nir
from pascal_nm.hw_targets import chip as chips
from pascal_nm.hw_targets import program_files
from pascal_nm.hw_targets.program import lower
from pascal_nm.hw_targets.program_files import read
from pascal_nm.network.graph import Preprocessing, Timing
from pascal_nm.simulation import simulate
from tests import networks, pace


def parts_of(network, chip):
    """What :func:`write` takes: a program, and arrays to check with."""
    program = lower(network, chip)
    source = program.graph.input
    integers = np.random.default_rng(0).integers(-source.levels, source.levels + 1, (3, *source.shape))
    return program, program_files.checks(integers, simulate.counts(program.graph, source.inputs(integers)))


@pytest.fixture(scope="module")
def parts():
    module = networks.randomized(build("cnn", (1, 8, 8), 4, [4, 2, 3], pool="max"))
    graph = quantize(convert(module, networks.images(3)[:, :1]), input_range=6.0)
    return parts_of(graph.replace(timing=Timing("streaming", (1, 0, 2))), chips.load("loihi2"))


@pytest.fixture(scope="module")
def numbered():
    """A residual network whose spikes carry numbers, and whose shortcuts wait in their synapses."""
    module = networks.randomized(networks.ALL["residual"]())
    graph = quantize(convert(module, networks.images(3)), input_range=6.0)
    return parts_of(graph.replace(timing=Timing("graded")), chips.load("loihi2"))


@pytest.fixture(scope="module")
def fitted():
    """A small network in the registers of a chip."""
    module = networks.randomized(build("mlp", (1, 4, 4), 3, 4, width=0.05))
    inputs = networks.images(2)[:, :1, :4, :4]
    pre = Preprocessing(1.0, (0.0,), (1.0,))
    return parts_of(convert(module, inputs, preprocessing=pre, classes=("a  b", "c", "\u00e9")), chips.load("loihi1"))


def write(folder, parts, about=None):
    program, check = parts
    said = {"chip": program.chip, "cores": len(program.cores), "chips": 1, "delay": program.schedule.delay}
    program_files.write(folder, program, check, {**said, **(about or {})})


@pytest.fixture(scope="module")
def written(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written") / "bundle"
    write(folder, parts)
    return folder


@pytest.fixture
def bundle(written, tmp_path):
    return Path(shutil.copytree(written, tmp_path / "bundle"))


@pytest.fixture(scope="module")
def with_exponents(fitted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exponents") / "bundle"
    write(folder, fitted)
    return folder


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def signed(folder):
    """The manifest's checksums made those of the files, as who changes a bundle
    on purpose would.
    """
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {name: sha256(folder / name) for name in FILES if (folder / name).is_file()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("which", ["parts", "fitted", "numbered"])
def test_a_program_reads_back_as_it_was_written(which, tmp_path, request):
    program, check = request.getfixturevalue(which)
    for _ in range(2):  # the second replaces the first
        write(tmp_path / "bundle", (program, check))
    again, arrays, manifest = read(tmp_path / "bundle")
    for name, array in check.items():
        np.testing.assert_array_equal(arrays[name], array)
    for held, other in ((program.registers, again.registers), (program.routes, again.routes)):
        assert {n: (a.dtype, a.tolist()) for n, a in held.items()} == {
            n: (a.dtype, a.tolist()) for n, a in other.items()
        }
    for field in dataclasses.fields(program):
        if field.name not in ("registers", "routes"):
            assert getattr(again, field.name) == getattr(program, field.name), field.name
    assert program.graph.differences(again.graph) == []
    assert manifest["cores"] == len(program.cores)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"], "nothing is left beside it"


def test_changed_and_missing_files_are_found(bundle):
    (bundle / "cores.json").write_text("{}")
    with pytest.raises(FileError, match=r"cores\.json is not the file that the manifest names"):
        read(bundle)
    (bundle / "cores.json").unlink()
    with pytest.raises(FileError, match=r"no whole bundle: cores\.json is missing"):
        read(bundle)


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_there_with_its_sum(bundle, name):
    (bundle / name).unlink()
    signed(bundle)
    with pytest.raises(FileError, match=rf"no whole bundle: {name} is missing"):
        read(bundle)


def test_a_manifest_without_files_vouches_for_nothing(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"files": {}}))
    with pytest.raises(FileError, match="no whole bundle"):
        read(bundle)


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "x", "sub/network.nir", "manifest.json"])
def test_a_manifest_names_files_of_a_bundle_only(bundle, parts, tmp_path, name):
    (tmp_path / "x").write_text("mine")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"][name] = sha256(tmp_path / "x")
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    for use in (read, lambda folder: write(folder, parts)):
        with pytest.raises(FileError, match="bundle"):
            use(bundle)
    assert (tmp_path / "x").read_text() == "mine" and len(list(bundle.iterdir())) == len(FILES) + 1


def test_a_file_that_no_bundle_has_is_named(bundle, parts):
    (bundle / "thesis.tex").write_text("years of work")
    with pytest.raises(FileError, match=r"also holds 'thesis\.tex'"):
        read(bundle)
    before = content(bundle)
    with pytest.raises(FileError, match=r"thesis\.tex.*not replaced"):
        write(bundle, parts)
    assert content(bundle) == before


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_only_files_themselves_are_read_and_replaced(bundle, parts, tmp_path, kind):
    place = (bundle / "cores.json").rename(tmp_path / "kept.json") and bundle / "cores.json"
    match kind:
        case "pipe":
            os.mkfifo(place)
        case "link":
            place.symlink_to(tmp_path / "kept.json")
        case "folder":
            place.mkdir()
    with pytest.raises(FileError, match=r"cores\.json"):
        read(bundle)
    with pytest.raises(FileError, match=r"cores\.json.*not replaced"):
        write(bundle, parts)
    assert (tmp_path / "kept.json").exists() and place.lstat()


def cores(change):
    def changed(folder, parts):
        path = folder / "cores.json"
        listed = json.loads(path.read_text())
        path.write_text(json.dumps(change(listed["cores"]) or listed))

    return changed


def arrays(**change):
    def changed(folder, parts):
        np.savez_compressed(folder / "check.npz", **{k: v for k, v in (parts[1] | change).items() if v is not None})

    return changed


def npz(name, change):
    """One file of arrays, changed."""

    def changed(folder, parts):
        with np.load(folder / name) as file:
            held = dict(file)
        np.savez_compressed(folder / name, **(change(held) or held))

    return changed


def program(change):
    def changed(folder, parts):
        path = folder / "program.json"
        described = json.loads(path.read_text())
        path.write_text(json.dumps(change(described) or described))

    return changed


def parameter(name, value):
    return program(lambda p: p["projections"][0]["parameters"].__setitem__(name, value))


def text(name, written):
    return lambda folder, parts: (folder / name).write_text(written)


def manifest(**said):
    def changed(folder, parts):
        path = folder / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | said))

    return changed


def bomb(folder, parts):
    """A few bytes that declare an array of terabytes."""
    with zipfile.ZipFile(folder / "check.npz", "w") as archive:
        for name in parts[1]:
            header = io.BytesIO()
            shape = (2**40, *parts[0].graph.input.shape)
            np.lib.format.write_array_header_1_0(header, {"descr": "<i4", "fortran_order": False, "shape": shape})
            archive.writestr(f"{name}.npy", header.getvalue())


def other_network(folder, parts):
    write_nir(parts[0].graph.replace(timing=Timing("pasc")), folder / "network.nir")


GARBAGE = {
    "cores: text": text("cores.json", "garbage"),
    "cores: nothing": text("cores.json", "{}"),
    "cores: deep": text("cores.json", "[" * 100_000),
    "cores: one less": cores(lambda listed: listed.pop() and None),
    "cores: no dictionary": cores(lambda listed: listed.__setitem__(0, 5)),
    "cores: one twice": cores(lambda listed: listed.__setitem__(0, {**listed[1], "core": 0})),
    "cores: unknown population": cores(lambda listed: listed[0].update(population="x")),
    "cores: unhashable population": cores(lambda listed: listed[0].update(population=[])),
    "cores: beyond": cores(lambda listed: listed[0].update(channels=[0, 10**9])),
    "cores: text for a number": cores(lambda listed: listed[0].update(rows=["0", "1"])),
    "cores: part of a neuron": cores(lambda listed: listed[0].update(rows=[0, 0.5])),
    "cores: tile": cores(lambda listed: listed[0].update(tile=[0, -1])),
    "program: text": text("program.json", "garbage"),
    "program: a list": text("program.json", "[]"),
    "program: more": program(lambda p: p.update(more=1)),
    "program: no populations": program(lambda p: p.update(populations=[])),
    "program: a population less": program(lambda p: p["populations"].pop() and None),
    "program: a population twice": program(lambda p: p["populations"].append(p["populations"][1])),
    "program: kind": program(lambda p: p["populations"][1].update(kind="lif")),
    "program: shape": program(lambda p: p["populations"][1].update(shape=[4, 4, 4])),
    "program: no shape": program(lambda p: p["populations"][1].update(shape=[])),
    "program: huge shape": program(lambda p: p["populations"][1].update(shape=[10**5, 10**5, 10])),
    "program: levels": program(lambda p: p["populations"][1].update(levels=3)),
    "program: exponent": program(lambda p: p["populations"][1].update(exponent=10**400)),
    "program: operator": program(lambda p: p["projections"][0].update(operator="lstm")),
    "program: no such end": program(lambda p: p["projections"][0].update(target="x")),
    "program: no stride": parameter("stride", [0, 0]),
    "program: a negative stride": parameter("stride", [-1, -1]),
    "program: half a stride": parameter("stride", [1.0, 1.0]),
    "program: a stride of text": parameter("stride", "ab"),
    "program: groups": parameter("groups", 10**30),
    "program: another parameter": parameter("depth", 1),
    "program: pool": program(lambda p: p["projections"][0].update(pool={"kernel": [1, 1]})),
    "program: shift": program(lambda p: p.update(shift=1)),
    "program: widths": program(lambda p: p["widths"].update(weight=2)),
    "program: width of the membrane": program(lambda p: p["widths"].update(membrane=8)),
    "program: chip": program(lambda p: p.update(chip="another")),
    "program: timing": program(lambda p: p["host"]["timing"].update(lag=-1)),
    "program: classes": program(lambda p: p["host"].update(classes=["one"])),
    "registers: text": text("registers.npz", "garbage"),
    "registers: one less": npz("registers.npz", lambda held: held.popitem() and None),
    "registers: one more": npz("registers.npz", lambda held: {**held, "x.weight": np.zeros(3, np.int8)}),
    "registers: floats": npz("registers.npz", lambda held: {n: a.astype(float) for n, a in held.items()}),
    "registers: 64 bits": npz("registers.npz", lambda held: {n: a.astype(int) for n, a in held.items()}),
    "registers: flat": npz("registers.npz", lambda held: {n: a.reshape(-1) for n, a in held.items()}),
    "registers: not finite": npz(
        "registers.npz", lambda held: {n: a * np.nan if a.dtype.kind == "f" else a for n, a in held.items()}
    ),
    "routes: text": text("routes.npz", "garbage"),
    "routes: none": npz("routes.npz", lambda held: {n: a[:0] for n, a in held.items()}),
    "routes: flat": npz("routes.npz", lambda held: {n: a.reshape(-1) for n, a in held.items()}),
    "routes: of a projection less": npz("routes.npz", lambda held: held.popitem() and None),
    "schedule: a stage": text("schedule.json", '{"populations": {"input": {"stages": [{"stage": "x"}]}}}'),
    "schedule: text": text("schedule.json", "garbage"),
    "schedule: another": text("schedule.json", "{}"),
    "check: text": text("check.npz", "garbage"),
    "check: no inputs": arrays(inputs=None),
    "check: more": arrays(more=np.zeros(3, int)),
    "check: floats": arrays(inputs=np.zeros((3, 1, 8, 8))),
    "check: objects": arrays(inputs=np.array([{}], object)),
    "check: shape": arrays(inputs=np.zeros((3, 1, 4, 4), int)),
    "check: another number": arrays(inputs=np.zeros((2, 1, 8, 8), int)),
    "check: levels": arrays(inputs=np.full((3, 1, 8, 8), 10**6)),
    "check: terabytes": bomb,
    "network: text": text("network.nir", "garbage"),
    "network: another": other_network,
    "manifest: cores": manifest(cores=10**6),
    "manifest: chip": manifest(chip=5),
    "manifest: delay": manifest(delay=7),
    "manifest: version": manifest(bundle=99),
}


@pytest.mark.parametrize("change", GARBAGE.values(), ids=GARBAGE)
def test_what_contradicts_the_network_is_refused_though_every_sum_is_right(bundle, parts, change):
    change(bundle, parts)
    signed(bundle)
    with pytest.raises(PascalError, match="bundle") as refused:
        read(bundle)
    assert "\n" not in str(refused.value)


def one_more(array):
    """The array with its first number one larger."""
    array.reshape(-1)[0] += 1


def redirected(routes, program):
    """The last route leads to another core of the program."""
    routes[-1, 1] = (routes[-1, 1] + 1) % len(program.cores)


def smaller(core):
    """The core holds a channel less."""
    core["channels"][1] -= 1


def every_change(made):
    """One register, exponent, route or part of a core is another: of each owner some."""
    for name in made.registers:
        yield npz("registers.npz", lambda held, name=name: one_more(held[name]))
    for kind in ("populations", "projections"):
        for i in range(len(getattr(made, kind))):
            yield program(lambda held, of=kind, i=i: held[of][i].update(exponent=held[of][i]["exponent"] + 1))
    for name, routes in made.routes.items():
        for i in {0, len(routes) // 2, len(routes) - 1}:
            yield npz("routes.npz", lambda held, name=name, i=i: {**held, name: np.delete(held[name], i, 0)})
        yield npz("routes.npz", lambda held, name=name: redirected(held[name], made))
        yield npz("routes.npz", lambda held, name=name: {**held, name: held[name][[*range(len(held[name])), 0]]})
    for i in {0, len(made.cores) // 2, len(made.cores) - 1}:
        yield cores(lambda listed, i=i: smaller(listed[i]))


def delayed(change):
    """Delays of synapses in schedule.json, changed."""

    def changed(folder, parts):
        path = folder / "schedule.json"
        plan = json.loads(path.read_text())
        change(plan["delays"])
        path.write_text(json.dumps(plan))

    return changed


def test_delays_and_bits_of_numbers_are_those_of_the_schedule(numbered, tmp_path):
    write(tmp_path / "bundle", numbered)
    plan = json.loads((tmp_path / "bundle" / "schedule.json").read_text())
    made = numbered[0]
    assert plan["delays"] == made.schedule.delays != {}
    described = json.loads((tmp_path / "bundle" / "program.json").read_text())
    bits = {p["name"]: p["payload_bits"] for p in described["populations"]}
    assert all(bits[p.name] == p.levels.bit_length() + 1 for p in made.graph.senders if p.levels > 1)
    text = (tmp_path / "bundle" / "README.md").read_text()
    assert "- change: v += input" in text and "`delays` of projections" in text
    (name, steps), *_ = made.schedule.delays.items()
    for i, (change, message) in enumerate(
        [
            (delayed(lambda held: held.update({name: steps + 1})), "schedule.json is not the schedule of the network"),
            (delayed(lambda held: held.update({name: -1})), "schedule.json: delays"),
            (delayed(lambda held: held.pop(name)), "schedule.json is not the schedule of the network|not last as long"),
            (delayed(lambda held: held.update(other=1)), "schedule.json is not the schedule of the network"),
            (program(lambda held: held["populations"][1].update(payload_bits=9)), "gives numbers of .* 9 bits, not"),
        ]
    ):
        folder = Path(shutil.copytree(tmp_path / "bundle", tmp_path / str(i)))
        change(folder, numbered)
        signed(folder)
        with pytest.raises(FileError, match=message):
            read(folder)


@pytest.mark.parametrize("which", ["parts", "fitted", "numbered"])
def test_every_changed_register_route_and_core_is_refused(which, tmp_path, request):
    """The checksums are right, as who changes a bundle on purpose would make them."""
    made = request.getfixturevalue(which)
    write(tmp_path / "bundle", made)
    for i, change in enumerate(every_change(made[0])):
        folder = Path(shutil.copytree(tmp_path / "bundle", tmp_path / str(i)))
        change(folder, made)
        signed(folder)
        with pytest.raises(FileError, match="is no whole bundle"):
            read(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"name": "My app", "icons": []}',
        '{"files": {}}',
        "[]",
        "null",
        '{"pascal_nm": "1", "files": []}',
        "[",
    ],
)
def test_a_folder_with_another_manifest_is_kept(parts, tmp_path, text):
    """A web app has a manifest.json, too."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "manifest.json").write_text(text)
    (folder / "thesis.txt").write_text("years of work")
    before = content(tmp_path)
    with pytest.raises(FileError, match="exists and is no bundle"):
        write(folder, parts)
    assert content(tmp_path) == before


def test_a_file_of_the_bundle_that_its_owner_changed_is_kept(bundle, parts):
    (bundle / "README.md").write_text("my notes")
    with pytest.raises(FileError, match=r"README\.md was changed"):
        write(bundle, parts)
    assert (bundle / "README.md").read_text() == "my notes"


def test_a_folder_that_is_no_bundle_is_kept(parts, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("more work")
    for name in ("mine", "file", "."):
        with pytest.raises(FileError, match="exists and is no bundle"):
            write(tmp_path / name, parts)
    assert content(tmp_path) == {"mine/thesis.txt": b"years of work", "file": b"more work"}


def test_the_current_folder_is_not_replaced(bundle, parts, monkeypatch):
    monkeypatch.chdir(bundle)
    for name in (".", bundle, f"../{bundle.name}"):
        with pytest.raises(FileError, match="current folder"):
            write(name, parts)


def test_a_link_to_a_bundle_stays_a_link(bundle, parts, tmp_path):
    (tmp_path / "link").symlink_to(bundle.name)
    write(tmp_path / "link", parts, {"network": "the new one"})
    assert (tmp_path / "link").is_symlink() and not bundle.is_symlink()
    assert read(tmp_path / "link")[2]["network"] == "the new one"
    (tmp_path / "app").mkdir()
    (tmp_path / "other").symlink_to("app")
    with pytest.raises(FileError, match="no bundle"):
        write(tmp_path / "other", parts)


def test_a_proof_that_fails_leaves_the_old_one(bundle, written, tmp_path):
    def fails(folder):
        assert (folder / "manifest.json").exists()
        raise FileError("no proof")

    before = content(tmp_path)
    with pytest.raises(FileError, match="no proof"):
        write_bundle(bundle, lambda place: shutil.copytree(written, place, dirs_exist_ok=True), {}, fails)
    assert content(tmp_path) == before


CALLS = ("rename", "replace", "unlink", "rmdir", "mkdir", "chmod", "fsync", "open", "link", "scandir")


@pytest.mark.parametrize(
    ("there", "failure"),
    [
        (True, OSError(28, "No space left on device")),
        pytest.param(False, OSError(28, "No space left on device"), marks=pytest.mark.slow),
        pytest.param(True, KeyboardInterrupt(), marks=pytest.mark.slow),
        pytest.param(False, KeyboardInterrupt(), marks=pytest.mark.slow),
    ],
)
def test_whatever_call_fails_one_of_the_two_is_there_whole(
    with_exponents, fitted, tmp_path, monkeypatch, there, failure
):
    """Every call of the system that changes something fails in turn, for good,
    as on a full disk.
    """
    fewest = []
    for name in CALLS:
        for last in range(1000):
            folder = tmp_path / f"{name}{last}" / "bundle"
            folder.parent.mkdir()
            if there:
                shutil.copytree(with_exponents, folder)
            done = 0
            original = getattr(os, name)

            def call(*arguments, _of=original, _last=last, **options):
                nonlocal done
                done += 1
                if done > _last and not str(arguments[0]).startswith("/proc"):
                    raise failure
                return _of(*arguments, **options)

            with monkeypatch.context() as patch:
                patch.setattr(os, name, call)
                try:
                    write(folder, fitted, {"network": "the new one"})
                    outcome = "written"
                except (FileError, KeyboardInterrupt):
                    outcome = "failed"
            if outcome == "written":
                assert read(folder)[2]["network"] == "the new one"
                if done <= last:
                    fewest.append(last)
                    break
            else:
                whole = [p for p in (folder, aside(folder)) if p.exists()]
                assert bool(whole) == there or read(folder)[2]["network"] == "the new one"
                for each in whole[:1]:
                    read(each)
            shutil.rmtree(folder.parent)
    assert len(fewest) == len(CALLS) and max(fewest) > 3, "the calls were made to fail"


def test_a_run_that_was_killed_between_the_two_moves_is_mended_by_the_next(bundle, parts):
    bundle.rename(aside(bundle))
    with pytest.raises(FileError, match=rf"to be replaced is in .*{aside(bundle).name}"):
        read(bundle)
    (aside(bundle) / "README.md").write_text("my notes")
    with pytest.raises(FileError, match=r"README\.md was changed"):
        write(bundle, parts)
    assert (bundle / "README.md").read_text() == "my notes", "the old one was put back, and is kept as any other"


def test_what_a_killed_run_left_aside_is_removed_by_the_next(bundle, parts, tmp_path):
    shutil.copytree(bundle, aside(bundle))
    (aside(bundle) / "check.npz").unlink()
    write(bundle, parts)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


KILLED = """
import sys, pickle
from pathlib import Path
from tests.export.test_bundle import write
parts = pickle.loads(Path(sys.argv[2]).read_bytes())
print("ready", flush=True)
n = 0
while True:
    n += 1
    write(Path(sys.argv[1]), parts, {"network": str(n)})
"""


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_kill_at_any_moment_leaves_one_of_them_whole(with_exponents, fitted, tmp_path, kills):
    (tmp_path / "parts").write_bytes(pickle.dumps(fitted))
    folder = tmp_path / "bundle"
    shutil.copytree(with_exponents, folder)
    dice = random.Random(kills)
    for _ in range(kills):
        command = [sys.executable, "-c", KILLED, str(folder), str(tmp_path / "parts")]
        root = Path(__file__).parents[2]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}
        )
        assert process.stdout.readline() == b"ready\n"
        for _ in range(20):  # stopped and looked at, and killed at last
            time.sleep(dice.uniform(0, 0.05))
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            whole = folder if folder.exists() else aside(folder)
            read(whole)
            process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()
        process.stdout.close()
        read(folder if folder.exists() else aside(folder))


@pytest.mark.parametrize("count", [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_mutated_bundle_is_refused_in_a_line(written, parts, tmp_path, count):
    """Bytes of one file are others; half of the manifests are signed anew, so that what is in the
    files is looked at.
    """
    dice, whole = random.Random(count), 0
    names = [*json.loads((written / "manifest.json").read_text())["files"], "manifest.json"]
    for i in range(count):
        folder = Path(shutil.copytree(written, tmp_path / str(i)))
        path = folder / dice.choice(names)
        data = bytearray(path.read_bytes())
        for _ in range(dice.choice([1, 1, 4])):
            at = dice.randrange(len(data))
            match dice.choice(["byte", "digit", "cut", "copy"]):
                case "byte":
                    data[at] = dice.randrange(256)
                case "digit":
                    data[at : at + 1] = dice.choice([b"9", b"-1", b"null", b"1e999", b"{}", b"NaN"])
                case "cut":
                    del data[at : at + dice.choice([1, 10, 1000])]
                case "copy":
                    data[at:at] = data[dice.randrange(len(data)) :][:50]
            if not data:
                break
        changed = data != path.read_bytes()
        path.write_bytes(data)
        again = path.name != "manifest.json" and dice.random() < 0.7
        if again:
            signed(folder)
        start = time.process_time()
        try:
            program, _, said = read(folder)
            assert again or not changed or path.name == "manifest.json"
            assert path.name in (*FILES, "manifest.json")
            assert said["cores"] == len(program.cores) == len(parts[0].cores) and program.graph.is_integer
            whole += 1
        except PascalError as error:
            assert "\n" not in str(error)
        assert pace.since(start) < 5
        shutil.rmtree(folder)
    assert whole < count / 2
