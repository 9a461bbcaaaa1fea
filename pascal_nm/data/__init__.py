"""Images with labels: arrays, folders, Parquet files, and streams of those too large for memory.

Sequences of frames, too: clips, arrays, folders, videos, and recordings of events.
"""

from pascal_nm.common.batches import batches
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
from pascal_nm.data.events import Events
from pascal_nm.data.frames import Frames, camera_frame
from pascal_nm.data.frames import load as load_frames

__all__ = [
    "WHOLE",
    "Dataset",
    "Events",
    "Frames",
    "Images",
    "Part",
    "Split",
    "batches",
    "camera_frame",
    "histogram",
    "load",
    "load_frames",
    "load_pair",
    "normalization",
    "training_part",
]
