"""The compiled operators of ``kernels.h``, called through ctypes: tensors in, tensors out.

A library is that of ``ops.cu``, or the host's of the tests; both have the same interface. Nothing
here knows gradients (``functions.py``) or how libraries are made (``build.py``).
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

# As in kernels.h.
_TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2, torch.float64: 3}
MAX_ELEMENTS = 2**31 - 2**16  # indices are 32 bits wide

_TILES = (32, 16, 8)
_TILE_BYTES = 48 * 1024  # of shared memory that every GPU gives a block without asking

_Int, _Int2, _Long4 = ctypes.c_int32, ctypes.c_int32 * 2, ctypes.c_int64 * 4
_Pointer, _Float = ctypes.c_void_p, ctypes.c_float


class _UpfirdnCall(ctypes.Structure):
    _fields_ = (
        *((name, _Pointer) for name in ("x", "taps", "y")),
        *((name, _Long4) for name in ("x_strides", "y_strides")),
        *((name, _Int) for name in ("batch", "channels")),
        *((name, _Int2) for name in ("x_size", "y_size", "num_taps", "up", "down", "before")),
        *((name, _Int) for name in ("channels_last", "type")),
        ("gain", _Float),
    )


class _ScaleLreluCall(ctypes.Structure):
    _fields_ = (
        *((name, _Pointer) for name in ("x", "scale", "offset", "y")),
        *((f"{name}_strides", _Long4) for name in ("x", "scale", "offset", "y")),
        *((name, _Int) for name in ("batch", "channels")),
        ("size", _Int2),
        *((name, _Int) for name in ("channels_last", "type")),
        *((name, _Float) for name in ("slope", "gain")),
    )


class _FilteredLreluCall(ctypes.Structure):
    _fields_ = (
        *((name, _Pointer) for name in ("x", "up_taps", "down_taps", "y")),
        *((name, _Long4) for name in ("x_strides", "y_strides")),
        *((name, _Int) for name in ("batch", "channels")),
        *((name, _Int2) for name in ("x_size", "y_size")),
        *((name, _Int) for name in ("num_up_taps", "num_down_taps", "down_is_separable")),
        *((name, _Int) for name in ("up", "down", "before", "tile", "type")),
        *((name, _Float) for name in ("slope", "gain", "clamp")),
    )


_Operator = TypeVar("_Operator", _UpfirdnCall, _ScaleLreluCall, _FilteredLreluCall)


class Kernels:
    """The operators of a library.

    Tensors are ``[N, C, H, W]`` of float32, float16, bfloat16 or float64, with any strides; filters
    are float32. Sums are float32 (float64 for float64).

    Raises:
        OSError: it cannot be loaded, or is of other sources.
    """

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.vidinv_error.restype = ctypes.c_char_p
        for index, structure in enumerate((_UpfirdnCall, _ScaleLreluCall, _FilteredLreluCall)):
            if self._library.vidinv_size_of(index) != ctypes.sizeof(structure):
                raise OSError(f"{path} is of other sources than {structure.__name__} here")

    def takes(self, *tensors: Tensor) -> bool:
        """Tensors of this type and size can be worked on."""
        return all(t.dtype in _TYPES and 0 < t.numel() < MAX_ELEMENTS for t in tensors)

    def upfirdn(
        self,
        x: Tensor,
        taps: Tensor,
        *,
        size: tuple[int, int],
        up: tuple[int, int],
        down: tuple[int, int],
        before: tuple[int, int],
        gain: float,
    ) -> Tensor:
        """``[N, C, *size]``: x with ``up - 1`` zeros after each sample, correlated and decimated.

        Args:
            taps: ``[kh, kw]``.
            before: padding above and left of x; negative crops.
        """
        y, taps = _empty_like(x, size), taps.to(x.device, torch.float32).contiguous()
        call = _UpfirdnCall(x=x.data_ptr(), taps=taps.data_ptr(), y=y.data_ptr(), gain=gain)
        call.x_size[:], call.num_taps[:] = x.shape[2:], taps.shape
        call.y_size[:], call.up[:], call.down[:], call.before[:] = size, up, down, before
        call.channels_last = _is_channels_last(y)
        self._launch("upfirdn", _with_tensors(call, x=x, y=y), x)
        return y

    def scale_lrelu(
        self, x: Tensor, scale: Tensor | None, offset: Tensor, *, slope: float, gain: float
    ) -> Tensor:
        """``gain * leaky_relu(scale * x + offset)``; scale and offset broadcast to x."""
        y = _empty_like(x, (x.shape[2], x.shape[3]))
        offset = offset.to(x).expand_as(x)
        call = _ScaleLreluCall(x=x.data_ptr(), offset=offset.data_ptr(), y=y.data_ptr())
        if scale is not None:
            scale = scale.to(x).expand_as(x)
            call.scale, call.scale_strides[:] = scale.data_ptr(), scale.stride()
        call.size[:], call.slope, call.gain = x.shape[2:], slope, gain
        call.channels_last = _is_channels_last(y)
        self._launch("scale_lrelu", _with_tensors(call, x=x, y=y, offset=offset), x)
        return y

    def filtered_lrelu(
        self,
        x: Tensor,
        up_taps: Tensor,
        down_taps: Tensor,
        *,
        size: tuple[int, int],
        up: int,
        down: int,
        before: int,
        slope: float,
        gain: float,
        clamp: float,
    ) -> Tensor | None:
        """``[N, C, *size]``; None where no tile fits into a GPU's shared memory.

        Args:
            up_taps: ``[k]``.
            down_taps: ``[k]``, or ``[k, k]`` for one that is not separable.
        """
        tile = _choose_tile(x, size, len(up_taps), len(down_taps), up, down)
        if tile is None:
            return None
        y = _empty_like(x, size)
        up_taps, down_taps = (
            taps.to(x.device, torch.float32).contiguous() for taps in (up_taps, down_taps)
        )
        call = _FilteredLreluCall(
            x=x.data_ptr(), up_taps=up_taps.data_ptr(), down_taps=down_taps.data_ptr()
        )
        call.y, call.x_size[:], call.y_size[:] = y.data_ptr(), x.shape[2:], size
        call.num_up_taps, call.num_down_taps = len(up_taps), len(down_taps)
        call.down_is_separable = down_taps.ndim == 1
        call.up, call.down, call.before, call.tile = up, down, before, tile
        call.slope, call.gain, call.clamp = slope, gain, clamp
        self._launch("filtered_lrelu", _with_tensors(call, x=x, y=y), x)
        return y

    def _launch(self, name: str, call: ctypes.Structure, x: Tensor) -> None:
        with _stream_of(x) as stream:
            code = getattr(self._library, f"vidinv_{name}")(ctypes.byref(call), _Pointer(stream))
        if code:
            raise RuntimeError(f"{name}: {self._library.vidinv_error(code).decode()}")


def _with_tensors(call: _Operator, *, x: Tensor, **others: Tensor) -> _Operator:
    """``call`` with strides, batch, channels and type filled in."""
    fields: Any = call
    for name, tensor in {"x": x, **others}.items():
        getattr(fields, f"{name}_strides")[:] = tensor.stride()
    fields.batch, fields.channels, fields.type = *x.shape[:2], _TYPES[x.dtype]
    return call


@contextlib.contextmanager
def _stream_of(x: Tensor) -> Iterator[int | None]:
    """The queue that torch works on, its device being the current one; None on the host."""
    if not x.is_cuda:
        yield None
        return
    with torch.cuda.device(x.device):
        yield torch.cuda.current_stream().cuda_stream


def _empty_like(x: Tensor, size: Sequence[int]) -> Tensor:
    """``[N, C, *size]`` in x's order of memory."""
    order = torch.channels_last if _is_channels_last(x) else torch.contiguous_format
    return torch.empty((*x.shape[:2], *size), dtype=x.dtype, device=x.device, memory_format=order)


def _is_channels_last(x: Tensor) -> bool:
    return x.shape[1] > 1 and x.stride(1) == 1


def _choose_tile(
    x: Tensor, size: tuple[int, int], num_up: int, num_down: int, up: int, down: int
) -> int | None:
    """Side of the largest tile that a GPU's shared memory holds and the output fills by half."""
    bytes_each = 8 if x.dtype == torch.float64 else 4
    for tile in _TILES:
        upper = (tile - 1) * down + num_down
        lower = (upper + num_up - 1 + up - 1) // up
        count = max(upper, lower) ** 2 + upper * max(lower, tile)
        if count * bytes_each <= _TILE_BYTES and (max(size) * 2 > tile or tile == _TILES[-1]):
            return tile
    return None
