"""Operators: the synapses of a projection, one file for each kind."""

from pascal_nm.network.operators.base import (
    OPERATORS,
    Convolution,
    Operator,
    SumPool2d,
    of_node,
    pair,
    register,
)
from pascal_nm.network.operators.conv2d import Conv2d
from pascal_nm.network.operators.dense import Dense
from pascal_nm.network.operators.identity import Identity

__all__ = [
    "OPERATORS",
    "Conv2d",
    "Convolution",
    "Dense",
    "Identity",
    "Operator",
    "SumPool2d",
    "of_node",
    "pair",
    "register",
]
