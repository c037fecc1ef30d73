"""What a batch run is asked for, checked before any work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipelines.batch.inputs.find import find_jobs
from pipelines.batch.request.jobs import Job, Keyframes, Settings, pack_digest
from pipelines.batch.status.journal import MANIFEST_FILE, WORK_FOLDER
from pipelines.batch.workers.pools import WORKER_CPUS, PoolRequest
from pipelines.batch.workers.ray_workers import RUNNER_CLASS, STALL_SECONDS
from pipelines.clip.plan import SEGMENT_FRAMES
from pipelines.clip.saved import check_folder
from vidinv.errors import UsageError
from vidinv.faces import check_landmarks
from vidinv.occlusion import check_occlusion
from vidinv.packs import DEFAULT_PACK, Pack, load_pack
from vidinv.provenance import CredentialOptions, check_credentials
from vidinv.types import TimeRange
from vidinv.video import EncodeOptions, choose_encoder


@dataclass(frozen=True)
class BatchRequest:
    """Everything that a batch run needs to know.

    Attributes:
        inputs: files, folders, globs and manifests, as typed; also URLs of them.
        output: folder of the outputs.
        attributes, face: for clips whose manifest row gives none.
        address: of a Ray cluster; None starts Ray on this machine.
        method_options: what of the method is set otherwise than the pack says.
        resume, restart: what to do about an earlier run in the same folder.
        num_workers, num_gpu_workers: None takes one a CPU, and one a GPU that renders.
        worker_cpus: CPUs that each worker reserves in Ray's books.
        dashboard: start Ray's too; a cluster at ``address`` has its own.
        latents: folder where analysis and inversions are kept, and taken from.
        stall_seconds: a task that moves no frame for so long is killed.
        report: compare every clip with its source, and write a page over all of them.
        inversion: in the reports, also measure what the inversion alone loses.
        on_error: what becomes of damaged clips: ``"stop"`` or ``"skip"`` (``open_reader``).
        credentials: whether and with what outputs are signed.
        within: the part of every clip that is edited; None is all of it.
        landmarks: who finds faces: ``"dlib"`` or ``"fan"``.
        occlusion: ``"auto"`` keeps what the pack's parsing network, if it has one, sees in front of
            faces; ``"off"`` does not look.
        runner_class: ``module:class`` that runs the tasks.
    """

    inputs: Sequence[str]
    output: Path
    attributes: Mapping[str, Keyframes] = field(default_factory=dict)
    face: str = "largest"
    method: str = "fse"
    method_options: Mapping[str, Any] = field(default_factory=dict)
    pack: str | Path = DEFAULT_PACK
    detail: bool = True
    seed: int = 0
    device: str = "auto"
    encode: EncodeOptions = field(default_factory=EncodeOptions)
    on_error: str = "stop"
    address: str | None = None
    resume: bool = False
    restart: bool = False
    num_workers: int | None = None
    num_gpu_workers: int | None = None
    worker_cpus: float = WORKER_CPUS
    dashboard: bool = False
    segment_frames: int = SEGMENT_FRAMES
    latents: Path | None = None
    stall_seconds: float = STALL_SECONDS
    report: bool = False
    inversion: bool = True
    credentials: CredentialOptions = field(default_factory=CredentialOptions)
    within: TimeRange | None = None
    landmarks: str = "dlib"
    occlusion: str = "auto"
    quiet: bool = True
    runner_class: str = RUNNER_CLASS

    @property
    def pools(self) -> PoolRequest:
        """What it wants of the cluster; UsageError for values that go with none."""
        return PoolRequest(self.num_workers, self.num_gpu_workers, self.worker_cpus, self.device)


def check_request(
    request: BatchRequest, *, skipped: Callable[[str], None] = lambda name: None
) -> tuple[tuple[Job, ...], Settings]:
    """Jobs and settings, after everything that can be wrong about them is checked.

    Args:
        skipped: as for ``find_jobs``.
    """
    _check_options(request)
    pack = load_pack(request.pack).with_options(request.method, request.method_options)
    check_landmarks(request.landmarks, is_here=request.address is None)
    # UnknownNameError, or PackError of damaged weights, before any worker starts.
    pack.inverter(request.method)
    if request.occlusion == "auto" and pack.has_network("parsing"):
        pack.network("parsing")
    jobs = find_jobs(
        request.inputs,
        output=request.output,
        attributes=request.attributes,
        face=request.face,
        attribute_names=pack.directions().names(),
        skipped=skipped,
    )
    settings = _settings(request, pack)
    for job in jobs:
        if not job.is_picture:
            choose_encoder(Path(job.output), settings.encode)
        elif request.within is not None:
            raise UsageError(f"{job.shown} is a picture: --start and --end are for clips")
    return jobs, settings


def _check_options(request: BatchRequest) -> None:
    """UsageError for options that exclude each other, or files in the way of the run's own."""
    if request.resume and request.restart:
        raise UsageError("--resume and --restart exclude each other")
    if request.dashboard and request.address is not None:
        raise UsageError("--dashboard starts one with a Ray on this machine; a cluster has its own")
    if request.output.exists() and not request.output.is_dir():
        raise UsageError(f"{request.output}: not a folder")
    if request.latents is not None:
        check_folder(request.latents, cleared=request.output / WORK_FOLDER)
    check_credentials(request.credentials)
    check_occlusion(request.occlusion)
    request.pools  # noqa: B018 - values that go with no cluster
    manifest = request.output / MANIFEST_FILE
    if any(Path(text).absolute() == manifest.absolute() for text in request.inputs):
        raise UsageError(
            f"{manifest}: the run writes its own manifest there; move the list elsewhere"
        )
    if request.segment_frames < 1:
        raise UsageError(f"--segment-frames {request.segment_frames}: give at least 1")
    if not request.stall_seconds > 0:  # nor is NaN
        raise UsageError(f"--stall-seconds {request.stall_seconds:g}: give a time above 0")


def _settings(request: BatchRequest, pack: Pack) -> Settings:
    encode = request.encode
    return Settings(
        pack=str(pack.folder.absolute()),
        pack_digest=pack_digest(pack.meta),
        method=request.method,
        method_options=dict(request.method_options),
        detail=request.detail,
        seed=request.seed,
        device=request.device,
        encode=replace(encode, threads=encode.threads or 1),
        on_error=request.on_error,
        segment_frames=request.segment_frames,
        latents=None if request.latents is None else str(request.latents.absolute()),
        credentials=request.credentials.resolved(),
        within=request.within,
        landmarks=request.landmarks,
        occlusion=request.occlusion,
    )
