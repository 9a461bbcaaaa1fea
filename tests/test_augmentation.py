"""Augmentation: what it changes, and what it leaves."""

import numpy as np
import pytest
import torch

from pascal_nm.data.augmentation import _OPERATIONS, _POLICIES, augment, auto_augment, centre_crop, random_crop
from pascal_nm.errors import DataError

OFF = {"shift": 0, "flip": False, "cutout": 0}


def rng(seed=0):
    return np.random.default_rng(seed)


def test_images_are_moved_mirrored_and_blanked_each_on_its_own():
    images = torch.arange(6 * 2 * 5 * 5, dtype=torch.float32).reshape(6, 2, 5, 5) + 1
    assert torch.equal(augment(images, rng(), **OFF), images)
    moved = augment(images, rng(), **OFF | {"shift": 2})
    for before, after in zip(images, moved, strict=True):
        inside = after[0][after[0] > 0]
        assert set(inside.tolist()) <= set(before[0].flatten().tolist())
        assert len(inside) >= 9
    flipped = augment(images, rng(1), **OFF | {"flip": True})
    mirrored = [torch.equal(after, before.flip(2)) for before, after in zip(images, flipped, strict=True)]
    same = [torch.equal(after, before) for before, after in zip(images, flipped, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert any(mirrored)
    assert any(same)
    blanked = augment(images, rng(), **OFF | {"cutout": 2})
    assert torch.equal((blanked == 0)[:, 0], (blanked == 0)[:, 1])
    assert 0 < int((blanked == 0).sum(dim=(1, 2, 3)).max()) <= 2 * 2 * 2 * 2


def colour_images(n=60):
    smooth = rng(5).integers(0, 256, (n, 3, 4, 4)).repeat(8, 2).repeat(8, 3)
    return smooth.astype(np.uint8)


def test_auto_augment_changes_most_images_and_repeats_with_its_seed():
    images = colour_images()
    a, b, c = (auto_augment(images, rng(seed)) for seed in (1, 1, 2))
    assert a.shape == images.shape
    assert a.dtype == np.uint8
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
    assert 0.6 < np.mean([(x != y).any() for x, y in zip(a, images, strict=True)]) <= 1


@pytest.mark.parametrize("name", sorted(_OPERATIONS))
def test_every_operation_does_something_at_full_strength(name):
    from PIL import Image

    image = Image.fromarray(colour_images(1)[0].transpose(1, 2, 0) // 2)
    changed = [_OPERATIONS[name](image, 1.0, sign) for sign in (-1, 1)]
    assert all(other.size == image.size for other in changed)
    assert any((np.asarray(other) != np.asarray(image)).any() for other in changed)


def test_the_policy_has_the_operations_of_its_publication():
    """Cubuk et al., Table 7: 25 sub-policies, probabilities in tenths, magnitudes 0 to 9."""
    assert len(_POLICIES) == 25
    for name, probability, magnitude in (step for policy in _POLICIES for step in policy):
        assert name in _OPERATIONS
        assert probability * 10 == pytest.approx(round(probability * 10))
        assert 0 <= magnitude <= 9


def test_grey_images_are_refused():
    with pytest.raises(DataError, match="1 channel"):
        auto_augment(np.zeros((2, 1, 8, 8), np.uint8), rng())


def coordinates(width, height):
    """An image whose red is the place from left to right and whose green that from top to
    bottom, 0 to 250.
    """
    from PIL import Image

    x, y = np.meshgrid(np.linspace(0, 250, width), np.linspace(0, 250, height))
    return Image.fromarray(np.stack([x, y, 0 * x], 2).round().astype(np.uint8))


def test_random_crops_have_the_areas_and_ratios_of_the_publication():
    """The section is read off the crop: its corners hold the places where they were cut out."""
    generator, sections = rng(3), []
    for _ in range(400):
        pixels = np.asarray(random_crop(coordinates(400, 300), 50, generator)).astype(float) / 250
        (left, right), (top, bottom) = pixels[25, [0, -1], 0], pixels[[0, -1], 25, 1]
        sections.append(((right - left) * 50 / 49 * 400, (bottom - top) * 50 / 49 * 300))
    width, height = np.array(sections).T
    area, ratio = width * height / (400 * 300), width / height
    assert 0.07 < area.min() < 0.12
    assert 0.9 < area.max() <= 1.02
    assert 0.72 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.37
    assert abs(np.log(ratio).mean()) < 0.05, "wide and high sections are alike"


def test_a_random_crop_of_a_long_thin_image_is_its_middle():
    pixels = np.asarray(random_crop(coordinates(300, 3), 12, rng())).astype(float)
    assert abs(pixels[..., 0].mean() - 125) < 2
    assert np.ptp(pixels[..., 0]) < 6, "4 of 300 columns"


def test_a_centre_crop_is_the_middle_of_the_resized_image():
    from PIL import Image

    image = Image.fromarray(colour_images(1)[0].transpose(1, 2, 0)).resize((90, 64))
    whole = image.resize((360, 256), Image.Resampling.BILINEAR).crop((68, 16, 292, 240))
    difference = np.abs(np.asarray(centre_crop(image, 224)).astype(int) - np.asarray(whole))
    assert difference.max() <= 1, "only rounding between the two ways"
    assert centre_crop(coordinates(100_000, 2), 8).size == (8, 8)
