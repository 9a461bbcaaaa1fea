r"""Trained ReLU networks to QCFS networks: one QCFS for each place of the forward pass.

A place is found by running the network once and looking at the functions that it calls, so
that ``nn.ReLU``, ``F.relu``, ``x.relu_()``, ``clamp(min=0)`` and ``nn.ReLU6`` are the same thing.
A module of the kind that is called at one place gives way to its QCFS. Where a forward calls a
function, or one module more than once, its module becomes an *owner*: of the same class and name,
with a QCFS beside its other children for each of these places, in the order of their calls. What
its forward then asks of ReLU, the next QCFS answers. So the network stays the user's own.

Every clipping of values from below or above has this form, with :math:`\rho` the ReLU that ends at
:math:`b - a`, which is what QCFS with a threshold of at most :math:`b - a` quantizes:

.. math::
    \mathrm{clamp}(x, a, b) = a + \rho(x - a), \qquad
    \mathrm{clamp}(x, -\infty, b) = b - \rho(b - x)
"""

from __future__ import annotations

import copy
import itertools
import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from pascal_nm.common.arrays import Array
from pascal_nm.common.batches import SIZE, batches, is_array
from pascal_nm.errors import ConversionError, DataError, described
from pascal_nm.source.qcfs import QCFS

Method = Literal["mse", "percentile", "max"]
Levels = int | Sequence[int] | Mapping[str, int]

_CALIBRATED = 1024
"""The most inputs that set thresholds; half of them set shifts."""

_TOGETHER = 1 << 23
"""The most numbers of inputs that go through the network at once: 55 images of 224x224."""

_LONG = 2.0
"""Seconds after which progress is said."""

_UNCALIBRATED = 8.0
"""Threshold where there is no data, as Bu et al. start from."""


class Clip(NamedTuple):
    """``clamp(x, low, high)`` as a call asks for it; ``in_place`` of ``x``."""

    x: Tensor
    low: float | Tensor
    high: float | Tensor
    in_place: bool


def _relu(input: Tensor, inplace: bool = False) -> Clip:
    return Clip(input, 0.0, math.inf, inplace)


def _relu6(input: Tensor, inplace: bool = False) -> Clip:
    return Clip(input, 0.0, 6.0, inplace)


def _hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Clip:
    return Clip(input, min_val, max_val, inplace)


def _clamp(input: Tensor, min: Any = None, max: Any = None, *, out: Tensor | None = None) -> Clip | None:
    if out is not None:
        return None
    return Clip(input, -math.inf if min is None else min, math.inf if max is None else max, False)


def _clamp_min(input: Tensor, min: Any) -> Clip:
    return Clip(input, min, math.inf, False)


def _clamp_max(input: Tensor, max: Any) -> Clip:
    return Clip(input, -math.inf, max, False)


def _larger(input: Tensor, other: Any = None, *rest: Any, **options: Any) -> Clip | None:
    """``maximum(x, other)``; the other forms of ``torch.max`` look along an axis."""
    return Clip(input, other, math.inf, False) if isinstance(other, Tensor) and not (rest or options) else None


def _smaller(input: Tensor, other: Any = None, *rest: Any, **options: Any) -> Clip | None:
    return Clip(input, -math.inf, other, False) if isinstance(other, Tensor) and not (rest or options) else None


def _threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Clip | None:
    return Clip(input, threshold, math.inf, inplace) if threshold == value else None


def _in_place(parse: Callable[..., Clip | None]) -> Callable[..., Clip | None]:
    def parsed(*args: Any, **kwargs: Any) -> Clip | None:
        clip = parse(*args, **kwargs)
        return clip and clip._replace(in_place=True)

    return parsed


def _calls() -> dict[Any, Callable[..., Clip | None]]:
    """What clips, by the function that is called: of torch, of tensors, of ``nn.functional``."""
    forms: dict[str, Callable[..., Clip | None]] = {
        "relu": _relu,
        "relu6": _relu6,
        "hardtanh": _hardtanh,
        "clamp": _clamp,
        "clip": _clamp,
        "clamp_min": _clamp_min,
        "clamp_max": _clamp_max,
        "maximum": _larger,
        "minimum": _smaller,
        "max": _larger,
        "min": _smaller,
        "threshold": _threshold,
    }
    found: dict[Any, Callable[..., Clip | None]] = {}
    for name, parse in forms.items():
        for home in (torch, Tensor, F, torch._C._nn):
            for spelled, form in ((name, parse), (f"{name}_", _in_place(parse))):
                if hasattr(home, spelled):
                    found[getattr(home, spelled)] = form
    return found


_CALLS = _calls()

_MODULES = (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Threshold)
"""Modules that do nothing but call one of :data:`_CALLS`, and can give way to a QCFS."""

_FRESH = {"zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_tensor"}
"""What takes no more than shape and type of a tensor."""


@dataclass(frozen=True)
class Place:
    """What an owner does at one of its calls.

    Attributes:
        name: the child that is its QCFS; empty where the value passes as it is; None where the call
            is none of an activation (of a parameter, say), and stays what it was.
        offset: where the clipping ends that is not the QCFS's zero.
        sign: -1 where it is clipped from above.
        aliased: the call is in place, and what it changed is used under another name.
    """

    name: str | None
    offset: float = 0.0
    sign: float = 1.0
    aliased: bool = False


class _Frames(threading.local):
    """The owners whose forward is running, outermost first."""

    def __init__(self) -> None:
        self.stack: list[_Frame | None] = []  # None: what runs is none of its calls

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is called now belongs to no owner."""
        self.stack.append(None)
        try:
            yield
        finally:
            self.stack.pop()


_frames = _Frames()


class _Frame(TorchFunctionMode):
    """One run of an owner's forward: gives each call the owner's next place."""

    def __init__(self, owner: nn.Module) -> None:
        super().__init__()
        self.owner = owner
        self.places: tuple[Place, ...] = owner._places  # type: ignore[assignment]
        self.taken = 0

    def next(self) -> Place:
        """The place of the call that comes now; what the trace did not see stays as it is."""
        self.taken += 1
        return self.places[self.taken - 1] if self.taken <= len(self.places) else Place(None)

    def apply(self, place: Place, x: Tensor) -> Tensor:
        """Clip ``x`` by the QCFS of a place."""
        q = self.owner._modules[str(place.name)]
        assert isinstance(q, QCFS)
        given = x.clone() if place.aliased else x
        if (place.offset, place.sign) != (0.0, 1.0):
            given = given - place.offset if place.sign > 0 else place.offset - given
        with _frames.paused():
            result: Tensor = q.at_its_place(given) if isinstance(q, SharedQCFS) else q(given)
        if (place.offset, place.sign) != (0.0, 1.0):
            result = place.offset + result if place.sign > 0 else place.offset - result
        return x.copy_(result) if place.aliased else result

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Answer what clips; all else is computed as it is."""
        kwargs = kwargs or {}
        if func in _CALLS and _frames.stack[-1] is self:
            clip = _CALLS[func](*args, **kwargs)
            if clip is not None:
                place = self.next()
                if place.name is not None:
                    return self.apply(place, clip.x) if place.name else clip.x
        return func(*args, **kwargs)


class SharedQCFS(QCFS):
    """QCFS in the place of a module that its owner calls more than once.

    It is the QCFS of one of these calls, and hands the others on.
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Clip ``x`` by the QCFS of the owner's next place."""
        frame = _frames.stack[-1] if _frames.stack else None
        if frame is None or all(child is not self for child in frame.owner._modules.values()):
            return self.at_its_place(x)
        place = frame.next()
        return frame.apply(place, x) if place.name else x

    def at_its_place(self, x: Tensor) -> Tensor:
        """Clip ``x`` by this QCFS itself."""
        result: Tensor = super().__call__(x)
        return result


class Owner(nn.Module):
    """What a class gets whose forward asks for activations that are not modules of their own."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        _, _, *state = cast(tuple[Any, ...], super().__reduce_ex__(protocol))
        return _restored, (type(self).__bases__[1],), *state


@cache
def _owner(kind: Any) -> type[nn.Module]:
    """An :class:`Owner` of a class, which goes by the same name."""

    @wraps(kind.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        running = next((f for f in _frames.stack if f is not None and f.owner is self), None)
        frame = running or _Frame(self)  # a forward that calls itself goes on with its places
        _frames.stack.append(frame)
        try:
            with nullcontext() if running else frame:
                return kind.forward(self, *args, **kwargs)
        finally:
            _frames.stack.pop()

    members: dict[str, Any] = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "forward": forward}
    if issubclass(kind, nn.Sequential):  # calls its children in order, to which those of places do not belong

        def children(self: nn.Module) -> Iterator[nn.Module | None]:
            places = {place.name for place in self._places}  # type: ignore[union-attr]
            return (m for name, m in self._modules.items() if name not in places or isinstance(m, SharedQCFS))

        members["__iter__"] = children
    return type(kind.__name__, (Owner, kind), members)


def _restored(kind: type[nn.Module]) -> nn.Module:
    made = _owner(kind)  # type: ignore[arg-type]
    return made.__new__(made)


# What a forward pass does, seen once


@dataclass(eq=False)
class _Call:
    """A call that clips.

    Attributes:
        stack: the modules whose forward was running, the network first.
        function: its name.
        low: where it clips from below; None where it is no activation.
        high: where it clips from above.
        aliased: see :class:`Place`.
        nothing: what it is given is nowhere below ``low`` or above ``high``.
    """

    stack: tuple[nn.Module, ...]
    function: str
    low: float | None
    high: float = math.inf
    aliased: bool = False
    nothing: bool = False


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_VIEWS = _words(
    "flatten view reshape permute transpose squeeze unsqueeze chunk split tensor_split narrow select "
    "getitem expand expand_as view_as repeat contiguous clone detach to type type_as float double half "
    "bfloat16 unbind roll flip index_select movedim swapaxes unflatten pixel_shuffle pixel_unshuffle "
    "channel_shuffle dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout cat "
    "concat stack"
)
"""What moves numbers, and makes no others."""

_POSITIVE = _words("relu relu6 sigmoid softmax abs exp square hardsigmoid softplus")
"""What gives nothing below 0."""

_MONOTONE = _words(
    "add mul div true_divide truediv mean sum amax avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d "
    "adaptive_avg_pool2d adaptive_avg_pool3d max_pool1d max_pool2d max_pool3d adaptive_max_pool1d "
    "adaptive_max_pool2d adaptive_max_pool3d maximum minimum max"
)
"""What gives nothing below 0 where it is given nothing below 0, numbers among it."""

_INSTEAD = "fine-tune the trained network with {} in its place, then call to_qcfs"

_BENT = "it is not ReLU, and no spike count has its values; " + _INSTEAD.format("nn.ReLU")
_NORMALIZED = "it divides by statistics of its input, which is not linear; " + _INSTEAD.format("nn.BatchNorm")
_PRODUCT = (
    "it multiplies two activations, which is not linear, and no sum of spikes gives it; "
    "fine-tune the trained network without the gate or the attention, then call to_qcfs"
)

REASONS: dict[str, str] = {
    **dict.fromkeys(
        _words(
            "leaky_relu prelu rrelu silu gelu elu celu selu mish softplus softsign hardswish logsigmoid tanh "
            "tanhshrink hardshrink softshrink"
        ),
        _BENT,
    ),
    **dict.fromkeys(_words("sigmoid hardsigmoid softmax log_softmax softmin"), _BENT),
    **dict.fromkeys(_words("layer_norm group_norm instance_norm local_response_norm rms_norm normalize"), _NORMALIZED),
    **dict.fromkeys(_words("glu scaled_dot_product_attention multi_head_attention_forward"), _PRODUCT),
}
"""Functions without a QCFS form: why, and what keeps the trained network."""

_PRODUCTS = _words("mul matmul bmm mm einsum baddbmm addbmm")

_LAST = _words("sigmoid softmax log_softmax tanh softmin logsigmoid hardsigmoid")
"""What may stand behind the last layer, where convert leaves it out."""


def _plain(func: Any) -> str:
    """A function's name, without the marks of an operator or of one in place."""
    name = str(getattr(func, "__name__", "")).split(".")[0].strip("_")
    return name[1:] if name in {"iadd", "imul", "radd", "rmul", "itruediv"} else name


class _Recorder(TorchFunctionMode):
    """Watches one forward pass: what clips, where, and what has no QCFS form."""

    def __init__(self, network: nn.Module, inputs: Iterable[Tensor]) -> None:
        super().__init__()
        self.paths = {module: path for path, module in reversed([*network.named_modules()])}
        self.calls: list[_Call] = []
        self.entered: dict[nn.Module, int] = {}
        self._stack: list[nn.Module] = []
        self._kept: list[Any] = []  # so that no two have the same id or the same storage
        self._active: set[int] = set()  # what depends on the input
        self._positive: set[int] = set()
        self._of_storage: dict[int, list[int]] = {}
        self._changed: dict[int, _Call] = {}  # by storage: what was clipped in place
        self._bent: dict[int, tuple[str, ConversionError]] = {}  # what has no QCFS form, unless it ends there
        self._see(list(inputs), active=True, positive=False)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Follow a call of the network."""
        with ExitStack() as hooks:
            for module in self.paths:
                hooks.enter_context(module.register_forward_pre_hook(self._enter))
                hooks.enter_context(module.register_forward_hook(self._leave, always_call=True))
            with self:
                yield

    def ends(self, output: Any) -> None:
        """Note what the network returns."""
        self._used([t for t in tree_leaves(output) if isinstance(t, Tensor)])

    def _enter(self, module: nn.Module, args: Any) -> None:
        self._stack.append(module)
        self.entered[module] = self.entered.get(module, 0) + 1

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._stack.pop()

    def _see(self, result: Any, active: bool, positive: bool) -> None:
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._kept.append(tensor)
                for marked, known in ((active, self._active), (positive, self._positive)):
                    (known.add if marked else known.discard)(id(tensor))
                self._of_storage.setdefault(_storage(tensor), []).append(id(tensor))

    def _used(self, tensors: Iterable[Tensor]) -> None:
        """What is used under its old name, after an activation in place, was aliased."""
        for tensor in tensors:
            if call := self._changed.get(_storage(tensor)):
                call.aliased = True

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Compute, and note what it was."""
        kwargs = kwargs or {}
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        clip = _CALLS[func](*args, **kwargs) if func in _CALLS else None
        if clip is not None and (result := self._clipped(clip, _plain(func))) is not None:
            return result
        result = func(*args, **kwargs)
        made = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        if not made and result is not None:
            return result  # a size, a type
        self._used(given)
        name = _plain(func)
        active = [t for t in given if id(t) in self._active]
        if active and name not in _FRESH:
            self._refuse(name, given, active, made)
        positive = self._stays_positive(name, given, args, kwargs)
        if result is None or any(made and made[0] is t for t in given):  # in place
            changed = args[0] if result is None else made[0]
            if isinstance(changed, Tensor):
                self._positive.difference_update(self._of_storage.get(_storage(changed), ()))
                made = [changed]
        self._see(made, bool(active) and name not in _FRESH, positive)
        return result

    def _clipped(self, clip: Clip, function: str) -> Tensor | None:
        """Note a call that clips; its result, where it is that of an activation."""
        x, low, high, in_place = clip
        if isinstance(low, Tensor) and id(x) not in self._active and high == math.inf:
            x, low = low, x
        elif isinstance(high, Tensor) and id(x) not in self._active and low == -math.inf:
            x, high = high, x
        ends = [self._number(end) for end in (low, high)]
        call = _Call(tuple(self._stack), function, None)
        self.calls.append(call)
        if id(x) not in self._active or not x.is_floating_point() or None in ends:
            return None
        low, high = (float(end) for end in ends if end is not None)
        self._used([x])
        if id(x) in self._positive and low <= 0:
            low = 0.0
            call.nothing = high == math.inf
        call.low, call.high = low, high
        result = x.clamp(low, high)
        self._see(result, active=True, positive=low >= 0)
        if in_place and not call.nothing:
            self._changed[_storage(x)] = call
        return result

    def _number(self, end: float | Tensor) -> float | None:
        """The constant that clips; None where there is none, or more than one."""
        if not isinstance(end, Tensor):
            return float(end)
        if id(end) in self._active or end.numel() == 0 or bool((end != end.flatten()[0]).any()):
            return None
        return float(end.flatten()[0])

    def _stays_positive(self, name: str, given: list[Tensor], args: Any, kwargs: Mapping[str, Any]) -> bool:
        if name == "qcfs":
            return bool((args[1] >= 0).all())
        if name in _POSITIVE:
            return True
        if name == "pad":
            numbers = [n for n in (*args[3:4], kwargs.get("value")) if n is not None]
        elif name in ("interpolate", "upsample"):
            numbers = [-1] if "bicubic" in (*args, *kwargs.values()) else []
        elif name in _VIEWS:
            numbers = []
        elif name in _MONOTONE:
            numbers = [*args[1:2], kwargs.get("alpha"), kwargs.get("other")] if name in ("add", "mul") else []
            numbers += args[1:2] if "div" in name else []
        else:
            return False
        positive = (id(t) in self._positive or (id(t) not in self._active and bool((t >= 0).all())) for t in given)
        return all(n >= 0 for n in numbers if isinstance(n, int | float)) and all(positive)

    def _refuse(self, name: str, given: list[Tensor], active: list[Tensor], made: list[Tensor]) -> None:
        """Raise where something has no QCFS form; wait where it may be the network's end."""
        waiting = [self._bent[id(t)] for t in given if id(t) in self._bent]
        if name in _PRODUCTS and len(active) > 1:
            what = f"{waiting[0][0]} gate: {name}" if waiting else name
            raise self._error(what, _PRODUCT)
        if waiting and name in _VIEWS:
            self._bent.update((id(t), waiting[0]) for t in made)
        elif waiting:
            raise waiting[0][1]
        if name in REASONS:
            error = self._error(name, REASONS[name])
            if name not in _LAST:
                raise error
            self._bent.update((id(t), (name, error)) for t in made)

    def _error(self, what: str, reason: str) -> ConversionError:
        top = self._stack[-1]
        place = f"module {self.paths[top]!r} ({type(top).__name__})" if self.paths[top] else "the network's own forward"
        return ConversionError(f"{place}: {what} has no QCFS form: {reason}")


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


# From what was seen to places


@dataclass(frozen=True, eq=False)
class _Activation:
    """A QCFS that took an activation's place; its threshold may not exceed ``limit``."""

    qcfs: QCFS
    limit: float


class _Placing:
    """Gives every call that clips its QCFS, by module and child name."""

    def __init__(self, seen: _Recorder) -> None:
        self.seen = seen
        self.placed: list[_Activation] = []
        self.owned: dict[nn.Module, list[Place]] = {}
        sites: dict[tuple[nn.Module, ...], list[_Call]] = {}
        for call in seen.calls:
            if len(call.stack) > 1 and _replaceable(call.stack[-1]):
                sites.setdefault(call.stack[-2:], []).append(call)
        self.slots = {site: [n for n, child in site[0]._modules.items() if child is site[1]] for site in sites}
        self.whole = {
            site for site, calls in sites.items() if len(calls) <= len(self.slots[site]) and all(map(_replaces, calls))
        }
        self.shared = {
            site
            for site, calls in sites.items()
            if site not in self.whole
            and self.slots[site]
            and seen.entered[site[0]] == 1
            and all(call.low is not None for call in calls)
        }

    def place(self) -> None:
        """Put QCFS into the network that was watched."""
        for call in self.seen.calls:
            site = call.stack[-2:]
            if site in self.whole:
                setattr(site[0], self.slots[site].pop(0), self._made(call) or nn.Identity())
            else:
                self._own(call)
        for owner, places in self.owned.items():
            if any(place.name is not None for place in places):
                owner._places = tuple(places)  # type: ignore[assignment]
                owner.__class__ = _owner(type(owner))  # type: ignore[arg-type]

    def _made(self, call: _Call, kind: type[QCFS] = QCFS) -> QCFS | None:
        if call.nothing:
            return None
        low, high = call.low, call.high
        assert low is not None
        if not high > low:
            path = self.seen.paths[call.stack[-1]]
            raise ConversionError(
                f"module {path!r}: {call.function} between {low:g} and {high:g} leaves one number only"
            )
        q = kind()
        self.placed.append(_Activation(q, high - low))
        return q

    def _own(self, call: _Call) -> None:
        """Make a call a place of the module whose forward makes it.

        Of a module that is called more than once it belongs to the one that calls that.
        """
        leaf = len(call.stack) > 1 and _replaceable(call.stack[-1])
        own = len(call.stack) - (2 if leaf else 1)
        while own > 0 and self.seen.entered[call.stack[own]] > 1:
            own -= 1
        owner = call.stack[own]
        places = self.owned.setdefault(owner, [])
        if call.low is None:
            places.append(Place(None))
            return
        site = call.stack[-2:]
        if site in self.shared and (q := self._made(call, SharedQCFS if self._first(site) else QCFS)):
            base = self.slots[site][0]
            name = base if isinstance(q, SharedQCFS) else _free(owner, base)
        elif site not in self.shared and (q := self._made(call)):
            name = _free(owner, self._name(call, owner))
        else:
            places.append(Place(""))
            return
        setattr(owner, name, q)
        if call.low == -math.inf:
            places.append(Place(name, call.high, -1.0, call.aliased))
        else:
            places.append(Place(name, call.low, 1.0, call.aliased))

    def _name(self, call: _Call, owner: nn.Module) -> str:
        """The path from the owner to what makes the call: a module of ReLU, or a function."""
        *_, last = call.stack
        path, name = self.seen.paths[last], call.function
        if call.stack[-2:] in self.slots:
            path, name = self.seen.paths[call.stack[-2]], [*self.slots[call.stack[-2:]], name][0]
        parts = path.removeprefix(self.seen.paths[owner]).split(".")
        return "_".join([part for part in parts if part] + [name])

    def _first(self, site: Any) -> bool:
        return not isinstance(site[0]._modules[self.slots[site][0]], QCFS)


def _replaceable(module: nn.Module) -> bool:
    return isinstance(module, _MODULES) and any(type(module).forward is kind.forward for kind in _MODULES)


def _replaces(call: _Call) -> bool:
    return call.low == 0 and not call.aliased


def _free(owner: nn.Module, base: str) -> str:
    count, name = 1, base
    while hasattr(owner, name):
        count += 1
        name = f"{base}_{count}"
    return name


# The whole


def to_qcfs(
    module: nn.Module,
    levels: Levels,
    calibration: Any = None,
    method: Method = "mse",
    *,
    example: Any = None,
) -> nn.Module:
    """A copy of a trained ReLU network with a QCFS activation at each place of its forward pass.

    The copy is a network of the user's own class that trains and saves as the original does: its
    parameters and buffers keep their names, and each QCFS has that of the module it stands for
    (``layer1.0.relu``), with a number where there are more of them (``layer1.0.relu_2``).
    ReLU on what is nowhere negative is left out.

    Args:
        module: a network whose activations are ReLU, or another clipping to a range (``nn.ReLU6``,
            ``clamp``, ``nn.Hardtanh``), as modules or functions; shared, in place or not.
            QCFS activations that it has stay as they are.
        levels: L for all, one for each activation in the order of execution, or by name; of names,
            ``""`` is that of all others.
        calibration: data that thresholds are set on: what
            :func:`pascal_nm.common.batches.batches` takes, labels ignored; for a network of two
            inputs an iterable of batches ``((x1, x2), labels)``. Without it every threshold is 8,
            or where the activation ends.
        method: ``mse`` sets a threshold where the mean squared error between ReLU and QCFS is
            least, ``percentile`` at the 99.9th percentile of the positive activations, ``max`` at
            the largest of them.
        example: an input (N, *input shape), or a tuple of those of a network with several; the
            first batch of ``calibration`` by default. With neither, nothing can be run, and only
            ``nn.ReLU`` and its like among the modules are found, each taken as used once.

    Returns:
        The QCFS network, in evaluation mode; fine-tune it, or convert it as it is.

    Raises:
        ConversionError: an activation without a QCFS form, with its module's place; no activation;
            a network that cannot be run; wrong levels; or an unknown method.
        DataError: calibration data that the network does not take, or that give NaN.
    """
    if method not in _METHODS:
        raise ConversionError(f"unknown calibration method {method!r}: choose from {', '.join(_METHODS)}")
    network = unwrapped(module).eval()
    inputs = _Inputs(network, calibration)
    given = None if example is None else inputs.taken(example)
    if given is None and calibration is not None:
        given = inputs.first()
    placed = _by_modules(network) if given is None else _by_run(network, given)
    names = {layer: name for name, layer in network.named_modules() if isinstance(layer, QCFS)}
    if not placed and not names:
        raise ConversionError(_NONE if given is not None else f"{_NONE} {_UNSEEN}")
    each = _levels([names[one.qcfs] for one in placed], levels)
    kind = inputs.parameter
    for one, number in zip(placed, each, strict=True):
        one.qcfs.to(kind.device, kind.dtype)
        one.qcfs.levels = QCFS(number).levels
        one.qcfs.threshold.data = kind.new_tensor(min(_UNCALIBRATED, one.limit))
        one.qcfs.eval()
    if calibration is not None:
        _calibrate(network, placed, inputs, method)
    return network


_NONE = "the network has no activation that could become QCFS: it calls no ReLU and nothing like it."
_UNSEEN = "Functions such as torch.nn.functional.relu are found with an example=, an input for one run."


def prepared(
    network: nn.Module, *, levels: Levels | None = None, calibration: Any = None, example: Any = None
) -> nn.Module:
    """What :func:`pascal_nm.source.conversion.convert` traces: QCFS stands where ReLU was.

    A network of half precision is taken in single precision, which has all its numbers.

    Raises:
        ConversionError: a network that :func:`to_qcfs` refuses.
    """
    if levels is None and calibration is not None:
        raise ConversionError("calibration sets the thresholds of a ReLU network: give levels, too, such as levels=8")
    network = unwrapped(network).eval()
    if {torch.float16, torch.bfloat16} & {t.dtype for t in (*network.parameters(), *network.buffers())}:
        network = network.float()
    return network if levels is None else to_qcfs(network, levels, calibration, example=example)


def unwrapped(module: nn.Module) -> nn.Module:
    """A copy of a network, without what others put around it to run it faster.

    ``DataParallel`` and ``DistributedDataParallel`` and what ``torch.compile`` made, also inside.
    """
    if not isinstance(module, nn.Module):
        raise ConversionError(f"a torch.nn.Module is needed, not a {type(module).__name__}")
    if isinstance(module, torch.jit.ScriptModule):
        raise ConversionError("a TorchScript module cannot be followed: give the nn.Module that it was made of")
    outer: Any = module
    while True:
        if isinstance(outer, nn.DataParallel | nn.parallel.DistributedDataParallel):
            outer = outer.module
        elif hasattr(outer, "_orig_mod"):
            outer = outer._orig_mod
        else:
            break
    result: nn.Module = _copied(outer)
    for inner in list(result.modules()):
        for name, child in list(inner._modules.items()):
            inner._modules[name] = getattr(child, "_orig_mod", child)
    return result


def _copied(module: nn.Module) -> nn.Module:
    """A deep copy, also of weights that hooks compute (``torch.nn.utils.weight_norm``)."""
    computed = [t for part in module.modules() for t in vars(part).values() if isinstance(t, Tensor) and not t.is_leaf]
    return copy.deepcopy(module, {id(t): t.detach().clone() for t in computed})


class _Inputs:
    """A network's inputs, in the type and on the device of its parameters.

    ``data`` may be passed over once only, if it is an iterator.
    """

    def __init__(self, network: nn.Module, data: Any) -> None:
        floats = [p for p in (*network.parameters(), *network.buffers()) if p.is_floating_point()]
        self.parameter = floats[0].data if floats else torch.zeros(())
        self._batches = iter(()) if data is None else _batches(data)
        self._first: tuple[Tensor, ...] | None = None

    def first(self) -> tuple[Tensor, ...]:
        """The first batch, which comes again among all."""
        if self._first is None:
            self._first = next(map(self.taken, self._batches), None)
        if self._first is None:
            raise DataError(_EMPTY)
        return self._first

    def some(self) -> Iterator[tuple[Tensor, ...]]:
        """The first inputs, as many as calibration takes; said on a terminal, if it takes long."""
        seen, begun = 0, time.monotonic()
        for batch in itertools.chain([self.first()], map(self.taken, self._batches)):
            yield tuple(x[: _CALIBRATED - seen] for x in batch)
            seen += len(batch[0])
            if time.monotonic() - begun > _LONG and sys.stderr.isatty():
                print(f"\rcalibration: {seen} of at most {_CALIBRATED} inputs", end="", file=sys.stderr, flush=True)
            if seen >= _CALIBRATED:
                break
        if time.monotonic() - begun > _LONG and sys.stderr.isatty():
            print(file=sys.stderr)

    def taken(self, x: Any) -> tuple[Tensor, ...]:
        """One batch, of one input or a tuple of several."""
        return tuple(map(self._one, x if isinstance(x, tuple | list) else (x,)))

    def _one(self, x: Any) -> Tensor:
        x = torch.as_tensor(x)
        if not x.is_floating_point():
            raise DataError(
                f"calibration needs the network's inputs, {self.parameter.dtype}, not {x.dtype}: preprocess the pixels"
            )
        return cast(Tensor, x.to(self.parameter))


def first_batch(data: Any) -> tuple[Any, Any]:
    """The first inputs of calibration data, and the data again, which may be an iterator.

    Raises:
        DataError: there are none.
    """
    if isinstance(data, Iterator):
        first = list(itertools.islice(data, 1))
        given, data = iter(first), itertools.chain(first, data)
    else:
        given = data
    for x in _batches(given):
        return torch.as_tensor(x) if not isinstance(x, tuple | list) else x, data
    raise DataError(_EMPTY)


_EMPTY = "the calibration data hold no inputs"


def _batches(data: Any) -> Iterator[Any]:
    """Inputs as they come, without labels: an array, or a tuple of several inputs."""
    pair = isinstance(data, tuple) and len(data) == 2
    if isinstance(data, list) and len(data) == 2 and all(map(is_array, data)):  # as a loader gives a batch
        pair = data[1].ndim == 1 and len(data[0]) == len(data[1]) and not torch.as_tensor(data[1]).is_floating_point()
    if isinstance(data, torch.utils.data.Dataset):
        data = torch.utils.data.DataLoader(data, SIZE)
    if pair or is_array(data) or not hasattr(data, "__iter__") or isinstance(data, str | dict):
        yield from (x for x, _ in batches(data[0] if pair else data))
        return
    for batch in data:
        x = batch[0] if isinstance(batch, tuple | list) and batch else batch
        if isinstance(x, tuple | list):
            yield x
        else:
            yield from (some for some, _ in batches(iter([x])))


def _by_modules(network: nn.Module) -> list[_Activation]:
    """QCFS for all modules of ReLU and its like, where the network cannot be run."""
    placed = []
    for parent in list(network.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and _replaceable(child):
                (call,) = _watched(child, (torch.zeros(1),)).calls
                if call.low == 0:
                    placed.append(_Activation(QCFS(), call.high))
                    setattr(parent, name, placed[-1].qcfs)
    return placed


def _by_run(network: nn.Module, inputs: tuple[Tensor, ...]) -> list[_Activation]:
    """QCFS for all that clips when the network is run, in the order of execution."""
    few = tuple(x[:2] for x in inputs)
    expected = _ran(network, few)
    placing = _Placing(_watched(network, few))
    placing.place()

    called = set()

    def see(number: int, x: Tensor) -> None:
        called.add(number)
        placing.placed[number].qcfs.shift = nn.Parameter(torch.zeros_like(_means(x)))

    with _as_relu(placing.placed, see):
        found = _ran(network, few)
    for one, other in zip(expected, found, strict=True):
        near = math.sqrt(torch.finfo(one.dtype).eps) * float(one.abs().max()) if one.numel() else 0.0
        if not torch.allclose(one, other, rtol=0, atol=near, equal_nan=True):
            raise ConversionError(
                "the network asks for its activations in another way in each run, so that they cannot be followed: "
                "give each an nn.ReLU of its own"
            )
    if missing := next((one for number, one in enumerate(placing.placed) if number not in called), None):
        name = next(name for name, layer in network.named_modules() if layer is missing.qcfs)
        raise ConversionError(
            f"the activation that would become {name!r} is called outside of its module's forward, as by a hook, and "
            "cannot be replaced there: call it in forward"
        )
    return placing.placed


def _ran(network: nn.Module, inputs: tuple[Tensor, ...], seen: _Recorder | None = None) -> list[Tensor]:
    """The numbers that a network gives."""
    try:
        with torch.no_grad():
            output = network(*(inputs if seen else (x.clone() for x in inputs)))
    except ConversionError:
        raise
    except Exception as error:  # a network raises what it likes
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
        several = " (a network of several inputs takes batches ((a, b), labels))" if len(inputs) == 1 else ""
        raise ConversionError(
            f"the network does not run on an input of shape {shapes}: {described(error)}{several}"
        ) from error
    return [t for t in tree_leaves(output) if isinstance(t, Tensor) and t.is_floating_point()]


def _watched(network: nn.Module, inputs: tuple[Tensor, ...]) -> _Recorder:
    """What a run of a network calls."""
    inputs = tuple(x.clone() for x in inputs)
    seen = _Recorder(network, inputs)
    with seen.watching():
        output = _ran(network, inputs, seen)
    seen.ends(output)
    return seen


@contextmanager
def _as_relu(
    placed: Sequence[_Activation], see: Callable[[int, Tensor], None] = lambda number, x: None
) -> Iterator[None]:
    """Let activations clip and not quantize; each shows its input, by its number."""

    def clipped(number: int, limit: float) -> Any:
        def hook(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            with _frames.paused():
                see(number, args[0])
                return args[0].clamp(0, limit)

        return hook

    with ExitStack() as hooks:
        for number, one in enumerate(placed):
            hooks.enter_context(one.qcfs.register_forward_hook(clipped(number, one.limit)))
        yield


def _levels(names: Sequence[str], levels: Levels) -> list[int]:
    """L of each activation."""
    if isinstance(levels, Mapping):
        unknown = sorted(set(levels) - {*names, ""})
        missing = [name for name in names if name not in levels and "" not in levels]
        if unknown or missing:
            what = f"there is no {unknown[0]!r}" if unknown else f"{missing[0]!r} has none"
            raise ConversionError(f"levels by name are for {', '.join(names)}: {what}")
        return [levels.get(name, levels.get("", 0)) for name in names]
    numbers = list(levels) if isinstance(levels, Sequence) else [levels] * len(names)
    if len(numbers) != len(names):
        raise ConversionError(f"{len(numbers)} levels were given for {len(names)} activations: {', '.join(names)}")
    return numbers


_METHODS = ("mse", "percentile", "max")


class _Histogram:
    """How often an activation has each value above 0, up to its largest; of a fixed size.

    Where a larger value comes, two bins become one, until it fits.
    """

    BINS = 1 << 13

    def __init__(self) -> None:
        self.counts = np.zeros(self.BINS)
        self.largest = self.end = 0.0

    def add(self, x: Tensor) -> None:
        """Count values of any shape."""
        positive = x.detach().flatten().to("cpu", torch.float32).clamp_(min=0)
        largest = float(positive.max()) if positive.numel() else 0.0
        if not math.isfinite(float(positive.sum(dtype=torch.float64))):
            raise DataError("calibration needs inputs that give finite activations; these give NaN or infinite ones")
        self.largest = max(self.largest, largest)
        if largest == 0:
            return
        self.end = self.end or largest
        while largest > self.end:
            self.counts[: self.BINS // 2] = self.counts.reshape(-1, 2).sum(1)
            self.counts[self.BINS // 2 :] = 0
            self.end *= 2
        bins = positive[positive > 0].mul_(self.BINS / self.end).long().clamp_(max=self.BINS - 1)
        self.counts += np.bincount(bins.numpy(), minlength=self.BINS)

    def threshold(self, levels: int, limit: float, method: Method) -> float:
        """Lambda, at most ``limit``; where nothing was seen above 0, 1."""
        if self.largest == 0:
            return min(1.0, limit)
        centres = (np.arange(self.BINS) + 0.5) * (self.end / self.BINS)
        if method == "max":
            found = self.largest
        elif method == "percentile":
            found = centres[np.searchsorted(np.cumsum(self.counts), 0.999 * self.counts.sum())]
        else:
            tops = min(self.largest, limit) * np.arange(1, 101) / 100
            seen = self.counts > 0
            found = min(tops, key=lambda top: self._error(centres[seen], self.counts[seen], top, levels))
        return float(min(found, limit))

    @staticmethod
    def _error(values: Array, counts: Array, top: float, levels: int) -> float:
        quantized = np.clip(np.floor(values * (levels / top) + 0.5), 0, levels) * (top / levels)
        return float(counts @ np.square(quantized - values))


def _means(x: Tensor) -> Tensor:
    """The mean of each channel, broadcastable to ``x`` (N, C, …)."""
    return x.mean([axis for axis in range(x.ndim) if axis != 1], keepdim=True)[0] if x.ndim > 1 else x.mean()


def _calibrate(network: nn.Module, placed: Sequence[_Activation], inputs: _Inputs, method: Method) -> None:
    """Set thresholds by what the activations of the ReLU network are given, then shifts.

    One layer after the other, a shift gives each channel the mean that it had in the ReLU network,
    which the steps of the layers before it have moved (after Nagel et al.,
    https://arxiv.org/abs/1906.04721, section 4.2, who do so for weights of few bits).
    """
    histograms, means, kept = [_Histogram() for _ in placed], dict[int, Tensor](), list[tuple[Tensor, ...]]()
    most = max(1, min(_CALIBRATED // 2, _TOGETHER // sum(x[0].numel() for x in inputs.first())))
    with torch.no_grad(), _as_relu(placed, lambda number, x: histograms[number].add(x)):
        for batch in inputs.some():
            network(*(x.clone() for x in batch))
            kept += [batch] if sum(len(x) for x, *_ in kept) < most else []
    for one, histogram in zip(placed, histograms, strict=True):
        one.qcfs.threshold.data.fill_(histogram.threshold(one.qcfs.levels, one.limit, method))

    few = tuple(torch.cat(parts)[:most] for parts in zip(*kept, strict=True))
    with _as_relu(placed, lambda number, x: means.update({number: _means(x)})):
        _ran(network, few)

    def corrected(number: int) -> Any:
        def hook(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
            with _frames.paused():
                placed[number].qcfs.shift.data.copy_(means[number] - _means(args[0]))  # type: ignore[union-attr]

        return hook

    with ExitStack() as hooks:
        for number, one in enumerate(placed):
            hooks.enter_context(one.qcfs.register_forward_pre_hook(corrected(number)))
        _ran(network, few)
