"""Inversions of a clip on disk: a folder that edits start from, and a data set of latents.

    tracks = vidinv.load_latents("latents/clip.mp4.latents")
    tracks[0].latents_TLD  # [T, L, D] of the frames first..last of the first face

``plan.safetensors`` holds shots, tracks and frame times; ``00000.safetensors`` and so on hold the
frames of one segment each (docs/LATENTS.md). Every file says what decided it (``key``), so that old
and new are never taken for one another.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidinv.arrays import as_decode_error, read_arrays, write_arrays
from vidinv.errors import DecodeError
from vidinv.types import Inversion

PLAN_FILE = "plan.safetensors"
SEGMENT_FILES = "[0-9]*.safetensors"


@dataclass(frozen=True)
class TrackLatents:
    """Inversions of consecutive frames of one face track.

    Attributes:
        first: index of the first frame in the clip.
        latents_TLD: ``[T, L, D]`` float32 w+ codes.
        codes: what else the method keeps of each frame, by name, ``[T, ...]``.
    """

    first: int
    latents_TLD: Tensor
    codes: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def frames(self) -> range:
        """Indices of the frames in the clip."""
        return range(self.first, self.first + len(self.latents_TLD))

    def at(self, frames: range) -> Inversion:
        """The inversion of some of the frames."""
        rows = slice(frames.start - self.first, frames.stop - self.first)
        codes = {name: _as_computed(code[rows]) for name, code in self.codes.items()}
        return Inversion(self.latents_TLD[rows], codes)


def _as_computed(code: Tensor) -> Tensor:
    """In the layout that networks give: it decides how sums are rounded."""
    if code.dim() != 4:
        return code.contiguous()
    return code.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class SegmentLatents:
    """What one file holds.

    Attributes:
        key: what decided the numbers; plain types.
        tracks: by id; all have the same codes.
        states: digest of what the method had fitted to a track, by id.
    """

    key: Mapping[str, Any]
    tracks: Mapping[int, TrackLatents]
    states: Mapping[int, str] = field(default_factory=dict)

    @property
    def codes(self) -> set[str]:
        """Names of the codes that every track has."""
        sets = [set(track.codes) for track in self.tracks.values()]
        return set.intersection(*sets) if sets else set()


def write_latents(
    path: Path, segment: SegmentLatents, dtypes: Mapping[str, torch.dtype] | None = None
) -> None:
    """Write a segment; a code that all layers share is written once (L = 1).

    Args:
        dtypes: of the codes on disk; float32 where none is given.
    """
    arrays, firsts, num_ws = {}, {}, 0
    for number, track in segment.tracks.items():
        latents = track.latents_TLD
        one = latents[:, :1]
        num_ws, firsts[number] = latents.shape[1], track.first
        shared = torch.equal(latents, one.expand_as(latents))
        arrays[f"{number}.latents_TLD"] = (one if shared else latents).float().numpy()
        for name, code in track.codes.items():
            dtype = (dtypes or {}).get(name, torch.float32)
            arrays[f"{number}.codes.{name}"] = code.to(dtype).numpy()
    states = {str(number): digest for number, digest in segment.states.items()}
    facts = {"num_ws": num_ws, "first_frames": firsts, "states": states}
    write_arrays(path, arrays, {**facts, "key": segment.key})


def read_latents(path: Path, key: Mapping[str, Any]) -> SegmentLatents | None:
    """The inverse of ``write_latents``; None where another key decided what is in the file.

    Raises:
        FileNotFoundError: there is none.
        DecodeError: it is not as it was written.
    """
    arrays, facts = read_arrays(path)
    if facts.get("key") != key:  # before anything is built: its layout may be another, too
        return None
    with as_decode_error(path):
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        tracks = {
            int(number): TrackLatents(
                first,
                tensors[f"{number}.latents_TLD"].expand(-1, facts["num_ws"], -1),
                {
                    name.removeprefix(f"{number}.codes."): code.float()
                    for name, code in tensors.items()
                    if name.startswith(f"{number}.codes.")
                },
            )
            for number, first in facts["first_frames"].items()
        }
        states = {int(number): digest for number, digest in facts["states"].items()}
        return SegmentLatents(facts["key"], tracks, states)


def load_latents(folder: str | os.PathLike[str]) -> dict[int, TrackLatents]:
    """Every track of a clip that was inverted with ``--latents``, by id.

    Args:
        folder: the clip's own, for instance ``latents/clip.mp4.latents``.

    Raises:
        DecodeError: no clip was analysed there, a file is damaged or of a version with another
            layout, or the run did not come to its end.
    """
    folder = Path(folder)
    try:
        plan, facts = read_arrays(folder / PLAN_FILE)
    except FileNotFoundError:
        raise DecodeError(f"{folder}: no clip was analysed there") from None
    with as_decode_error(folder / PLAN_FILE):
        spans = {
            number: range(first, first + len(plan[f"{number}.crops_T4"]))
            for number, _, first, _ in facts["tracks"]
        }
        read = [read_latents(path, facts["key"]) for path in sorted(folder.glob(SEGMENT_FILES))]
    segments = [segment for segment in read if segment is not None]
    whole = {}
    for number, span in spans.items():
        parts = [segment.tracks[number] for segment in segments if number in segment.tracks]
        if [frame for part in parts for frame in part.frames] != list(span):
            raise DecodeError(f"{folder}: latents of face {number} are not complete; edit it again")
        whole[number] = join_tracks(parts)
    return whole


def join_tracks(parts: Sequence[TrackLatents]) -> TrackLatents:
    """Consecutive parts as one; codes that one of them lacks are left out."""
    names = set.intersection(*(set(part.codes) for part in parts))
    return TrackLatents(
        parts[0].first,
        torch.cat([part.latents_TLD for part in parts]),
        {name: torch.cat([part.codes[name] for part in parts]) for name in sorted(names)},
    )
