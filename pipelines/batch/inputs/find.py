"""Which clips and pictures a run edits, and where each output goes.

Inputs are files, folders, globs and manifests, on this machine or as URLs. Outputs mirror the tree
of the inputs below the output folder; two inputs never share one output, no output lies elsewhere,
and none replaces an input. What is no file that can be read (a FIFO, a broken link, a file that a
manifest names and that is not there) is taken all the same: it ends as a row of the run's manifest,
and is not left out.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from pipelines.batch.inputs import remote
from pipelines.batch.inputs.local_files import files_below, fixed_part, matching
from pipelines.batch.inputs.manifests import (
    Attributes,
    RowDefaults,
    check_face,
    is_manifest,
    read_manifest,
)
from pipelines.batch.inputs.sources import absolute, file_stamp, is_url, local_path, shown
from pipelines.batch.request.jobs import Job
from pipelines.batch.status.journal import WORK_FOLDER
from vidinv.errors import UsageError
from vidinv.video import check_kind, is_image_path
from vidinv.video.codecs import FORMATS
from vidinv.video.images import IMAGE_SUFFIXES

# Extensions taken from folders and globs, besides those of pictures; a file that is named by itself
# may have any.
CLIP_SUFFIXES = (
    *FORMATS,
    *(".mpg", ".mpeg", ".avi", ".wmv", ".flv", ".ts", ".mts", ".m2ts", ".3gp", ".ogv", ".mxf"),
    *(".vob", ".dv", ".gif", ".mpe", ".m2v", ".m1v", ".asf", ".f4v", ".divx", ".3g2", ".ogm"),
    *(".qt", ".mod", ".tod", ".m2t", ".ivf", ".y4m", ".nut", ".rm", ".rmvb", ".apng"),
)
# Most file systems allow 255; a name is longer while its file is written.
MAX_NAME_BYTES = 230


def find_jobs(
    inputs: Sequence[str],
    *,
    output: Path,
    attributes: Attributes,
    face: str = "largest",
    attribute_names: Collection[str] | None = None,
    skipped: Callable[[str], None] = lambda name: None,
) -> tuple[Job, ...]:
    """The clips and pictures of a run, in order of their outputs.

    Args:
        inputs: files, folders, globs or manifests, as typed.
        output: folder of the outputs; what lies in it is no input.
        attributes, face: for clips whose manifest row gives none.
        attribute_names: those that there are, to refuse others in manifests with their line.
        skipped: is given the name of each file of a folder or glob that is no clip or picture;
            hidden ones and earlier outputs are not told.

    Raises:
        UsageError: an input that is not there, outputs that collide, or a manifest in error.
        MissingDependencyError: a URL whose protocol needs a package that is absent.
        MediaError: a remote folder or manifest that cannot be read.
    """
    default = RowDefaults(attributes, check_face(face, Path()), attribute_names)
    default.check_names(attributes)
    jobs = [job for text in inputs for job in _jobs_of(text, output, default, skipped)]
    if not jobs:
        raise UsageError(
            f"no clips or pictures in {', '.join(map(shown, inputs))}: expected "
            f"{' '.join((*CLIP_SUFFIXES, *IMAGE_SUFFIXES))}"
        )
    for job in jobs:
        if not job.attributes:
            raise UsageError(f"nothing to change in {job.shown}: give --attr, or in its manifest")
    jobs = [_with_face(_below(job, output)) for job in jobs]
    _check_outputs(jobs, output)
    return tuple(sorted(jobs, key=lambda job: job.output))


def _jobs_of(
    text: str, output: Path, default: RowDefaults, skipped: Callable[[str], None]
) -> Iterator[Job]:
    path = local_path(text)
    if is_manifest(text) and (is_url(text) or path.is_file()):
        yield from _manifest_jobs(text, default)
    elif is_url(text):
        for found in remote.find(text, partial(_is_wanted, skipped=skipped)):
            yield _job(found.url, output_name(found.name), default, found.stamp)
    elif os.path.isdir(path):
        yield from _tree(path, files_below(path), output, default, skipped)
    elif os.path.lexists(path):
        check_kind(path)
        yield _local_job(path, path.name, default)
    elif glob.has_magic(str(path)):
        yield from _tree(fixed_part(path), matching(path), output, default, skipped)
    else:
        raise UsageError(f"{text}: no such file or folder")


def _tree(
    root: Path,
    found: Iterable[Path],
    output: Path,
    default: RowDefaults,
    skipped: Callable[[str], None],
) -> Iterator[Job]:
    """The files among ``found``, less earlier outputs; not so where all inputs lie among these."""
    outputs = output.resolve()
    skip = None if root.resolve().is_relative_to(outputs) else outputs
    for path in sorted(found):
        name = path.relative_to(root).as_posix()
        if os.path.isdir(path) or (skip and absolute(path).is_relative_to(skip)):
            continue
        if _is_wanted(name, skipped):
            yield _local_job(path, name, default)


def _is_wanted(name: str, skipped: Callable[[str], None]) -> bool:
    """By extension; hidden files and folders are not, and others are told."""
    path = PurePosixPath(name)
    if any(part.startswith(".") and part != ".." for part in path.parts):
        return False
    wanted = path.suffix.lower() in CLIP_SUFFIXES or is_image_path(name)
    if not wanted:
        skipped(name)
    return wanted


def output_name(name: str) -> str:
    """Output of an input's relative name: the same, in a container that can be written.

    Raises:
        UsageError: it is no name of a file.
    """
    path = PurePosixPath(name)
    if not path.name or "\0" in name:
        raise UsageError(f"{name!r} is no name of a file: name the output in a manifest")
    kept = path.suffix.lower() in FORMATS or is_image_path(name)
    return str(path if kept else path.with_suffix(".mp4"))


def _manifest_jobs(text: str, default: RowDefaults) -> Iterator[Job]:
    entries = list(read_manifest(text, default))
    urls = list(dict.fromkeys(entry.input for entry in entries if is_url(entry.input)))
    stamps = dict(zip(urls, remote.stamps(urls), strict=True)) if urls else {}
    for entry in entries:
        stamp = stamps[entry.input] if entry.input in stamps else file_stamp(Path(entry.input))
        yield Job(entry.input, output_name(entry.output), entry.attributes, entry.face, stamp)


def _local_job(path: Path, name: str, default: RowDefaults) -> Job:
    return _job(str(absolute(path)), output_name(name), default, file_stamp(path))


def _job(source: str, output: str, default: RowDefaults, stamp: remote.Stamp) -> Job:
    return Job(source, output, default.attributes, default.face, stamp)


def _below(job: Job, folder: Path) -> Job:
    """An absolute output that lies in the folder counts from it."""
    if not job.output.startswith("/"):
        return job
    target = Path(os.path.realpath(Path(job.output).parent), PurePosixPath(job.output).name)
    root = folder.resolve()
    inside = target.is_relative_to(root)
    return replace(job, output=target.relative_to(root).as_posix()) if inside else job


def _with_face(job: Job) -> Job:
    """Another picture under the name of the reference is another request."""
    stamp = file_stamp(Path(job.face))
    return replace(job, stamp={**job.stamp, "face": stamp}) if stamp else job


def _check_outputs(jobs: Sequence[Job], folder: Path) -> None:
    """UsageError for outputs that collide, leave the folder or replace an input."""
    root = folder.resolve()
    taken: dict[str, Job] = {}
    targets: list[Path] = []
    inputs = {job.input for job in jobs}
    for job in jobs:
        parts = PurePosixPath(job.output).parts
        # Also through links that exist already below the folder.
        target = (root / job.output).resolve()
        if ".." in parts or not target.is_relative_to(root):
            raise UsageError(f"output {job.output} of {job.shown} would lie outside {folder}")
        if target.is_relative_to(root / WORK_FOLDER):
            raise UsageError(f"output {job.output} of {job.shown} would lie among vidinv's own")
        if max(len(os.fsencode(part)) for part in parts) > MAX_NAME_BYTES:
            raise UsageError(
                f"the name of {job.shown} is longer than {MAX_NAME_BYTES} bytes: "
                "name its output in a manifest"
            )
        if str(target) in inputs:
            raise UsageError(f"output {target} would replace an input: give another folder")
        targets.append(target)
        # Names that differ in case only are one file on many disks.
        other = taken.setdefault(str(target).casefold(), job)
        if other is not job:
            raise UsageError(
                f"{other.shown} and {job.shown} would both be written to {job.output}; "
                "name their outputs in a manifest, or give the folder above both"
            )
    for job, target in zip(jobs, targets, strict=True):
        for parent in target.relative_to(root).parents:
            if above := taken.get(str(root / parent).casefold()):
                raise UsageError(
                    f"{above.output} of {above.shown} and {job.output} of {job.shown} would be a "
                    "file and a folder of one name: name their outputs in a manifest"
                )
