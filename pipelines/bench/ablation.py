"""What each part of an edit is for: the same edit of a clip without it (``bench video --ablate``).

Every entry of ``ABLATIONS`` makes the stages of ``ClipSession.render`` otherwise in one respect;
nothing of a run knows of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from pipelines.clip.networks import Networks
from pipelines.clip.plan import ClipPlan, composed_frames
from pipelines.clip.session import ClipSession
from vidinv.composing import FrameComposer
from vidinv.faces.smooth import gaussian
from vidinv.generators.base import Generator
from vidinv.inversion import TrackState
from vidinv.packs import Pack
from vidinv.rendering import Chunk, chunked
from vidinv.types import Frame, Image, Inversion, RenderMode

# Standard deviations in frames; more does no more (docs/LOG.md).
LATENT_FRAMES = 2.0

States = Mapping[int, TrackState]
Edit = Callable[[Iterable[list[Frame]]], Iterator[Chunk]]


@dataclass(frozen=True)
class Rendering:
    """A clip that is planned and fitted, ready to be rendered.

    Attributes:
        read: the frames of ``plan.output``, anew at each call.
    """

    session: ClipSession
    plan: ClipPlan
    states: States
    read: Callable[[], Iterable[Frame]]

    def edit(self, **how: Any) -> Edit:
        """The stage that a run has, with more arguments of ``ClipSession.editor``."""
        start = self.plan.start_seconds
        editor = self.session.editor(
            self.plan.analysis, states=self.states, start_seconds=start, **how
        )
        return editor.process

    def frames(
        self, edit: Edit | None = None, composer: FrameComposer | None = None
    ) -> Iterator[tuple[Frame, Image]]:
        """Source frames with their composed pictures.

        Args:
            edit, composer: in the place of those that a run has.
        """
        composer = composer or self.session.composer(self.plan.analysis)
        return composed_frames(
            self.read(),
            plan=self.plan,
            segment=self.plan.output,
            edit=edit or self.edit(),
            compose=composer.process,
        )


def everything(rendering: Rendering) -> Iterator[tuple[Frame, Image]]:
    """As a run does it."""
    return rendering.frames()


def without_average(rendering: Rendering) -> Iterator[tuple[Frame, Image]]:
    """Each frame has its own change."""
    mode, shots = rendering.session.spec.mode, rendering.plan.analysis.shots
    return rendering.frames(composer=FrameComposer(mode=mode, shots=shots, is_averaged=False))


def with_smooth_latents(rendering: Rendering) -> Iterator[tuple[Frame, Image]]:
    """Latents of a track are averaged over time, which a run does not do."""
    found = SmoothLatents()
    chunks = chunked(rendering.read(), rendering.plan.analysis.shots)
    for _ in rendering.edit(store=found)(chunks):
        pass
    found.smooth()
    return rendering.frames(rendering.edit(store=found))


def with_fresh_noise(rendering: Rendering) -> Iterator[tuple[Frame, Image]]:
    """The generator's noise is drawn anew in every frame."""
    session = rendering.session
    networks = session.networks
    pack = OwnGenerator(networks.pack.files)
    own = Networks(pack, networks.method, device=networks.device, backend=networks.backend)
    drawn = replace(rendering, session=ClipSession(session.clip, session.spec, own))
    as_usual = drawn.edit()  # now the generator is on the device
    network = cast("nn.Module", pack.generator)
    buffers = [buffer for name, buffer in network.named_buffers() if "noise" in name]

    def edit(chunks: Iterable[list[Frame]]) -> Iterator[Chunk]:
        for chunk in chunks:
            for frame in chunk:
                generator = torch.Generator().manual_seed(frame.index)
                for buffer in buffers:
                    # Drawn on the CPU: the same on every device.
                    buffer.copy_(torch.randn(buffer.shape, generator=generator))
                yield from as_usual([[frame]])

    return drawn.frames(edit)


class OwnGenerator(Pack):
    """Whose generator may be changed: nobody else has it, and methods do not copy it."""

    def generator_on(self, device: torch.device) -> Generator:
        with torch.inference_mode(False):
            cast("nn.Module", self.generator).to(device)
        return self.generator


def without_detail(rendering: Rendering) -> Iterator[tuple[Frame, Image]]:
    """The generator's own picture is pasted."""
    session = rendering.session
    spec = replace(session.spec, mode=RenderMode.PASTE)
    pasted = ClipSession(session.clip, spec, session.networks)
    return replace(rendering, session=pasted).frames()


def without_union(rendering: Rendering) -> Iterator[tuple[Frame, Image]]:
    """The mask is that of the source's shape alone, wherever the edit moves the outline."""
    as_usual = rendering.edit()

    def edit(chunks: Iterable[list[Frame]]) -> Iterator[Chunk]:
        for chunk in as_usual(chunks):
            faces = [[replace(f, edited_landmarks=None) for f in row] for row in chunk.faces]
            yield Chunk(chunk.frames, faces)

    return rendering.frames(edit)


class SmoothLatents:
    """Inversions of a clip, kept as they come, and then with their latents averaged over time.

    It is where ``FaceEditor`` looks for saved ones (``vidinv.rendering.SavedInversions``).
    """

    def __init__(self) -> None:
        self._found: dict[int, dict[int, Inversion]] = {}
        self._is_smooth = False

    def get(self, track: int, frames: range, *, codes: Set[str]) -> Inversion | None:
        """None until they are smooth."""
        return self._found[track][frames.start].with_codes(codes) if self._is_smooth else None

    def put(self, track: int, frames: range, inversion: Inversion) -> None:
        """Keep it."""
        self._found.setdefault(track, {})[frames.start] = inversion.on_cpu()

    def smooth(self) -> None:
        """Average the latents of each track."""
        for chunks in self._found.values():
            starts = sorted(chunks)
            latents_TLD = torch.cat([chunks[start].latents_NLD for start in starts])
            smooth_TLD = torch.from_numpy(gaussian(latents_TLD.numpy(), LATENT_FRAMES))
            parts = smooth_TLD.split([len(chunks[start]) for start in starts])
            for start, part in zip(starts, parts, strict=True):
                chunks[start] = Inversion(part.to(latents_TLD.dtype), chunks[start].codes)
        self._is_smooth = True


EVERYTHING, FRESH_NOISE = "everything on", "noise not fixed"
Ablations = Mapping[str, Callable[[Rendering], Iterator[tuple[Frame, Image]]]]
ABLATIONS: Ablations = {
    EVERYTHING: everything,
    "no average over time": without_average,
    "w smoothed over time": with_smooth_latents,
    FRESH_NOISE: with_fresh_noise,
    "no detail transfer": without_detail,
    "no union of masks": without_union,
}


def ablations_of(pack: Pack) -> tuple[Ablations, list[str]]:
    """Those that measure something with this pack, and why others are left out."""
    if has_noise(pack.generator):
        return ABLATIONS, []
    kept = {name: ablation for name, ablation in ABLATIONS.items() if name != FRESH_NOISE}
    return kept, [f"{FRESH_NOISE} is left out: the generator of pack {pack.name} has no noise"]


@torch.inference_mode()
def has_noise(generator: Generator) -> bool:
    """Its pictures are others without noise: a family has some, of a strength above 0."""
    latents_1LD = torch.zeros(1, generator.config.num_ws, generator.config.w_dim)
    noisy, plain = (generator.synthesis(latents_1LD, noise_mode=m) for m in ("const", "none"))
    return not torch.equal(noisy, plain)
