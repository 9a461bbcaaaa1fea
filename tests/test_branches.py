"""What an operator, a dynamics or a schedule is, only their own rooms ask by name or type."""

import ast
from pathlib import Path

import pytest

import pascal_nm
from pascal_nm.network.dynamics import DYNAMICS
from pascal_nm.network.graph import SCHEDULES
from pascal_nm.network.operators import OPERATORS

PACKAGE = Path(pascal_nm.__file__).parent
NAMES = {*DYNAMICS, *OPERATORS, *SCHEDULES}
TYPES = {cls.__name__ for cls in OPERATORS.values()} | {type(one).__name__ for one in DYNAMICS.values()}
SUBJECTS = {"kind", "kinds", "schedule", "operator", "name"}
"""What is compared; the range of weights and an architecture's pooling are called "max", too."""

HOME = ("network/operators/", "network/dynamics.py")


def constants(node):
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def words(node):
    """Names and attributes of an expression."""
    return {getattr(n, "id", getattr(n, "attr", "")) for n in ast.walk(node)}


def types(tree):
    """What a module calls the classes of operators and dynamics."""
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pascal_nm.network")
        for alias in node.names
        if alias.name in TYPES
    }


def branches(text):
    """Lines that compare with a name of an operator, a dynamics or a schedule, or with a type."""
    tree = ast.parse(text)
    known = types(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(
            isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for op in node.ops
        ):
            if constants(node) & NAMES and words(node) & SUBJECTS:
                yield node.lineno
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
            if {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)} & known:
                yield node.lineno
        elif isinstance(node, ast.Match):
            for case in node.cases:
                asked = {
                    n.cls.id
                    for n in ast.walk(case.pattern)
                    if isinstance(n, ast.MatchClass) and isinstance(n.cls, ast.Name)
                }
                if asked & known or constants(case.pattern) & NAMES:
                    yield case.pattern.lineno


MODULES = [p for p in sorted(PACKAGE.rglob("*.py")) if not str(p.relative_to(PACKAGE)).startswith(HOME)]


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_module_asks_for_an_operator_a_dynamics_or_a_schedule_by_name(module):
    assert list(branches(module.read_text())) == []


def test_branches_are_found():
    text = """
from pascal_nm.network.operators import Conv2d, Dense as Full
if p.kind == "pasc" or p.kind in ("max", "readout"):
    pass
if isinstance(q.operator, (Full, int)):
    pass
match q.operator:
    case Conv2d(weight):
        pass
    case _:
        pass
if timing.schedule != "streaming":
    pass
if array.dtype.kind in "iu":
    pass
"""
    assert sorted(branches(text)) == [3, 3, 5, 8, 12]
