"""Random access to the frames of training clips, with decord.

For clips of our own data sets: decord runs in this process and trusts its input. Clips from
elsewhere go through ``reader``. decord's conversion to RGB is 1.2 levels darker than the reader's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from vidinv.errors import DecodeError, MissingDependencyError


class FrameSampler:
    """Frames of one clip by number: ``len(sampler)``, ``sampler[n]``, ``sampler.batch([...])``.

    Images are RGB uint8, upright. Numbers count in display order from 0.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._reader: Any = None

    def __enter__(self) -> FrameSampler:
        self._open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._reader = None

    def __len__(self) -> int:
        return len(self._open())

    def __getitem__(self, number: int) -> npt.NDArray[np.uint8]:
        """``[H, W, 3]`` image of one frame."""
        return self.batch([number])[0]

    def batch(self, numbers: Sequence[int]) -> npt.NDArray[np.uint8]:
        """``[N, H, W, 3]`` images in the order asked; IndexError outside the clip."""
        reader = self._open()
        from decord import DECORDError

        if bad := [n for n in numbers if not 0 <= n < len(reader)]:
            raise IndexError(f"{self.path}: no frame {bad[0]}; there are {len(reader)}")
        try:
            return reader.get_batch(list(numbers)).asnumpy()
        except (RuntimeError, DECORDError) as error:
            raise DecodeError(f"{self.path}: {_first_line(error)}") from None

    def _open(self) -> Any:
        if self._reader is None:
            self._reader = _decord_reader(self.path)
        return self._reader


def _decord_reader(path: Path) -> Any:
    try:
        import decord
    except ImportError:
        raise MissingDependencyError(
            "random access to frames needs decord: "
            "pip install -e '.[train]' (in the checkout of vidinv)"
        ) from None
    if not path.is_file():
        raise DecodeError(f"{path}: no such file")
    try:
        # One thread: training loads many clips in as many processes.
        return decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
    except RuntimeError as error:
        raise DecodeError(f"{path}: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["cannot be decoded"])[0]
