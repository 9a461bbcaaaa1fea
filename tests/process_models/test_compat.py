"""What Lava's own Processes do on a Python and a NumPy that are newer than they are."""

import numpy as np
import pytest

from pascal_nm.process_models.runtime import Session


def sent(process, port_in, port_out, data):
    """What comes out of a stock Process that takes one number in each timestep."""
    from lava.proc.io.sink import RingBuffer
    from lava.proc.io.source import RingBuffer as Source

    source = Source(data=np.array([data], np.int32))
    probe = RingBuffer(shape=port_out.shape, buffer=len(data))
    source.s_out.connect(port_in)
    port_out.connect(probe.a_in)
    with Session(process, tag="fixed_pt") as session:
        session.run(len(data))
        variables = {var.name: var.get() for var in process.vars}
        return probe.data.get()[0], variables


def test_the_inverse_square_root_in_fixed_point_is_near_the_one_in_floats():
    from lava.proc.graded.process import InvSqrt

    root = InvSqrt(shape=(1,), fp_base=12)
    x = np.array([0.25, 1, 2, 9.5])
    y, _ = sent(root, root.a_in, root.s_out, (x * 2**12).astype(int).tolist())
    assert y / 2**12 == pytest.approx(x**-0.5, rel=0.01)


def test_an_allocator_numbers_its_signals_and_its_counter_is_read_as_ever():
    from lava.proc.clp.nsm.process import Allocator

    allocator = Allocator(n_protos=3)
    numbers, variables = sent(allocator, allocator.trigger_in, allocator.allocate_out, [0, 1, 0, 1, 1])
    np.testing.assert_array_equal(numbers, [0, 1, 0, 2, 3])
    np.testing.assert_array_equal(variables["next_alloc_id"], [4])


def test_a_collection_of_ports_can_be_asked_for_what_is_absent():
    from lava.proc.graded.process import InvSqrt

    ports = InvSqrt(shape=(1,), fp_base=12).in_ports
    assert not hasattr(ports, "__wrapped__")
    with pytest.raises(AssertionError, match="not a member"):
        _ = ports.absent
