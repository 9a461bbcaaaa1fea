"""Clips that need no download, made of the sample images that scikit-learn brings.

A camera's view is a section of a large image, of which every pixel of a frame is the mean of its
area: a motion of whole pixels of the image moves the frame by a fraction of a pixel, as it does in
a real camera that is read at low resolution. There is no noise: what stands still does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.common.memory import check_fits
from pascal_nm.common.packages import require
from pascal_nm.data.dataset import fitted
from pascal_nm.errors import DataError

RATE = 25.0
"""Frames a second."""

_VIEW = 320
"""The longer side of the section that a camera sees, in pixels of an image of 640 x 427."""

_PATH = ((25, 0.0, 0.3), (60, 0.35, 0.1), (15, 0.35, 0.1), (75, 1.0, 0.5), (25, 1.0, 0.5), (50, 0.7, 1.0))
"""How the camera pans: in so many frames to this place, from left (0) to right (1) and from top to
bottom. Twice the same place is a pause."""

_START = (0.0, 0.3)

_STILL = 500
"""Frames of a camera that stands still."""

_OBJECT = 5
"""A moving object's sides are those of the view divided by this: it covers 4 % of it."""

_ROUNDS = (200, 130)
"""Frames in which the object goes once to and fro, along the width and along the height."""


def pan(shape: tuple[int, int, int], limit: int | None = None) -> tuple[Array, tuple[int, ...]]:
    """A camera that pans slowly over two images, with pauses.

    Args:
        shape: (C, H, W) of a frame, grey or in colour.
        limit: at most so many frames, from the start.

    Returns:
        uint8 (T, C, H, W), and the index at which each image's frames begin.

    Raises:
        DataError: other channels, frames that have no room in memory, or Pillow is missing.
    """
    images = _images(shape)
    height, width = _view(shape)
    views = [
        image[top : top + height, left : left + width]
        for image in images
        for left, top in _pan(image.shape[1] - width, image.shape[0] - height)
    ]
    starts = range(0, len(views), len(views) // len(images))
    views = views[:limit]
    return _frames("pan", views, len(views), shape), tuple(start for start in starts if start < len(views))


def still(shape: tuple[int, int, int], limit: int | None = None) -> tuple[Array, tuple[int, ...]]:
    """A camera that stands still before a scene in which one object moves.

    Args and returns are those of :func:`pan`; there is one sequence.
    """
    scene, other = _images(shape)
    height, width = _view(shape)
    scene = _middle(scene, height, width)
    patch = _middle(other, max(1, height // _OBJECT), max(1, width // _OBJECT))

    def views() -> Iterator[Array]:
        for left, top in _rounds(width - patch.shape[1], height - patch.shape[0]):
            seen = scene.copy()
            seen[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
            yield seen

    return _frames("still", views(), _STILL if limit is None else min(limit, _STILL), shape), (0,)


CLIPS: dict[str, Callable[[tuple[int, int, int], int | None], tuple[Array, tuple[int, ...]]]] = {
    "pan": pan,
    "still": still,
}
"""The bundled clips by name."""


def _images(shape: tuple[int, int, int]) -> list[Array]:
    """The sample images, uint8 (H, W, 3)."""
    if shape[0] not in (1, 3):
        raise DataError(f"the bundled clips are grey or in colour, 1 or 3 channels; the network takes {shape[0]}")
    require("PIL.Image")
    from sklearn.datasets import load_sample_images

    return list(load_sample_images().images)


def _view(shape: tuple[int, int, int]) -> tuple[int, int]:
    """(height, width) of a section with the sides of a frame."""
    _, height, width = shape
    scale = _VIEW / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _pan(width: int, height: int) -> Iterator[tuple[int, int]]:
    """(left, top) of the camera's section in each frame, as far as there is room for it to move.

    It starts and stops smoothly.
    """
    place = np.array(_START)
    for frames, *target in _PATH:
        time = np.arange(1, frames + 1)[:, None] / frames
        way = place + (np.array(target) - place) * time**2 * (3 - 2 * time)
        yield from map(tuple, np.rint(way * (width, height)).astype(int).tolist())
        place = np.array(target)


def _rounds(width: int, height: int) -> Iterator[tuple[int, int]]:
    """(left, top) of the object in each frame, as far as there is room for it to move."""
    for frame in range(_STILL):
        x, y = ((1 + np.sin(2 * np.pi * frame / round_)) / 2 for round_ in _ROUNDS)
        yield round(x * width), round(y * height)


def _middle(image: Array, height: int, width: int) -> Array:
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _frames(name: str, views: Iterable[Array], count: int, shape: tuple[int, int, int]) -> Array:
    """The first so many things that a camera sees, (T, C, H, W)."""
    check_fits(name, count, shape)
    pixels = np.empty((count, *shape), np.uint8)
    for frame, view in zip(pixels, views, strict=False):
        frame[:] = fitted(require("PIL.Image").fromarray(view), shape, "a bundled clip")
    return pixels
