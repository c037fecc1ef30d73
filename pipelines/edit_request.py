"""What an edit or inversion of one clip or picture is asked for, and whether it can be done."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pipelines.clip.plan import SEGMENT_FRAMES
from pipelines.preview import Preview
from vidinv.errors import UsageError
from vidinv.faces import check_face
from vidinv.occlusion import check_occlusion
from vidinv.packs import Pack
from vidinv.paths import check_input, check_replaceable
from vidinv.provenance import CredentialOptions, EditedFrom
from vidinv.types import EditSpec
from vidinv.video import EncodeOptions, check_kind, choose_encoder, is_image_path


@dataclass(frozen=True)
class EditRequest:
    """Everything that a run needs to know.

    Attributes:
        spec: what to change, and what becomes of the generator's picture.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        on_error: what becomes of damage: ``"stop"`` or ``"skip"`` (``open_reader``).
        identity: embed a few frames with the recognition net (about 0.3 s a run).
        latents: folder of this clip (``pipelines.clip.saved.clip_folder``) where its analysis and
            inversions are kept, and taken from.
        segment_frames: wished length of what one file of them holds.
        credentials: whether and with what the output is signed.
        source_name: of the input, as credentials tell it; None: its own.
        preview: source and edit in one, written beside the output.
    """

    input: Path
    output: Path
    pack: Pack
    spec: EditSpec
    device: str = "auto"
    encode: EncodeOptions = field(default_factory=EncodeOptions)
    overwrite: bool = False
    identity: bool = True
    latents: Path | None = None
    segment_frames: int = SEGMENT_FRAMES
    credentials: CredentialOptions = field(default_factory=CredentialOptions)
    on_error: str = "stop"
    source_name: str | None = None
    preview: Preview | None = None

    @property
    def edited_from(self) -> EditedFrom:
        """What its output tells of its making."""
        name = self.source_name or self.input.name
        return EditedFrom(self.input, name, self.spec, self.pack.name)


def check_output(request: EditRequest) -> None:
    """UsageError for an output that would lose something or make no sense, or that cannot be
    written or encoded as asked, for an input that is no file, and for a face that is none of the
    ways to choose one; before any work.
    """
    source, output = request.input, request.output
    check_input(source)
    check_face(request.spec.face)
    check_occlusion(request.spec.occlusion)
    check_kind(source)
    check_kind(output)
    check_replaceable(output, sources=[source], overwrite=request.overwrite)
    if is_image_path(source) != is_image_path(output):
        if is_image_path(source):
            raise UsageError(f"{source} is a picture, but {output} names a video")
        raise UsageError(f"{source} is no picture of a known kind, but {output} names a picture")
    if is_image_path(source) and request.spec.within is not None:
        raise UsageError(f"{source} is a picture: --start and --end are for clips")
    if request.spec.max_frames is not None:
        if is_image_path(source):
            raise UsageError(f"{source} is a picture: --max-frames is for clips")
        if type(request.spec.max_frames) is not int or request.spec.max_frames < 1:
            raise UsageError(f"--max-frames {request.spec.max_frames}: give a whole number from 1")
    if not is_image_path(output):
        choose_encoder(output, request.encode)
    if request.preview is not None:
        request.preview.check(source=source, output=output, overwrite=request.overwrite)
