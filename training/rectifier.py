"""The rectifying network of ReGANIE (Li et al. 2023, algorithm 1, eq. 9) over a pack's first phase.

A step draws one of three triplets (difference I - I^, picture to rectify, what it should be):

1. Y - Y^, X^ -> X: an edit is undone with what the edited picture lost;
2. X - X^, Y^ -> Y: an edit keeps what the source lost;
3. X - X^, X^ -> X: the inversion itself.

The paper draws X and Y from the generator, since its encoder loses much of what that makes. An
autoencoding generator's encoder loses next to nothing of its samples, so here X is a photograph,
and Y the photograph with the change that the best editing method of the pack (``partner``) makes:
Y = X + G(w~, F~) - G(w, F), as detail transfer has it. Eq. 9 is L1 + LPIPS + GAN, each with weight
1; who serves as each is said in training.judges.

    python -m training rectifier --config configs/faces_rectify128.yaml --out runs/rectify128
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from training.compute import draw_of
from training.judges import Metrics
from training.loop import Batch, GradientAverage
from training.pack_stage import PackStageConfig, PackTask
from vidinv.errors import UnknownNameError, UsageError
from vidinv.inversion.rectify import RectifyInverter
from vidinv.inversion.rectify_networks import Rectifier, RectifierConfig
from vidinv.types import EditedLatents

BETAS = (0.0, 0.99)  # of Adam, "Implementation Details"


@dataclass(frozen=True, kw_only=True)
class RectifierStage(PackStageConfig):
    """A rectifier; its own ablations (figure 6) are fields of ``rectifier``.

    Attributes:
        learning_rate: the paper's, for batches of 8.
        first_phase: method of the pack whose latents are inverted from.
        first_phase_codes: phase I is rendered with its codes too.
        partner: method of the pack whose edits make Y.
        triplets: how often each of the three kinds is drawn; 0 leaves it out.
        max_edit: strength of Y's edit, at most.
        held_out: directions that training does not see, so that they can test it; with ``smile``
            go those that ``vidinv directions fit`` found for it (``interfacegan_smile``).
    """

    rectifier: RectifierConfig
    learning_rate: float = 2e-3
    first_phase: str = "fse"
    first_phase_codes: bool = False
    partner: str = "fse"
    triplets: tuple[float, float, float] = (1.0, 1.0, 1.0)
    max_edit: float = 2.0
    held_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if min(self.triplets) < 0 or not sum(self.triplets):
            raise ValueError(f"triplets must be shares from 0, not all 0, got {self.triplets}")


@dataclass(frozen=True)
class Triplet:
    """Difference ``source - inverted``, ``primary`` to rectify, ``target``; ``[N, 3, R, R]``."""

    source: Tensor
    inverted: Tensor
    primary: Tensor
    target: Tensor


class RectifierTask(PackTask):
    """Trains E_p, E_d and G_p; see the file's head."""

    method = "rectify"
    averaged: ClassVar[tuple[str, ...]] = ("rectifier",)

    def __init__(self, config: RectifierStage) -> None:
        super().__init__(config)
        self.config = config
        if config.rectifier.resolution > self.resolution:
            raise UsageError(
                f"rectifier.resolution {config.rectifier.resolution} is above the pack's, "
                f"{self.resolution}"
            )
        known = self.directions.by_name
        for name in config.held_out:
            if name not in known:
                raise UnknownNameError("direction in held_out", name, known)
        self.edits = [name for name in known if not _is_one_of(name, config.held_out)]
        if not self.edits and any(config.triplets[:2]):
            raise UsageError("held_out leaves no direction for edits: triplets must be [0, 0, 1]")
        self.rectifier = self.compute.place(Rectifier(config.rectifier))
        self.modules["rectifier"] = self.rectifier
        self.optimizers["rectifier"] = torch.optim.Adam(
            self.rectifier.parameters(), lr=config.learning_rate, betas=BETAS, fused=True
        )
        self.first = self.first_inverter(config.first_phase)
        self.partner = self.first_inverter(config.partner)
        self.call_judges(config.judges)

    def step(self, batch: Batch, number: int, average: GradientAverage) -> Metrics:
        with self.compute.autocast():
            triplet = self.draw(batch.images)
            codes = self.rectifier.codes(triplet.source, triplet.inverted)
            picture = self.rectifier(triplet.primary, codes)
        return self._picture_step(
            "rectifier",
            picture,
            triplet.target,
            weights=batch.weights,
            number=number,
            average=average,
        )

    @torch.no_grad()
    def draw(self, images_N3RR: Tensor) -> Triplet:
        """One of algorithm 1's triplets of photographs X."""
        kind = draw_of(self.config.triplets) + 1
        x, x_hat = images_N3RR, self._inverted(images_N3RR)
        if kind == 3:
            return Triplet(x, x_hat, x_hat, x)
        y = self._edited(x)
        y_hat = self._inverted(y)
        return Triplet(y, y_hat, x_hat, x) if kind == 1 else Triplet(x, x_hat, y_hat, y)

    def _inverted(self, images_N3RR: Tensor) -> Tensor:
        """X^ = G(E(X)) (eq. 3)."""
        inverter = self._inverter(self.rectifier)
        first = inverter.invert_first(images_N3RR)
        return inverter.first_picture(first, first.unedited).float().clone()

    def _edited(self, images_N3RR: Tensor) -> Tensor:
        """Y: every face edited along one direction."""
        inversion = self.partner.encode(images_N3RR)
        edited = self._draw_edits(inversion.latents_NLD)
        before = self.partner.render(inversion, inversion.unedited)
        after = self.partner.render(inversion, edited)
        return (images_N3RR + after - before).clamp(-1, 1)

    def _draw_edits(self, latents_NLD: Tensor) -> EditedLatents:
        count = len(latents_NLD)
        where = latents_NLD.device
        chosen = torch.randint(len(self.edits), [count], device=where)
        strengths = (torch.rand(count, device=where) * 2 - 1) * self.config.max_edit
        by_name = {name: strengths * (chosen == n) for n, name in enumerate(self.edits)}
        return self.directions.apply(latents_NLD, by_name)

    def _inverter(self, rectifier: Rectifier) -> RectifyInverter:
        return RectifyInverter(
            self.generator, self.first, rectifier, first_phase_codes=self.config.first_phase_codes
        )

    def pack_entry(self) -> dict[str, Any]:
        config = self.config
        entry = {"config": asdict(config.rectifier), "first_phase": config.first_phase}
        return entry | ({"first_phase_codes": True} if config.first_phase_codes else {})

    def pack_tensors(self) -> dict[str, Tensor]:
        return self.rectifier.state_dict()

    def forward(self, modules: dict[str, nn.Module], batch: Batch) -> None:
        """Nothing: there is no batch norm in it."""

    @torch.no_grad()
    def evaluate(
        self, ema: dict[str, nn.Module], batch: Batch
    ) -> tuple[dict[str, float], list[Tensor]]:
        """Measures of X^ and X_r, and of a smile: Y^ and Y_r.

        ``kept``: share of the edit's change of X^ at eyes and mouth that X_r shows. Sheet rows:
        source, X^, X_r, Y^, Y_r.
        """
        rectifier = ema["rectifier"]
        assert isinstance(rectifier, Rectifier)
        inverter, images = self._inverter(rectifier), batch.images
        inversion = inverter.encode(images)
        first = inverter.invert_first(images)
        x_hat = inverter.first_picture(first, first.unedited)
        x_r = inverter.render(inversion, inversion.unedited)
        metrics = self.measure(x_hat, images, "_first") | self.measure(x_r, images)
        rows = [images, x_hat, x_r]
        if edit := self.shown_edit(len(images)):
            edited = self.directions.apply(inversion.latents_NLD, edit)
            y_hat = inverter.first_picture(first, edited)
            y_r = inverter.render(inversion, edited)
            rows += [y_hat, y_r]
            metrics |= self.measure_edit(y_r, x_r, batch, plain=y_hat - x_hat)
        return metrics, [row[:16] for row in rows]


def _is_one_of(direction: str, attributes: tuple[str, ...]) -> bool:
    return any(direction == name or direction.endswith(f"_{name}") for name in attributes)
