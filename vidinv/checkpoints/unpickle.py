"""Reads NVIDIA's pickles without executing anything from them.

Such a file names ``torch_utils.persistence._reconstruct_persistent_obj`` and carries source text
that NVIDIA's own loader executes. Here every name that a pickle may use stands for a function of
this file that only builds data; any other name refuses the file. What comes back is plain: dicts,
numbers, arrays, tensors, and ``Persistent`` records in the place of modules.
"""

from __future__ import annotations

import io
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from vidinv.checkpoints.errors import CheckpointError

_NUMBERS = "biufc?"  # kinds of numpy types that hold no objects


@dataclass(frozen=True)
class Persistent:
    """An object whose class was in the file as source text.

    Attributes:
        state: its ``__dict__``.
    """

    class_name: str
    state: dict[str, Any]


def read_pickle(path: Path) -> Any:
    """What a pickle holds; CheckpointError, in one line, for one that wants more than data."""
    with path.open("rb") as file:
        unpickler = _DataUnpickler(file)
        try:
            return unpickler.load()
        except _NotAllowedError as error:
            raise CheckpointError(f"{path} is refused: it asks for {error}") from None
        except (MemoryError, RecursionError, Exception) as error:
            text = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{path} cannot be read as a pickle of data: {text}") from None


class _NotAllowedError(Exception):
    """A name or a feature that no pickle of data needs."""


class _Maker:
    """A function that a pickle may call, and nothing else: it cannot be changed by the pickle."""

    __slots__ = ("_make", "_name")
    _make: Callable[..., Any]
    _name: str

    def __init__(self, name: str, make: Callable[..., Any]) -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_make", make)

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise _NotAllowedError(f"a change of {self._name}")

    def __setstate__(self, state: Any) -> NoReturn:
        raise _NotAllowedError(f"a change of {self._name}")


class _Frozen(type):
    """Of a class that a pickle may make objects of, but not change."""

    def __setattr__(cls, name: str, value: Any) -> NoReturn:
        raise _NotAllowedError(f"a change of {cls.__name__}")


class _EasyDict(dict[Any, Any], metaclass=_Frozen):
    """NVIDIA's dict, which pickles make by ``__new__``."""


class _Dtype:
    """A numpy type of numbers."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        self.dtype = np.dtype(str(code))
        if self.dtype.kind not in _NUMBERS or self.dtype.subdtype or self.dtype.names:
            raise _NotAllowedError(f"numpy values of type {code!r}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1]
        if order not in ("<", ">", "=", "|"):
            raise _NotAllowedError(f"numpy values in the byte order {order!r}")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """An array that is filled by its state, as numpy pickles it."""

    value: np.ndarray

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        flat = np.frombuffer(_bytes(data), _numbers(dtype))
        self.value = flat.reshape(tuple(shape), order="F" if fortran else "C").copy()


class _DataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _ALLOWED.get((module, name))
        if found is None:
            raise _NotAllowedError(f"{module}.{name}")
        return found

    def persistent_load(self, pid: Any) -> NoReturn:
        raise _NotAllowedError("persistent storage")

    def get_extension(self, code: int) -> NoReturn:
        raise _NotAllowedError("an extension of the registry")


def _persistent(meta: Any) -> Persistent:
    state = meta["state"]
    if not isinstance(state, dict):
        raise _NotAllowedError(f"an object without a dict ({meta['class_name']})")
    return Persistent(str(meta["class_name"]), state)


def _storage(data: Any) -> Tensor:
    """The numbers of a storage as a flat tensor; its bytes are a file of ``torch.save``."""
    loaded = torch.load(io.BytesIO(_bytes(data)), weights_only=True, map_location="cpu")
    if not isinstance(loaded, torch.TypedStorage):
        raise _NotAllowedError("a storage that is none")
    # Its public way to the bytes warns of a deprecation.
    return torch.empty(0, dtype=loaded.dtype).set_(loaded._untyped_storage)


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any = False, *hooks: Any
) -> Tensor:
    """A tensor of its own; refused where it does not lie inside its storage, each number once."""
    if not isinstance(storage, Tensor):
        raise _NotAllowedError("a tensor without storage")
    size, stride = tuple(size), tuple(stride)
    whole = (offset, *size, *stride)
    if len(size) != len(stride) or not all(type(n) is int and n >= 0 for n in whole):
        raise _NotAllowedError("a tensor of no possible shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    count = math.prod(size)
    if count and (last >= storage.numel() or count > storage.numel()):
        raise _NotAllowedError("numbers outside of a tensor's storage")
    return torch.as_strided(storage, size, stride, offset).clone() if count else torch.empty(size)


def _parameter(data: Any, requires_grad: Any = False, *hooks: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise _NotAllowedError("a parameter that is no tensor")
    return data


def _scalar(dtype: Any, data: Any) -> Any:
    (value,) = np.frombuffer(_bytes(data), _numbers(dtype))
    return value.item()


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    return _Array()


def _encode(text: Any, encoding: Any) -> bytes:
    """How protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _NotAllowedError("text in another encoding than latin1")
    return text.encode("latin1")


def _numbers(dtype: Any) -> np.dtype[Any]:
    if not isinstance(dtype, _Dtype):
        raise _NotAllowedError("numpy values without a type")
    return dtype.dtype


def _bytes(data: Any) -> bytes:
    if not isinstance(data, (bytes, bytearray)):
        raise _NotAllowedError("bytes that are none")
    return bytes(data)


def _dict(*pairs: Any) -> OrderedDict[Any, Any]:
    return OrderedDict(*pairs)


def _set(*items: Any) -> set[Any]:
    return set(*items)


_MAKERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
    ("collections", "OrderedDict"): _dict,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _dict,  # named as an argument of _reconstruct alone
    ("builtins", "set"): _set,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.multiarray", name): make
        for core in ("core", "_core")
        for name, make in (("scalar", _scalar), ("_reconstruct", _reconstruct))
    },
}
_ALLOWED: dict[tuple[str, str], Any] = {
    ("dnnlib.util", "EasyDict"): _EasyDict,
    **{name: _Maker(".".join(name), make) for name, make in _MAKERS.items()},
}
