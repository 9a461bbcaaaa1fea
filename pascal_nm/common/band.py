"""Figures with the range in which they are where sources differ."""

from __future__ import annotations

from collections.abc import Iterable


class Band(float):
    """A figure, and the range in which it is where sources differ.

    Attributes:
        least: the least; the figure itself where sources agree.
        most: likewise.
    """

    least: float
    most: float

    def __new__(cls, value: float, least: float | None = None, most: float | None = None) -> Band:
        """With an end that is None, the figure itself is that end."""
        made = super().__new__(cls, value)
        made.least, made.most = value if least is None else least, value if most is None else most
        return made

    @property
    def wide(self) -> bool:
        """Whether there is a range."""
        return self.least < self.most

    def times(self, other: Band) -> Band:
        """Both multiplied: neither is negative, so that the ends go together."""
        return Band(self * other, self.least * other.least, self.most * other.most)

    @staticmethod
    def sum(parts: Iterable[Band]) -> Band:
        """All parts together: ends add up, as nobody knows which go together."""
        known = list(parts)
        return Band(sum(known), sum(each.least for each in known), sum(each.most for each in known))

    def summary(self) -> dict[str, float]:
        """For JSON."""
        return {"value": float(self), "least": self.least, "most": self.most}
