"""``vidinv bench speed``: the pipeline against the eager per-frame baseline, same work, same run.

The baseline does what public Feature-Style code does: frame by frame, one stage after the other, an
encoder pass, and full generator passes for every feature difference that is shown. The pipeline
batches, stops and resumes the generator at layer K (FSE eq. 1), and overlaps its stages. Both
decode, analyse, compose and encode the same clip, and neither looks at identity; start-up is
outside both.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipelines.demo import make_clip
from pipelines.edit import run
from pipelines.edit_request import EditRequest
from vidinv.composing import FrameComposer
from vidinv.faces import analyse, dlib_backend, named_alignment, select_tracks
from vidinv.inversion.fse import FEATURES, FeatureStyleInverter
from vidinv.packs import Pack
from vidinv.rendering import FaceEditor
from vidinv.types import EditedLatents, EditSpec, Frame, Inversion
from vidinv.video import ShotDetector, open_reader, open_writer, read_image

SPEC = EditSpec(attributes={"smile": ((0.0, 1.0),)})


@dataclass(frozen=True)
class SpeedReport:
    """Frames per second of both, their ratio, and where the baseline's time goes.

    Attributes:
        stage_ms: wall milliseconds a frame of each stage, run alone; their sum over the number of
            cores bounds what overlapping can reach.
    """

    frames: int
    baseline_fps: float
    pipeline_fps: float
    stage_ms: dict[str, float]

    @property
    def ratio(self) -> float:
        return self.pipeline_fps / self.baseline_fps

    def lines(self) -> list[str]:
        """A table for people, and what bounds the speed."""
        slowest = max(self.stage_ms, key=lambda stage: self.stage_ms[stage])
        total = sum(self.stage_ms.values())
        return [
            f"frames                    {self.frames}",
            f"baseline (eager, 1 frame) {self.baseline_fps:8.2f} fps",
            f"pipeline                  {self.pipeline_fps:8.2f} fps   {self.ratio:.2f} x baseline",
            "baseline stages, ms a frame: "
            + ", ".join(f"{stage} {ms:.1f}" for stage, ms in self.stage_ms.items()),
            f"bound by {slowest}: {self.stage_ms[slowest] / total:.0%} of the work",
        ]


@dataclass(frozen=True)
class NetworksReport:
    """CPU milliseconds of the networks for one face, the least of several runs.

    Attributes:
        encode_ms: a pass of the encoder.
        pass_ms: a full pass of the generator.
        edit_ms: encode, and render the edited face (FSE eq. 1).
    """

    encode_ms: float
    pass_ms: float
    edit_ms: float

    @property
    def share(self) -> float:
        """Of what public code takes: an encoder pass and three full ones."""
        return self.edit_ms / (self.encode_ms + 3 * self.pass_ms)

    def lines(self) -> list[str]:
        """A table for people."""
        return [
            f"encoder pass              {self.encode_ms:8.1f} ms a face",
            f"generator pass            {self.pass_ms:8.1f} ms",
            f"an edit                   {self.edit_ms:8.1f} ms",
            f"{self.share:.2f} of an encoder pass and three generator passes",
        ]


class FullPassInverter(FeatureStyleInverter):
    """The ``fse`` method as public code runs it: every feature difference costs a full pass.

    Where the pack's edits show no feature code, neither way computes one: the work is the same.
    """

    @torch.inference_mode()
    def encode(self, faces_N3RR: torch.Tensor, *arguments: Any, **how: Any) -> Inversion:
        inversion = super().encode(faces_N3RR, *arguments, **how)
        if FEATURES in inversion.codes:
            self.synthesis(inversion.latents_NLD)  # G^K(w) from a full pass
        return inversion

    @torch.inference_mode()
    def render(
        self, inversion: Inversion, edited: EditedLatents, *arguments: Any, **how: Any
    ) -> torch.Tensor:
        if FEATURES in inversion.codes:
            self.synthesis(edited.latents_NLD)  # G^K(w~) from a full pass
        return super().render(inversion, edited, *arguments, **how)


def measure(pack: Pack, *, clip: Path | None = None, seconds: float = 4.0) -> SpeedReport:
    """Edit one clip both ways; without ``clip``, one that the pack's generator makes."""
    with tempfile.TemporaryDirectory() as folder:
        source = clip or make_clip(pack, Path(folder) / "clip.mp4", seconds=seconds)
        # A few frames first: neither way pays for the first use of the networks.
        warm = make_clip(pack, Path(folder) / "warm.mp4", seconds=0.4)
        _pipeline(pack, warm, Path(folder) / "warm_out.mp4")
        result = _pipeline(pack, source, Path(folder) / "pipeline.mp4")
        stages, frames = _baseline(pack, source, Path(folder) / "baseline.mp4")
    seconds_taken = sum(stages.values())
    return SpeedReport(
        frames=frames,
        baseline_fps=frames / seconds_taken,
        pipeline_fps=result,
        stage_ms={stage: 1000 * value / frames for stage, value in stages.items()},
    )


def measure_networks(pack: Pack, *, repeats: int = 5) -> NetworksReport:
    """What ``fse`` takes for one edited face, and what its parts take, in turn."""
    inverter, generator = FeatureStyleInverter.build(pack.parts("fse")), pack.generator
    least = {"encode": float("inf"), "pass": float("inf"), "edit": float("inf")}
    with torch.inference_mode():
        z = torch.randn(1, generator.z_dim, generator=torch.Generator().manual_seed(0))
        latents = generator.broadcast(generator.mapping(z, truncation=0.7))
        face = generator.synthesis(latents).clamp(-1, 1)

        def edit() -> None:
            inversion = inverter.encode(face)
            inverter.render(inversion, EditedLatents(inversion.latents_NLD + 0.1))

        work: dict[str, Callable[[], object]] = {
            "encode": lambda: inverter.encode_latents(face),
            "pass": lambda: generator.synthesis(latents),
            "edit": edit,
        }
        for repeat in range(repeats + 1):
            for name, call in work.items():
                started = time.process_time()
                call()
                if repeat:  # the first use pays for more
                    least[name] = min(least[name], time.process_time() - started)
    return NetworksReport(*(1000 * least[name] for name in ("encode", "pass", "edit")))


def _pipeline(pack: Pack, source: Path, output: Path) -> float:
    request = EditRequest(
        input=source, output=output, pack=pack, spec=SPEC, device="cpu", identity=False
    )
    return run(request).fps


class _StageTimer:
    """Wall seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - started


def _baseline(pack: Pack, source: Path, output: Path) -> tuple[dict[str, float], int]:
    """One frame at a time through every stage in turn; returns seconds by stage, and frames."""
    timer, backend = _StageTimer(), dlib_backend()
    with timer.stage("analyse"), open_reader(source) as reader:
        analysis = analyse(
            reader,
            new_shot=ShotDetector().update,
            alignment=named_alignment(pack.alignment),
            pixel_aspect=reader.info.pixel_aspect,
            backend=backend,
        )
    tracks = select_tracks(analysis, SPEC.face, backend=backend, load_image=read_image)
    editor = FaceEditor(
        FullPassInverter.build(pack.parts("fse")),
        resolution=pack.resolution,
        alignment=pack.alignment,
        directions=pack.directions(),
        spec=SPEC,
        tracks=tracks,
        shots=analysis.shots,
    )
    composer = FrameComposer(mode=SPEC.mode, shots=analysis.shots)
    with open_reader(source) as reader, open_writer(output, source=reader.info) as writer:
        while True:
            with timer.stage("decode"):
                frame = next(reader, None)
            if frame is None:
                break
            with timer.stage("invert and render"):
                (chunk,) = editor.process([[frame]])
            with timer.stage("compose"):
                ((_, picture),) = composer.process([chunk])
            with timer.stage("encode"):
                writer.write(
                    Frame(frame.index, frame.pts, frame.time_base, picture, frame.duration)
                )
    return dict(timer.seconds), analysis.num_frames
