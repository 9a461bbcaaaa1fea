"""Cores on the tiles of a mesh, such that the messages' ways are short."""

from __future__ import annotations

import itertools
import math

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.hw_targets.chip import Mesh

ROWS = 512
"""Rows of the traffic between cores that are taken at once: in float64 they take little memory."""


def arranged(messages: Array, mesh: Mesh) -> Array:
    """Tiles for cores: the best of some orders, improved by swaps until none shortens the ways.

    Args:
        messages: (cores, cores), whole numbers: what each core sends to each.
        mesh: of the chip; more chips stand beside it where it is full.

    Returns:
        Column and row of each core's tile, (cores, 2).
    """
    orders = [order(mesh, len(messages)) for order in (_row_by_row, _serpentine, _hilbert)]
    sources, targets = np.nonzero(messages)
    weights = messages[sources, targets].astype(np.float64)
    places = min(orders, key=lambda p: float(np.abs(p[sources] - p[targets]).sum(1) @ weights))
    swaps = _Swaps(messages + messages.T, places.copy())
    swaps.run()
    return swaps.places


class _Swaps:
    """Swaps of two cores, each of which shortens the ways of all messages, added up.

    Whole numbers in float64 are exact, so the sum falls with every swap, and there is a last one.

    Attributes:
        places: column and row of each core's tile.
    """

    def __init__(self, traffic: Array, places: Array) -> None:
        self.traffic, self.places = traffic, places
        # The ways of each core's messages if it stood in another column, or row: (places, cores).
        self._ways = [self._along(axis) for axis in (0, 1)]
        self._now = self._where_they_stand()

    def _along(self, axis: int) -> Array:
        stand = np.arange(self.places[:, axis].max(initial=0) + 1)
        apart = np.abs(self.places[:, axis] - stand[:, None]).astype(np.float64)
        rows = range(0, len(self.traffic), ROWS)
        return np.concatenate([apart @ self.traffic[i : i + ROWS].T.astype(np.float64) for i in rows], 1)

    def _where_they_stand(self) -> Array:
        """The ways of each core's messages, (cores,)."""
        cores = np.arange(len(self.places))
        return np.asarray(sum(ways[place, cores] for ways, place in zip(self._ways, self.places.T, strict=True)))

    def run(self) -> None:
        """Look for each core's best swap in turn, until no core of all has one that gains."""
        cores = itertools.cycle(range(len(self.places)))
        futile = 0
        while futile < len(self.places):
            futile = 0 if self._swapped(next(cores)) else futile + 1

    def _swapped(self, a: int) -> bool:
        x, y = self.places.T
        ways_x, ways_y = self._ways
        there = ways_x[x, a] + ways_y[y, a]
        here = ways_x[x[a]] + ways_y[y[a]]
        apart = np.abs(x - x[a]) + np.abs(y - y[a])
        now = self._now[a] + self._now
        longer = there + here - now + 2.0 * self.traffic[a] * apart  # what both send each other goes as far as before
        b = int(longer.argmin())
        if longer[b] >= 0:
            return False
        self._move(a, self.places[b].copy(), b, self.places[a].copy())
        return True

    def _move(self, a: int, to_a: Array, b: int, to_b: Array) -> None:
        for core, to in ((a, to_a), (b, to_b)):
            heard = np.flatnonzero(self.traffic[core])
            for ways, before, after in zip(self._ways, self.places[core], to, strict=True):
                stand = np.arange(len(ways))
                change = np.abs(stand - after) - np.abs(stand - before)
                ways[:, heard] += change[:, None] * self.traffic[core, heard].astype(np.float64)
            self.places[core] = to
        self._now = self._where_they_stand()


def _chip_grid(mesh: Mesh, cores: int) -> list[tuple[int, int]]:
    """Corners of the chips, in a square as far as possible, boustrophedon."""
    chips = -(-cores // mesh.cores)
    across = max(1, round(math.sqrt(chips * mesh.height / mesh.width)))
    corners = []
    for i in range(chips):
        row, column = divmod(i, across)
        corners.append(((column if row % 2 == 0 else across - 1 - column) * mesh.width, row * mesh.height))
    return corners


def _tiled(mesh: Mesh, cores: int, path: list[tuple[int, int]]) -> Array:
    """Cores on the tiles of a path through each chip, several to a tile."""
    on_chip = list(itertools.islice((tile for tile in path for _ in range(mesh.cores_per_tile)), mesh.cores))
    places = [(x + dx, y + dy) for x, y in _chip_grid(mesh, cores) for dx, dy in on_chip]
    return np.asarray(places[:cores])


def _row_by_row(mesh: Mesh, cores: int) -> Array:
    return _tiled(mesh, cores, [(x, y) for y in range(mesh.height) for x in range(mesh.width)])


def _serpentine(mesh: Mesh, cores: int) -> Array:
    path = [(x, y if x % 2 == 0 else mesh.height - 1 - y) for x in range(mesh.width) for y in range(mesh.height)]
    return _tiled(mesh, cores, path)


def _hilbert(mesh: Mesh, cores: int) -> Array:
    side = 1 << (max(mesh.width, mesh.height) - 1).bit_length()
    path = [
        point
        for point in map(lambda d: _hilbert_point(side, d), range(side * side))
        if point[0] < mesh.width and point[1] < mesh.height
    ]
    return _tiled(mesh, cores, path)


def _hilbert_point(side: int, distance: int) -> tuple[int, int]:
    """The point at a distance along Hilbert's curve.

    See https://en.wikipedia.org/wiki/Hilbert_curve.
    """
    x = y = 0
    size = 1
    while size < side:
        right, up = 1 & (distance // 2), 1 & (distance ^ (distance // 2))
        if up == 0:
            if right == 1:
                x, y = size - 1 - x, size - 1 - y
            x, y = y, x
        x, y = x + size * right, y + size * up
        distance //= 4
        size *= 2
    return x, y
