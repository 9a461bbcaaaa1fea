"""Operators: the synapses of a projection, one file for each kind."""

from pascal_nm.network.operators.base import (
    MOST_SYNAPSES,
    OPERATORS,
    Convolution,
    Operator,
    SumPool2d,
    of_node,
    pair,
    register,
)
from pascal_nm.network.operators.conv2d import Conv2d
from pascal_nm.network.operators.conv_transpose2d import ConvTranspose2d
from pascal_nm.network.operators.dense import Dense
from pascal_nm.network.operators.identity import Identity
from pascal_nm.network.operators.index_map import IndexMap
from pascal_nm.network.operators.sparse import Sparse

__all__ = [
    "MOST_SYNAPSES",
    "OPERATORS",
    "Conv2d",
    "ConvTranspose2d",
    "Convolution",
    "Dense",
    "Identity",
    "IndexMap",
    "Operator",
    "Sparse",
    "SumPool2d",
    "of_node",
    "pair",
    "register",
]
