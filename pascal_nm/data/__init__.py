"""Images with labels: arrays, folders, Parquet files, and streams of those too large for memory."""

from pascal_nm.data.dataset import (
    WHOLE,
    Dataset,
    Images,
    Part,
    Split,
    histogram,
    load,
    load_pair,
    normalization,
    training_part,
)

__all__ = [
    "WHOLE",
    "Dataset",
    "Images",
    "Part",
    "Split",
    "histogram",
    "load",
    "load_pair",
    "normalization",
    "training_part",
]
