"""What training does to images, drawn anew for each of them.

For CIFAR it is the CIFAR-10 policy of AutoAugment, random crop, flip and Cutout; for ImageNet, its
crops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pascal_nm.common.arrays import Array
from pascal_nm.errors import DataError

_POLICIES = (
    (("invert", 0.1, 7), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 8), ("equalize", 0.9, 2)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 5), ("equalize", 0.5, 1)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 7), ("autocontrast", 0.4, 8)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 3)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 8), ("equalize", 0.6, 4)),
    (("color", 0.9, 9), ("equalize", 0.6, 6)),
    (("autocontrast", 0.8, 4), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 3)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 2), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 8), ("invert", 0.1, 3)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 1)),
)
"""Table 7 of Cubuk et al. (https://arxiv.org/abs/1805.09501): two operations each, with probability
and magnitude 0 to 9."""

_FILL = (128, 128, 128)


def auto_augment(pixels: Array, rng: np.random.Generator) -> Array:
    """One random sub-policy of :data:`_POLICIES` for each image.

    Args:
        pixels: uint8 of shape (N, 3, H, W).
        rng: chooses sub-policies and signs.

    Returns:
        uint8 of the same shape.

    Raises:
        DataError: images without three channels, or Pillow is missing.
    """
    if pixels.shape[1] != 3:
        raise DataError(f"the AutoAugment policy is for colour images, these have {pixels.shape[1]} channel(s)")
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("AutoAugment needs Pillow: pip install 'pascal-nm[data]'") from error
    n = len(pixels)
    chosen = rng.integers(0, len(_POLICIES), n)
    chances, signs = rng.random((n, 2)), rng.choice((-1, 1), (n, 2))
    result = []
    for i in range(n):
        image = Image.fromarray(np.ascontiguousarray(pixels[i].transpose(1, 2, 0)))
        for (name, probability, magnitude), chance, sign in zip(
            _POLICIES[chosen[i]], chances[i], signs[i], strict=True
        ):
            if chance < probability:
                image = _OPERATIONS[name](image, magnitude / 9, int(sign))
        result.append(np.asarray(image).transpose(2, 0, 1))
    return np.stack(result)


def _affine(image: Any, matrix: tuple[float, ...], *, smooth: bool) -> Any:
    from PIL import Image

    method = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return image.transform(image.size, Image.Transform.AFFINE, matrix, method, fillcolor=_FILL)


def _enhanced(kind: str) -> Callable[[Any, float, int], Any]:
    def apply(image: Any, strength: float, sign: int) -> Any:
        from PIL import ImageEnhance

        return getattr(ImageEnhance, kind)(image).enhance(1 + 0.9 * strength * sign)

    return apply


def _pointwise(kind: str, *arguments: Callable[[float], int]) -> Callable[[Any, float, int], Any]:
    def apply(image: Any, strength: float, sign: int) -> Any:
        from PIL import ImageOps

        return getattr(ImageOps, kind)(image, *(argument(strength) for argument in arguments))

    return apply


_OPERATIONS: dict[str, Callable[[Any, float, int], Any]] = {
    "shear_y": lambda image, strength, sign: _affine(image, (1, 0, 0, 0.3 * strength * sign, 1, 0), smooth=True),
    "translate_x": lambda image, strength, sign: _affine(
        image, (1, 0, 150 / 331 * strength * image.size[0] * sign, 0, 1, 0), smooth=False
    ),
    "translate_y": lambda image, strength, sign: _affine(
        image, (1, 0, 0, 0, 1, 150 / 331 * strength * image.size[1] * sign), smooth=False
    ),
    "rotate": lambda image, strength, sign: image.rotate(30 * strength * sign, fillcolor=_FILL),
    "color": _enhanced("Color"),
    "contrast": _enhanced("Contrast"),
    "sharpness": _enhanced("Sharpness"),
    "brightness": _enhanced("Brightness"),
    "posterize": _pointwise("posterize", lambda strength: round(8 - 4 * strength)),
    "solarize": _pointwise("solarize", lambda strength: round(256 * (1 - strength))),
    "autocontrast": _pointwise("autocontrast"),
    "equalize": _pointwise("equalize"),
    "invert": _pointwise("invert"),
}
"""Operations with a strength of 0 to 1 and a sign, and ranges as in the publication."""


def augment(images: Tensor, rng: np.random.Generator, *, shift: int, flip: bool, cutout: int) -> Tensor:
    """Random crop, horizontal flip and Cutout of images (N, C, H, W), each image its own.

    The crop is taken with ``shift`` pixels of zero padding.
    """
    n, _, height, width = images.shape
    if shift:
        s = shift
        padded = F.pad(images, (s, s, s, s))
        top, left = (torch.from_numpy(rng.integers(0, 2 * s + 1, n)).to(images.device) for _ in range(2))
        rows = (top[:, None] + torch.arange(height, device=images.device))[:, None, :, None]
        columns = (left[:, None] + torch.arange(width, device=images.device))[:, None, None, :]
        batch = torch.arange(n, device=images.device)[:, None, None, None]
        channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
        images = padded[batch, channel, rows, columns]
    if flip:
        mirrored = torch.from_numpy(rng.random(n) < 0.5).to(images.device)
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    if cutout:
        centre = torch.from_numpy(rng.integers(0, (height, width), (n, 2))).to(images.device)
        y = (torch.arange(height, device=images.device) - centre[:, :1]).abs() < cutout / 2
        x = (torch.arange(width, device=images.device) - centre[:, 1:]).abs() < cutout / 2
        images = images * ~(y[:, None, :, None] & x[:, None, None, :])
    return images


_AREA = (0.08, 1.0)
"""Share of an image's area that :func:`random_crop` takes."""

_ASPECT = (3 / 4, 4 / 3)
"""Width of its section by the height."""

_SHORT_SIDE = 256 / 224
"""Short side of an image by the side of its :func:`centre_crop`."""


def random_crop(image: Any, size: int, rng: np.random.Generator) -> Any:
    """A random section of an image, resized.

    The training crop of Szegedy et al. (https://arxiv.org/abs/1409.4842, section 6).

    The section has a share of the area drawn evenly from :data:`_AREA`, and a ratio of its sides
    drawn evenly, on a logarithmic scale, from :data:`_ASPECT`. Where ten draws do not fit into the
    image, the largest central section with an allowed ratio is taken.

    Args:
        image: a Pillow image.
        size: side of the result, in pixels.
        rng: chooses the section.

    Returns:
        A Pillow image of ``size`` x ``size`` pixels.
    """
    from PIL import Image

    return image.crop(_section(image.size, rng)).resize((size, size), Image.Resampling.BILINEAR)


def _section(size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a random section of an image of ``size`` (width, height)."""
    width, height = size
    for _ in range(10):
        area = width * height * rng.uniform(*_AREA)
        aspect = np.exp(rng.uniform(*np.log(_ASPECT)))
        w, h = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return _box(int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h)
    w, h = min(width, max(1, round(height * _ASPECT[1]))), min(height, max(1, round(width / _ASPECT[0])))
    return _box((width - w) // 2, (height - h) // 2, w, h)


def _box(left: int, top: int, width: int, height: int) -> tuple[int, int, int, int]:
    return left, top, left + width, top + height


def centre_crop(image: Any, size: int) -> Any:
    """The test crop.

    The short side is resized to :data:`_SHORT_SIDE` times ``size``, and the middle is cut out.

    Args:
        image: a Pillow image.
        size: side of the result, in pixels.

    Returns:
        A Pillow image of ``size`` x ``size`` pixels.
    """
    from PIL import Image

    width, height = image.size
    side = min(width, height) / _SHORT_SIDE
    left, top = (width - side) / 2, (height - side) / 2
    # One resampling of the section gives what resizing the whole and cutting gives, without a huge
    # copy of a long, thin image.
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)
