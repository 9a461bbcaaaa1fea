"""Whole datasets: batches that add up to the same, and data that does not fit."""

import dataclasses

import numpy as np
import pytest

from pascal_nm import data, quantize
from pascal_nm.common import memory
from pascal_nm.errors import DataError
from pascal_nm.hw_targets import evaluation, find
from pascal_nm.source.architectures import build
from pascal_nm.source.checkpoint import Model
from pascal_nm.source.tracing import SourceNetwork


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", limit=50)


@pytest.fixture(scope="module")
def graph(digits):
    module = build("cnn", digits.shape, 10, 4, width=0.25).eval()
    return Model(module, digits.shape, digits.classes, digits.preprocessing()).graph()


@pytest.mark.parametrize("target", ["torch", "loihi"])
def test_batches_of_any_size_give_the_same(graph, digits, target):
    program = find(target).compile(graph)
    whole, parts = (evaluation.evaluate(program, digits, size=size) for size in (50, 7))
    np.testing.assert_array_equal(whole.predictions, parts.predictions)
    for a, b in zip(whole.events, parts.events, strict=True):
        assert a.name == b.name
        for key in ("synaptic_operations", "updates", "emitted"):
            np.testing.assert_array_equal(getattr(a, key), getattr(b, key))


def test_progress_ends_at_all_images(graph, digits):
    seen = []
    evaluation.evaluate(find("torch").compile(graph), digits, size=20, progress=lambda *now: seen.append(now))
    assert seen == [(0, 50), (20, 50), (40, 50), (50, 50)]


def test_an_integer_graph_of_other_weights_is_not_exact(graph, digits):
    integer = quantize(graph)
    first = integer.projections[1]
    changed = dataclasses.replace(first.operator, weight=np.roll(first.operator.weight, 1, axis=0))
    projections = [dataclasses.replace(q, operator=changed) if q is first else q for q in integer.projections]
    altered = dataclasses.replace(integer, projections=tuple(projections))
    module = build("cnn", digits.shape, 10, 4, width=0.25).eval()
    source = Model(module, digits.shape, digits.classes, digits.preprocessing()).source()
    verdict, _ = evaluation.verify(source, graph, find("torch").compile(altered), digits)
    assert not verdict.exact
    assert verdict.culprit == first.target


def test_verification_runs_the_source_network_once_for_each_batch(graph, digits, monkeypatch):
    module = build("cnn", digits.shape, 10, 4, width=0.25).eval()
    model = Model(module, digits.shape, digits.classes, digits.preprocessing()).in_double()
    source, reference, seen = model.source(), model.graph(), []
    batches = SourceNetwork.batches

    def counting(self, inputs, *dtype):
        seen.append(len(inputs))
        return batches(self, inputs, *dtype)

    monkeypatch.setattr(SourceNetwork, "batches", counting)
    monkeypatch.setattr(memory, "KEPT", 20 * sum(p.size for p in reference.populations))
    named = dataclasses.replace(reference.populations[1], name="renamed")
    other = reference.replace(
        populations=tuple(named if p is reference.populations[1] else p for p in reference.populations),
        projections=tuple(
            dataclasses.replace(
                q,
                **{end: "renamed" for end in ("source", "target") if getattr(q, end) == reference.populations[1].name},
            )
            for q in reference.projections
        ),
    )
    for under_test in (reference, quantize(reference), other):
        seen.clear()
        verification, _ = evaluation.verify(source, reference, find("torch").compile(under_test), digits)
        assert seen == [20, 20, 10]
        np.testing.assert_array_equal(
            verification.source_predictions, source(reference.preprocessing(digits.pixels)).argmax(1)
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: {"pixels": d.pixels[:, :, :7]}, "takes images of shape"),
        (lambda d: {"scale": 255.0}, "pixels of digits go up to 255"),
        (lambda d: {"labels": d.labels + 5}, "has label 14, but the network has 10 outputs"),
    ],
)
def test_data_that_does_not_fit_is_refused(graph, digits, change, message):
    other = dataclasses.replace(digits, **change(digits))
    with pytest.raises(DataError, match=message):
        evaluation.evaluate(find("torch").compile(graph), other)


def test_a_graph_without_preprocessing_cannot_take_pixels(graph, digits):
    bare = dataclasses.replace(graph, preprocessing=None)
    with pytest.raises(DataError, match="--mean and --std"):
        evaluation.evaluate(find("torch").compile(bare), digits)
