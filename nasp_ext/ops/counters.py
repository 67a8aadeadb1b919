# SPDX-License-Identifier: MIT
"""What PyTorch's own FLOP counters learn about the fused operators.

``torch.utils.flop_counter`` asks a formula for each operator. ``torch.profiler`` asks none: it knows a few
operators by their names and counts from the shapes of their inputs. So a profiler with ``with_flops=True``
gets, behind each fused call, an event ``aten::conv2d`` for each convolution of the call; other profilers get
none.
"""

import gc
import sys
import weakref
from collections.abc import Iterable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch
from torch._C._profiler import ActiveProfilerType, _RecordFunctionFast
from torch.autograd import profiler

from nasp_ext import _C as _C  # registers torch.ops.nasp_ext
from nasp_ext.ops.flops import COUNTED, flops_of

_FLOP_COUNTER = "torch.utils.flop_counter"


class _Registration(MetaPathFinder):
    """Registers the formulas when somebody imports torch.utils.flop_counter.

    Not at import: where Triton is installed that module takes a sixth of a second to load.
    """

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != _FLOP_COUNTER:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Registering(spec.loader)
        return spec


class _Registering(Loader):
    """Loads a module as its own loader does, then registers."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        _register(module)


def _register(flop_counter: Any) -> None:
    for name in COUNTED:
        operator = getattr(torch.ops.nasp_ext, name)
        flop_counter.register_flop_formula(operator, get_raw=True)(flops_of(name))


class _Profiler:
    """Finds the profiler that is running: PyTorch tells that there is one, not what it was asked for."""

    def __init__(self) -> None:
        self._found: Any = lambda: None

    def counts_flops(self) -> bool:
        kind = torch._C._autograd._profiler_type()
        if kind != ActiveProfilerType.KINETO:  # another thread's, or one that keeps nothing
            return False
        running = self._found()
        if running is None or not _is_running(running):
            running = _running_profiler()
            if running is None:
                return False
            self._found = weakref.ref(running)
        return bool(running.with_flops)


def _is_running(found: Any) -> bool:
    return bool(found.profiling_start_time_ns > found.profiling_end_time_ns)


def _running_profiler() -> Any:
    """Among the young objects first: looking through all takes milliseconds, once for a profiler."""
    for generation in (0, 1):
        found = _running_among(gc.get_objects(generation))
        if found is not None:
            return found
    return _running_among(gc.get_referrers(profiler.profile))


def _running_among(objects: Iterable[Any]) -> Any:
    return next((o for o in objects if type(o) is profiler.profile and _is_running(o)), None)


_PROFILER = _Profiler()


def record_flops(operator: Any, arguments: Sequence[Any]) -> None:
    """Tell a running profiler that counts which convolutions a call has computed.

    Gradients of convolutions are not among them: of the plain modules the profiler counts none either.
    """
    name = operator._schema.name.rpartition("::")[2]
    if name not in COUNTED or not _PROFILER.counts_flops():
        return
    with _RecordFunctionFast(f"nasp_ext: FLOPs of {name}"):
        for convolution in COUNTED[name](*arguments).forward:
            shapes = [torch.empty(size, device="meta") for size in (convolution.images, convolution.weight)]
            around = map(list, convolution.geometry.around)
            with _RecordFunctionFast("aten::conv2d", (*shapes, None, *around, convolution.groups)):
                pass


if _FLOP_COUNTER in sys.modules:
    _register(sys.modules[_FLOP_COUNTER])
else:
    sys.meta_path.insert(0, _Registration())
