"""Named arrays and facts about them in one safetensors file that is whole, or not believed.

A file appears under its name when it is complete, and carries a hash of all that is in it: one that
was cut short or damaged is an error, never wrong numbers. Nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vidinv.errors import DecodeError
from vidinv.files import atomic_file

Array = npt.NDArray[Any]


def write_arrays(path: Path, arrays: Mapping[str, Array], facts: Mapping[str, Any]) -> None:
    """Write ``arrays``, and ``facts`` (plain types) as JSON in the file's metadata."""
    # ascontiguousarray would make [1] of a single number.
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    text = json.dumps(facts)
    # save_file would make files that nobody else can read, and hide a full disk's errno.
    data = save(whole, metadata={"vidinv": text, "sha256": _digest(whole, text)})
    with atomic_file(path, sync=True) as temporary:
        temporary.write_bytes(data)


def read_arrays(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """The inverse of ``write_arrays``.

    Raises:
        FileNotFoundError: there is none.
        DecodeError: it is not as it was written, or cannot be read.
    """
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise DecodeError(f"{path} is damaged: {error}") from error
    except FileNotFoundError:
        raise
    except (OSError, TypeError) as error:  # no file; a kind of number that NumPy has not
        raise DecodeError(f"{path} cannot be read: {error}") from error
    text = metadata.get("vidinv", "")
    if metadata.get("sha256") != _digest(arrays, text):
        raise DecodeError(f"{path} is damaged: it is not what was written")
    with as_decode_error(path):
        return arrays, {**json.loads(text)}


@contextlib.contextmanager
def as_decode_error(path: Path) -> Iterator[None]:
    """For taking apart what was read: a name or kind that is not there is a DecodeError inside.

    The file is whole, but another version wrote it.
    """
    try:
        yield
    except DecodeError:
        raise
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as e:
        raise DecodeError(f"{path} is of another layout ({type(e).__name__}: {e})") from e


def _digest(arrays: Mapping[str, Array], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
