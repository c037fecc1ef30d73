"""What a batch run is asked to do: the clips, and the settings that all of them share.

Both are plain data that travels to workers and into the journal as JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipelines.segments import SEGMENT_FRAMES
from vidinv.types import EditSpec
from vidinv.video import EncodeOptions

Keyframes = tuple[tuple[float, float], ...]

# The rows that a run is resumed from mean what this version of the stages makes of them.
STAGES_VERSION = 1


@dataclass(frozen=True)
class Job:
    """One clip to edit.

    Attributes:
        input: absolute path of the clip.
        output: path below the output folder, with ``/``.
        attributes: name -> keyframes (seconds, strength).
        face: as ``EditSpec.face``.
    """

    input: str
    output: str
    attributes: Mapping[str, Keyframes]
    face: str = "largest"

    @property
    def id(self) -> str:
        """Name of the clip's work: another one as soon as the file or the wish is another."""
        file = Path(self.input).stat()
        return _digest([self.to_json(), file.st_size, file.st_mtime_ns])[:16]

    def to_json(self) -> dict[str, Any]:
        attributes = {name: [list(key) for key in keys] for name, keys in self.attributes.items()}
        return {**asdict(self), "attributes": attributes}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Job:
        attributes = {
            name: tuple((float(seconds), float(strength)) for seconds, strength in keys)
            for name, keys in data["attributes"].items()
        }
        return cls(**{**data, "attributes": attributes})


@dataclass(frozen=True)
class Settings:
    """What all clips of a run share and what decides the bits of its outputs.

    Attributes:
        pack: folder of the pack; ``pack_digest`` identifies what is in it.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``, for rendering.
        encode: one encoder thread a segment, so that the bits do not depend on the machine.
        segment_frames: wished length of a segment.
    """

    pack: str
    pack_digest: str
    method: str = "fse"
    detail: bool = True
    seed: int = 0
    device: str = "auto"
    encode: EncodeOptions = field(default_factory=lambda: EncodeOptions(threads=1))
    segment_frames: int = SEGMENT_FRAMES
    version: int = STAGES_VERSION

    def spec(self, job: Job) -> EditSpec:
        return EditSpec(
            attributes=job.attributes,
            method=self.method,
            face=job.face,
            detail=self.detail,
            seed=self.seed,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Settings:
        return cls(**{**data, "encode": EncodeOptions(**data["encode"])})

    def deciding(self) -> dict[str, Any]:
        """The settings that decide the outputs: all but where the pack lies."""
        return {name: value for name, value in self.to_json().items() if name != "pack"}

    def digest(self) -> str:
        """Hash of the configuration."""
        return _digest(self.deciding())


def pack_digest(meta: Mapping[str, Any]) -> str:
    """Hash of what a pack holds: its description lists the sha256 of every file."""
    return _digest(dict(meta))


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Fields that are not the same, as ``name: old -> new``."""
    return [
        f"{name}: {json.dumps(old.get(name))} -> {json.dumps(new.get(name))}"
        for name in sorted({*old, *new})
        if json.dumps(old.get(name), sort_keys=True) != json.dumps(new.get(name), sort_keys=True)
    ]


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
