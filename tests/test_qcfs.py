"""QCFS against Equation 1, and its gradients against the published straight-through rule."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pascal_nm import QCFS
from pascal_nm.errors import ConversionError
from pascal_nm.source.qcfs import qcfs


@settings(deadline=None)
@given(levels=st.integers(1, 16), threshold=st.floats(0.1, 10), seed=st.integers(0, 1000))
def test_the_forward_pass_is_equation_1(levels, threshold, seed):
    layer = QCFS(levels, threshold).double()  # the parameter is made in float32
    x = torch.randn(50, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 * threshold
    threshold = layer.threshold.detach()
    expected = threshold * (x * levels / threshold + 0.5).floor().div(levels).clamp(0, 1)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


def test_gradients_go_straight_through_the_floor_and_stop_outside():
    layer = QCFS(4, 2.0).double()
    x = torch.tensor([-1.0, 0.3, 1.1, 1.9, 5.0], dtype=torch.float64, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]
    # d/d threshold of threshold * clip(floor(x L / threshold + 1/2) / L, 0, 1) with d floor(u) = du
    levels = torch.tensor([0.0, 1.0, 2.0, 4.0, 4.0], dtype=torch.float64) / 4
    inside = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    expected = (levels - inside * x.detach() / 2.0).sum()
    torch.testing.assert_close(layer.threshold.grad.sum(), expected)


def test_the_registered_operator_passes_torchs_own_checks():
    x, threshold = torch.randn(4, 3, dtype=torch.float64), torch.tensor([1.5], dtype=torch.float64)
    torch.library.opcheck(torch.ops.pascal_nm.qcfs.default, (x.requires_grad_(), threshold.requires_grad_(), 4))


def test_gradients_keep_the_order_in_memory_of_their_input_which_compiled_training_relies_on():
    x, grad = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    for x_format, grad_format in (
        (torch.channels_last, torch.contiguous_format),
        (torch.contiguous_format, torch.channels_last),
    ):
        given = [x.contiguous(memory_format=x_format), grad.contiguous(memory_format=grad_format)]
        operator = torch.ops.pascal_nm.qcfs_backward.default
        arguments = (given[1], given[0], torch.tensor([1.5]), qcfs(given[0], torch.tensor([1.5]), 4))
        torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))
        assert operator(*arguments)[0].stride() == given[0].stride()


@pytest.mark.parametrize("levels", [0, -1, 1.5])
def test_impossible_levels_are_refused(levels):
    with pytest.raises(ConversionError, match="levels"):
        QCFS(levels)


@pytest.mark.parametrize("threshold", [torch.tensor(0.7), torch.tensor(2), torch.tensor(0.7, dtype=torch.float16)])
def test_a_threshold_of_another_type_is_a_number_of_the_inputs_type(threshold):
    """A third of it, in the type of the threshold, would be off by 1e-8 in a float64 network."""
    x = torch.randn(50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.equal(qcfs(x, threshold, 3), qcfs(x, threshold.double(), 3))
