"""The user's door from Python: ``edit``, ``invert``, ``batch``, ``list_faces``, ``write_report``.

This file and cli/ are the only ones in vidinv that may reach pipelines and training, lazily.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidinv.editing.schedules import check_attributes
from vidinv.editing.time_range import Time, time_range
from vidinv.errors import UsageError
from vidinv.packs import DEFAULT_PACK, Pack, load_pack
from vidinv.provenance import CredentialOptions
from vidinv.types import ClipResult, EditSpec, RenderMode
from vidinv.video import EncodeOptions

if TYPE_CHECKING:
    from pipelines.batch.request.result import BatchResult
    from pipelines.faces import FoundFaces
    from pipelines.meter import Progress
    from pipelines.preview import Preview
    from vidinv.report import Report

Strength = float | Sequence[Sequence[float]]
PathLike = str | os.PathLike[str]
Face = PathLike | int | Sequence[int]


def edit(
    input: PathLike,
    output: PathLike,
    *,
    attributes: Mapping[str, Strength],
    method: str = "fse",
    pack: str | Path | Pack = DEFAULT_PACK,
    face: Face = "largest",
    detail: bool = True,
    occlusion: str = "auto",
    device: str = "auto",
    landmarks: str = "dlib",
    seed: int = 0,
    start: Time | None = None,
    end: Time | None = None,
    max_frames: int | None = None,
    encode: EncodeOptions | None = None,
    overwrite: bool = False,
    latents: PathLike | None = None,
    preview: PathLike | None = None,
    preview_style: str = "side",
    on_error: str = "stop",
    credentials: CredentialOptions | None = None,
    progress: Progress | None = None,
) -> ClipResult:
    """Edit the faces of a clip or still picture and write the result to ``output``.

    Args:
        attributes: name -> strength, or keyframes [(seconds, strength), ...] with linear change
            between them. Strength 1 is a clear, natural change; negative reverses. ``"1:age"`` is
            for face 1 alone, which is then edited whomever ``face`` names.
        method: inversion method, one that the pack has weights for.
        pack: name, folder, or an opened pack.
        face: ``"largest"``, ``"all"``, a number as ``list_faces`` counts, several as ``(0, 3)`` or
            ``"0,3"``, or the path of a reference picture.
        detail: carry the change to the full-resolution source instead of pasting the generator's
            own picture.
        occlusion: ``"auto"`` keeps the source where the pack's face-parsing network, if it has one,
            sees something in front of a face; ``"off"`` does not look.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        landmarks: who finds faces: ``"dlib"``, or ``"fan"`` (face-alignment's networks, whose
            weights must be in torch's cache; for GPUs).
        seed: for methods that draw random numbers; ``fse`` draws none.
        start, end: edit only the frames from ``start`` on and before ``end``, in seconds from the
            clip's first frame, or text as ``"1:23.5"``; all others keep their pictures. Inside a
            shot the edit fades in and out over eight frames. A keyframe's time stays the clip's.
        max_frames: to try something: the output is the clip's first so many frames, or so many
            from ``start`` on, with their sound.
        encode: encoder, preset and quality; defaults suit the container that ``output`` names.
        overwrite: replace an existing output.
        latents: folder where analysis and inversion of the clip are kept, so that another edit of
            it needs neither (docs/LATENTS.md).
        preview: also write source and edit in one: as a video beside each other
            (``preview_style="side"``) or wiped over each other (``"split"``), or, where it names a
            picture, the edited faces at several times on a sheet.
        on_error: what becomes of a damaged clip: ``"stop"`` raises, ``"skip"`` holds the last good
            picture in place of those that are lost and keeps the rest.
        credentials: whether and with what the output is signed (docs/PROVENANCE.md).
        progress: ``pipelines.meter.Progress(quiet=False)`` draws bars on stderr.

    Returns:
        Counts, timings, identity figures and warnings.

    Raises:
        UsageError: unknown attribute, method or pack, or values that make no sense.
        MediaError: input that cannot be read, output that cannot be written.
    """
    if not attributes:
        raise UsageError("nothing to change: give at least one attribute, for instance smile=1")
    spec = EditSpec(
        attributes=check_attributes(attributes),
        method=method,
        face=_face(face),
        mode=RenderMode.TRANSFER if detail else RenderMode.PASTE,
        seed=seed,
        within=time_range(start, end),
        landmarks=landmarks,
        max_frames=max_frames,
        occlusion=occlusion,
    )
    return _run(
        input,
        output,
        pack=pack,
        spec=spec,
        device=device,
        encode=encode,
        overwrite=overwrite,
        latents=latents,
        preview=_preview(preview, preview_style),
        on_error=on_error,
        credentials=credentials,
        progress=progress,
    )


def invert(
    input: PathLike,
    output: PathLike,
    *,
    method: str = "fse",
    pack: str | Path | Pack = DEFAULT_PACK,
    face: Face = "largest",
    device: str = "auto",
    landmarks: str = "dlib",
    seed: int = 0,
    start: Time | None = None,
    end: Time | None = None,
    max_frames: int | None = None,
    encode: EncodeOptions | None = None,
    overwrite: bool = False,
    latents: PathLike | None = None,
    preview: PathLike | None = None,
    preview_style: str = "side",
    on_error: str = "stop",
    credentials: CredentialOptions | None = None,
    progress: Progress | None = None,
) -> ClipResult:
    """Paste back what the inversion alone gives: no edit, no detail transfer; else as ``edit``."""
    spec = EditSpec(
        method=method,
        face=_face(face),
        mode=RenderMode.INVERT,
        seed=seed,
        landmarks=landmarks,
        within=time_range(start, end),
        max_frames=max_frames,
    )
    return _run(
        input,
        output,
        pack=pack,
        spec=spec,
        device=device,
        encode=encode,
        overwrite=overwrite,
        latents=latents,
        preview=_preview(preview, preview_style),
        on_error=on_error,
        credentials=credentials,
        progress=progress,
    )


def batch(
    inputs: PathLike | Sequence[PathLike],
    output: PathLike,
    *,
    attributes: Mapping[str, Strength] | None = None,
    face: Face = "largest",
    pack: str | Path | Pack = DEFAULT_PACK,
    start: Time | None = None,
    end: Time | None = None,
    latents: PathLike | None = None,
    **options: Any,
) -> BatchResult:
    """Edit many clips and pictures on Ray and write the results below the folder ``output``.

    Args:
        inputs: files, folders, globs, manifests, or URLs of them (docs/CLUSTER.md).
        attributes, face: as for ``edit``; for clips whose manifest row gives none.
        pack, start, end, latents: as for ``edit``; start and end hold for every clip.
        options: further fields of ``BatchRequest`` (``pipelines.batch.request``), as
            ``address``, ``resume``, ``num_workers``, ``report``, ``quiet`` (True here).

    Returns:
        A row for each clip, failed ones included, and timings. A Ray that this process has started
        or joined before is used, and left running.

    Raises:
        UsageError: invalid inputs or options, an earlier run in the way.
        VidinvError: a run that cannot go on; ``resume=True`` continues it.
    """
    from pipelines.batch.driver import run
    from pipelines.batch.request.batch_request import BatchRequest

    names = [inputs] if isinstance(inputs, (str, os.PathLike)) else inputs
    request = BatchRequest(
        [str(name) for name in names],
        Path(output),
        check_attributes(attributes or {}),
        face=_face(face),
        pack=pack.folder if isinstance(pack, Pack) else pack,
        latents=None if latents is None else Path(latents),
        within=time_range(start, end),
        **options,
    )
    return run(request)


def list_faces(
    input: PathLike,
    *,
    sheet: PathLike | None = None,
    overlay: PathLike | None = None,
    pack: str | Path | Pack = DEFAULT_PACK,
    device: str = "auto",
    landmarks: str = "dlib",
    on_error: str = "stop",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> FoundFaces:
    """Who is in a clip or picture, by the numbers that ``face`` and attributes of ``edit`` take.

    Args:
        sheet: picture to write, with a crop of each track.
        overlay: clip or picture to write, with crops, landmarks and masks drawn over the input.
        pack, device, landmarks, on_error, progress: as for ``edit``.
        overwrite: replace an existing sheet or overlay.

    Raises:
        UsageError: a sheet that cannot be written, or a pack that seeks no faces.
        MediaError: input that cannot be read.
    """
    from pipelines.faces import FacesRequest, run

    request = FacesRequest(
        input=Path(input),
        pack=pack if isinstance(pack, Pack) else load_pack(pack),
        sheet=None if sheet is None else Path(sheet),
        overlay=None if overlay is None else Path(overlay),
        device=device,
        landmarks=landmarks,
        on_error=on_error,
        overwrite=overwrite,
    )
    return run(request, progress=progress)


def write_report(
    source: PathLike,
    output: PathLike,
    page: PathLike,
    *,
    pack: str | Path | Pack = DEFAULT_PACK,
    every: int | None = None,
    inversion: bool = True,
    method: str = "fse",
    device: str = "auto",
    landmarks: str = "dlib",
    edit: Mapping[str, object] | None = None,
    overwrite: bool = False,
    on_error: str = "stop",
    progress: Progress | None = None,
) -> Report:
    """Compare an edited clip with its source: page, JSON and CSV; see docs/REPORT.md.

    Args:
        page: the HTML file; ``.json`` and ``.csv`` of the same name go beside it.
        pack: names the face crop, inverts, and holds what identity and smile are measured with.
        every: look at the identity of every n-th frame; None: so that it takes about 30 s.
        inversion: also invert the source, and measure what the inversion alone loses.
        method: inversion method of ``inversion``.
        landmarks: as for ``edit``.
        edit: what the output was made with, shown as given.
        overwrite: replace an existing page.
        on_error: what becomes of damage of the source, as in the run that made the output.

    Raises:
        UsageError: clips of different length or size, or an invalid page.
        MediaError: a clip that cannot be read.
    """
    from pipelines.report.compare import run
    from pipelines.report.request import ReportRequest

    request = ReportRequest(
        source=Path(source),
        output=Path(output),
        page=Path(page),
        pack=pack if isinstance(pack, Pack) else load_pack(pack),
        every=every,
        inversion=inversion,
        method=method,
        device=device,
        landmarks=landmarks,
        edit=edit or {},
        overwrite=overwrite,
        on_error=on_error,
    )
    return run(request, progress=progress)


def _run(
    input: PathLike,
    output: PathLike,
    *,
    pack: str | Path | Pack,
    spec: EditSpec,
    device: str,
    encode: EncodeOptions | None,
    overwrite: bool,
    latents: PathLike | None,
    preview: Preview | None,
    on_error: str,
    credentials: CredentialOptions | None,
    progress: Progress | None,
) -> ClipResult:
    from pipelines.clip.saved import clip_folder
    from pipelines.edit import run
    from pipelines.edit_request import EditRequest

    request = EditRequest(
        input=Path(input),
        output=Path(output),
        pack=pack if isinstance(pack, Pack) else load_pack(pack),
        spec=spec,
        device=device,
        encode=encode or EncodeOptions(),
        overwrite=overwrite,
        latents=None if latents is None else clip_folder(Path(latents), Path(input).name),
        on_error=on_error,
        credentials=credentials or CredentialOptions(),
        preview=preview,
    )
    return run(request, progress=progress)


def _face(face: Face) -> str:
    """As after ``--face``."""
    if isinstance(face, (str, os.PathLike)):
        return os.fspath(face)
    numbers = face if isinstance(face, Sequence) else [face]
    is_whole = [isinstance(n, Integral) and not isinstance(n, bool) for n in numbers]
    if not is_whole or not all(is_whole):
        raise UsageError(f"face={face!r}: give 'largest', 'all', a number, several, or a picture")
    return ",".join(map(str, numbers))


def _preview(path: PathLike | None, style: str) -> Preview | None:
    from pipelines.preview import Preview

    if path is not None:
        return Preview(Path(path), style)
    if style != Preview.style:
        raise UsageError(f"--preview-style {style}: give --preview PATH too")
    return None
