"""HyperInverter (Dinh et al. 2022, section 3) on a pack's generator, which stands still.

Phase 1 trains E1 with eq. 6; phase 2 trains E2 and the hypernetworks with eqs. 7 to 9, while E1
stands still. With ``first_phase`` another method of the pack gives the latents in the place of E1,
and there is no phase 1. Who serves in eq. 6's places of L2, LPIPS and ArcFace is said in
training.judges; the adversary's hinge loss with spectral norm stands for eqs. 8 and 9. Residuals
are zero at first: training starts from G(w).

    python -m training hyper --config configs/faces_hyper128.yaml --out runs/hyper128
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from training.judges import Metrics
from training.loop import Batch, GradientAverage
from training.pack_stage import PackStageConfig, PackTask
from vidinv.inversion.hyper import HyperInverter
from vidinv.inversion.hyper_networks import HyperConfig, HyperInverterNetworks

PHASE_ONE, PHASE_TWO = ("w_encoder",), ("w_bar_encoder", "hypernet")
"""What learns in a phase, by the names of ``HyperInverterNetworks``."""


@dataclass(frozen=True, kw_only=True)
class HyperStage(PackStageConfig):
    """One phase; its ablations (table 3) are fields of ``hyper``.

    Attributes:
        first_phase: method of the pack whose latents stand for E1's; "" for E1.
    """

    hyper: HyperConfig
    phase: Literal[1, 2] = 2
    first_phase: str = ""

    def __post_init__(self) -> None:
        if self.phase == 1 and self.first_phase:
            raise ValueError("phase 1 trains E1, which first_phase leaves out")
        if self.phase == 2 and not (self.first_phase or self.init):
            raise ValueError("phase 2 starts from E1: init must name the run of phase 1")
        if self.phase == 2 and not self.hyper.phase_two:
            raise ValueError("hyper.phase_two leaves out what phase 2 trains")


class HyperTask(PackTask):
    """Trains E1, or E2 and the hypernetworks; see the file's head."""

    method = "hyper"

    def __init__(self, config: HyperStage) -> None:
        super().__init__(config)
        self.config = config
        first = self.first_inverter(config.first_phase) if config.first_phase else None
        weights = self.generator.synthesis.layer_weights()
        networks = HyperInverterNetworks(
            config.hyper, self.generator.config, weights, has_w_encoder=first is None
        )
        self.hyper = self.compute.place(networks)
        self.hyper.prepare_training()
        self.averaged = PHASE_ONE if config.phase == 1 else PHASE_TWO
        for name, module in self.hyper.named_children():
            module.train(name in self.averaged).requires_grad_(name in self.averaged)
            self.modules[name] = module
        learning = [p for p in self.hyper.parameters() if p.requires_grad]
        self.optimizers["hyper"] = torch.optim.Adam(learning, lr=config.learning_rate, fused=True)
        self.inverter = HyperInverter(self.generator, self.hyper, first)
        self.call_judges(config.judges)

    def step(self, batch: Batch, number: int, average: GradientAverage) -> Metrics:
        with self.compute.autocast():
            picture = self._picture(batch.images, self.inverter)
        return self._picture_step(
            "hyper", picture, batch.images, weights=batch.weights, number=number, average=average
        )

    def _picture(self, images_N3RR: Tensor, inverter: HyperInverter) -> Tensor:
        """G(w) in phase 1, G(w, theta + residuals) in phase 2 (eq. 5), with gradients."""
        latents = inverter.phase_one(images_N3RR)
        if self.config.phase == 1:
            return self.generator.synthesis(latents)
        residuals = inverter.residuals(images_N3RR, latents)
        return self.generator.synthesis(latents, weight_residuals=residuals)

    def _with(self, modules: dict[str, nn.Module]) -> HyperInverter:
        """The method with averaged networks in the place of those that learn."""
        networks = copy.copy(self.hyper)
        networks._modules = {**self.hyper._modules, **modules}
        return HyperInverter(self.generator, networks, self.inverter.first)

    def pack_entry(self) -> dict[str, Any]:
        config = self.config
        phases = {} if config.phase == 2 else {"phase_two": False}
        entry: dict[str, Any] = {"config": asdict(config.hyper) | phases}
        return entry | ({"first_phase": config.first_phase} if config.first_phase else {})

    def pack_tensors(self) -> dict[str, Tensor]:
        return self.hyper.state_dict()

    def forward(self, modules: dict[str, nn.Module], batch: Batch) -> None:
        averaged = {name: modules[name] for name in self.averaged}
        self._picture(batch.images, self._with(averaged))

    @torch.no_grad()
    def evaluate(
        self, ema: dict[str, nn.Module], batch: Batch
    ) -> tuple[dict[str, float], list[Tensor]]:
        """Measures of G(w), and in phase 2 of G(w, theta + residuals) and of a smile of both.

        ``kept``: share of the edit's change of G(w) at eyes and mouth that residuals leave. Sheet
        rows: source, G(w), result, then the two edited.
        """
        inverter, images = self._with({n: ema[n] for n in self.averaged}), batch.images
        latents = inverter.phase_one(images)
        plain = self.generator.synthesis(latents)
        metrics, rows = self.measure(plain, images, "_w"), [images, plain]
        if self.config.phase == 2:
            residuals = inverter.residuals(images, latents)
            full = self.generator.synthesis(latents, weight_residuals=residuals)
            metrics |= self.measure(full, images)
            rows.append(full)
            if edit := self.shown_edit(len(images)):
                moved = self.directions.apply(latents, edit).latents_NLD
                plain_edited = self.generator.synthesis(moved)
                edited = self.generator.synthesis(moved, weight_residuals=residuals)
                rows += [plain_edited, edited]
                metrics |= self.measure_edit(edited, full, batch, plain=plain_edited - plain)
        return metrics, [row[:16] for row in rows]
