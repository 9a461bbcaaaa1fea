"""Rooms for images: as many as fit go together, and one always does."""

from hypothesis import given
from hypothesis import strategies as st

from pascal_nm.common import memory


@given(numbers=st.integers(1, 1 << 40), room=st.sampled_from([memory.STATE, memory.LAYER, memory.TRAIN, memory.KEPT]))
def test_as_many_images_as_fit_go_together_and_one_always_does(numbers, room):
    together = memory.images_together(numbers, room)
    assert together == 1 or together * numbers <= room
    assert (together + 1) * numbers > room
    assert memory.batch_size(numbers, room) == min(memory.MOST, together)
