"""Cores on the tiles of a mesh, such that the messages' ways are short."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np

from pascal_nm.common.arrays import Array
from pascal_nm.hw_targets.chip import Mesh

_ROWS = 512
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
    traffic = messages + messages.T
    np.fill_diagonal(traffic, 0)  # what a core sends itself goes nowhere
    swaps = _Swaps(traffic, places)
    swaps.run()
    return np.ascontiguousarray(swaps.places.T)


class _Swaps:
    """Swaps of two cores, each of which shortens the ways of all messages, added up.

    Whole numbers in float64 are exact, so the sum falls with every swap, and there is a last one.

    Attributes:
        traffic: messages between each two cores, in both directions, (cores, cores).
        places: column and row of each core's tile, (2, cores).
    """

    def __init__(self, traffic: Array, places: Array) -> None:
        self.traffic, self.places = traffic, np.ascontiguousarray(places.T)
        cores, others = np.nonzero(traffic)
        ends = np.searchsorted(cores, np.arange(1, len(traffic)))
        self._others = np.split(others, ends)
        self._messages = np.split(traffic[cores, others].astype(np.float64), ends)
        # The ways of each core's messages if it stood in another column, or row: (places, cores).
        self._ways = [self._along(place) for place in self.places]
        self._now = np.zeros(len(traffic))
        self._stand(np.arange(len(traffic)))

    def _along(self, place: Array) -> Array:
        apart = np.abs(place - np.arange(place.max() + 1)[:, None]).astype(np.float64)
        rows = range(0, len(self.traffic), _ROWS)
        return np.concatenate([apart @ self.traffic[i : i + _ROWS].T.astype(np.float64) for i in rows], 1)

    def _stand(self, cores: Array) -> None:
        """Note the ways of these cores' messages from where they stand."""
        (ways_x, ways_y), (x, y) = self._ways, self.places[:, cores]
        self._now[cores] = ways_x[x, cores] + ways_y[y, cores]

    def run(self) -> None:
        """Look for each core's best swap in turn, until no core of all has one that gains.

        Between two looks at all of them, only those are looked at that were near a swap.
        """
        every = range(len(self._now))
        cores: Sequence[int] = every
        while True:
            near = sorted(set().union(*(self._swapped(core) for core in cores)))
            if not near and cores is every:
                return
            cores = near or every

    def _swapped(self, a: int) -> Iterable[int]:
        """Swap a core with that which gains most; gives the cores near to a swap."""
        (ways_x, ways_y), (x, y) = self._ways, self.places
        longer = ways_x[:, a][x] + ways_y[:, a][y]  # a in the place of each
        longer += ways_x[x[a]]
        longer += ways_y[y[a]]  # and each in the place of a
        longer -= self._now
        near = self._others[a]  # what both send each other goes as far as before
        longer[near] += 2.0 * self._messages[a] * np.abs(self.places[:, near] - self.places[:, a : a + 1]).sum(0)
        b = int(longer.argmin())
        if longer[b] >= self._now[a]:
            return ()
        to_a, to_b = self.places[:, b].copy(), self.places[:, a].copy()
        self._move(a, to_a)
        self._move(b, to_b)
        changed = np.concatenate([[a, b], self._others[a], self._others[b]])
        self._stand(changed)
        return set(changed.tolist())

    def _move(self, core: int, to: Array) -> None:
        others, messages = self._others[core], self._messages[core]
        for ways, before, after in zip(self._ways, self.places[:, core], to, strict=True):
            if before != after:
                stand = np.arange(len(ways))
                ways[:, others] += (np.abs(stand - after) - np.abs(stand - before))[:, None] * messages
        self.places[:, core] = to


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
