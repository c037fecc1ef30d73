"""What a batch run is asked to do: the clips, and the settings that all of them share.

Both are plain data: they travel to workers as they are, and into the journal as JSON.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.batch.inputs.sources import input_name, is_url, shown
from pipelines.clip.plan import SEGMENT_FRAMES
from vidinv.inversion import find_method
from vidinv.provenance import CredentialOptions
from vidinv.types import EditSpec, RenderMode, TimeRange
from vidinv.video import EncodeOptions, is_image_path

Keyframes = tuple[tuple[float, float], ...]

_PLAIN_SUFFIX = re.compile(r"\.\w{1,8}", re.ASCII)

# The rows that a run is resumed from mean what this version of the stages makes of them.
STAGES_VERSION = 5


@dataclass(frozen=True)
class Job:
    """One clip or picture to edit.

    Attributes:
        input: absolute path, or URL.
        output: path below the output folder, with ``/``.
        attributes: name -> keyframes (seconds, strength).
        face: as ``EditSpec.face``.
        stamp: size, time and the like of the file when it was found.
    """

    input: str
    output: str
    attributes: Mapping[str, Keyframes]
    face: str = "largest"
    stamp: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Name of the clip's work: another one as soon as the file or the request is another."""
        return _digest([self.as_requested(), dict(self.stamp)])[:16]

    @property
    def shown(self) -> str:
        """The input as people may see it: without passwords."""
        return shown(self.input)

    @property
    def name(self) -> str:
        """Of the input, without folders."""
        return PurePosixPath(input_name(self.input)).name

    @property
    def is_remote(self) -> bool:
        """It is fetched before anything else."""
        return is_url(self.input)

    @cached_property  # the progress of ten thousand clips asks for it twice a second
    def is_picture(self) -> bool:
        """A still picture, not a clip."""
        return is_image_path(input_name(self.input))

    def fetched(self, folder: Path) -> Path:
        """Where the file of a remote clip lies, in the folder of its work."""
        suffix = PurePosixPath(input_name(self.input)).suffix
        return folder / f"source{suffix if _PLAIN_SUFFIX.fullmatch(suffix) else ''}"

    def local(self, folder: Path) -> Job:
        """The same for the file that was fetched; a job on this machine as it is."""
        if not self.is_remote:
            return self
        return replace(self, input=str(self.fetched(folder).absolute()))

    def as_requested(self) -> dict[str, Any]:
        """What is asked for, as the journal keeps it: whatever state the file is in."""
        data = {**self.to_json(), "input": self.shown}
        del data["stamp"]
        return data

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
        segment_frames: length of a segment to aim at.
        latents: folder where analysis and inversions are kept, and taken from; None keeps none.
        on_error: what becomes of damaged clips: ``"stop"`` or ``"skip"`` (``open_reader``).
        credentials: whether and with what outputs are signed; paths are those of every machine.
        within: the part of every clip that is edited; None is all of it.
        landmarks: who finds faces: ``"dlib"`` or ``"fan"``.
        occlusion: as in ``EditSpec``.
    """

    pack: str
    pack_digest: str
    method: str = "fse"
    method_options: Mapping[str, Any] = field(default_factory=dict)
    detail: bool = True
    seed: int = 0
    device: str = "auto"
    encode: EncodeOptions = field(default_factory=lambda: EncodeOptions(threads=1))
    segment_frames: int = SEGMENT_FRAMES
    version: int = STAGES_VERSION
    latents: str | None = None
    on_error: str = "stop"
    credentials: CredentialOptions = field(default_factory=CredentialOptions)
    within: TimeRange | None = None
    landmarks: str = "dlib"
    occlusion: str = "auto"

    def spec(self, job: Job) -> EditSpec:
        return EditSpec(
            attributes=job.attributes,
            method=self.method,
            face=job.face,
            mode=RenderMode.TRANSFER if self.detail else RenderMode.PASTE,
            seed=self.seed,
            within=self.within,
            landmarks=self.landmarks,
            occlusion=self.occlusion,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Settings:
        own = {
            "encode": EncodeOptions(**data["encode"]),
            "credentials": CredentialOptions(**data.get("credentials", {})),
            "within": TimeRange(**within) if (within := data.get("within")) else None,
        }
        return cls(**{**data, **own})

    def deciding(self) -> dict[str, Any]:
        """The settings that decide the outputs: not where pack and latents lie, and the seed only
        where the method draws random numbers.
        """
        data = self.to_json()
        if not find_method(self.method).draws_random_numbers:
            data["seed"] = 0
        locations = ("pack", "latents")
        return {name: value for name, value in data.items() if name not in locations}

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
