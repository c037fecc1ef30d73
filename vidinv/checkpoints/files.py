"""A downloaded file as plain data: recognised by its content, checked, read without executing it.

What comes back: a dict of networks for NVIDIA's pickles, whatever ``torch.save`` was given, or an
array.
"""

from __future__ import annotations

import argparse
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from vidinv.checkpoints.errors import CheckpointError
from vidinv.checkpoints.nvidia import read_networks
from vidinv.packs.format import sha256

_HEAD_BYTES = 1024
_PROTOCOL_2 = b"\x80\x02"
_LEGACY_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the first object of its old format


def read_checkpoint(path: Path, *, expected_sha256: str | None = None) -> Any:
    """Read a file; CheckpointError, in one line, where it is not what it should be."""
    head = _head(path)
    if expected_sha256 is not None and (found := sha256(path)) != expected_sha256.lower():
        raise CheckpointError(f"{path} has the sha256 {found}, not {expected_sha256.lower()}")
    if _is_web_page(head):
        raise CheckpointError(
            f"{path} is a web page, not weights: the site asked for consent or a quota was used "
            "up; download it with a browser"
        )
    if head.startswith(b"\x93NUMPY"):
        return _read_array(path)
    if head.startswith(b"PK"):
        return _read_zip(path)
    if head.startswith(_PROTOCOL_2 + _LEGACY_TORCH):
        return _read_torch(path)
    if head[:1] == b"\x80":
        return read_networks(path)
    if head[8:9] == b"{":
        return _read_safetensors(path)
    raise CheckpointError(f"{path} is in no known format (torch, pickle, numpy, safetensors)")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    if not head:
        raise CheckpointError(f"{path} is empty: the download failed")
    return head


def _is_web_page(head: bytes) -> bool:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<!--"))


def _read_array(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise CheckpointError(f"{path} is not an array of numbers: {_line(error)}") from None


def _read_zip(path: Path) -> Any:
    if not zipfile.is_zipfile(path):
        size = path.stat().st_size
        raise CheckpointError(f"{path} is cut off after {size} bytes: download it again")
    return _read_torch(path)


def _read_torch(path: Path) -> Any:
    """torch's own restricted reader; ``opts`` may be a Namespace."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} is refused: {_unsafe(error)}") from None
    except (MemoryError, Exception) as error:
        raise CheckpointError(f"{path} cannot be read as a torch file: {_line(error)}") from None


def _read_safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {_line(error)}") from None


def _unsafe(error: pickle.UnpicklingError) -> str:
    """What it asks for, out of torch's page of advice (to load it unsafely)."""
    for line in str(error).splitlines():
        if "GLOBAL" in line or "Unsupported" in line:
            return line.strip().removeprefix("WeightsUnpickler error: ")[:160]
    return "it holds more than data"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
