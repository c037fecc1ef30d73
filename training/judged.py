"""What the trainers have in common: judges beside the networks that learn, and their steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.compute import Compute, choose_device
from training.judges import Judges, JudgesConfig, Metrics, leaf, through
from training.loop import GradientAverage, LoopConfig, StepPart
from training.losses import psnr, sharpness
from training.terms import View


class JudgedTask:
    """Part of a ``training.loop.TrainingTask``.

    Attributes:
        modules: what is saved, by name; the adversary is one of them.
        networks: who judges.
        start: where the first weights came from.
        resolution: side of the pictures.
        compute: where modules and judges are; around networks, ``with self.compute.autocast()``.
        part: of the step, set before each.
    """

    def __init__(self, loop: LoopConfig, resolution: int) -> None:
        self.resolution = resolution
        self._calls: Counter[str] = Counter()  # of ``_optimise`` in this part, by optimizer
        self._earlier: dict[
            tuple[str, int], list[Tensor | None]
        ] = {}  # gradients of a step's parts
        self.part = StepPart()
        self.compute = Compute(choose_device(loop.device), loop.precision)
        self.start = "random weights"
        self.modules: dict[str, nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self._images_per_step = loop.images_per_step

    def call_judges(self, config: JudgesConfig) -> None:
        """Build the judges; the networks that learn are there already."""
        self.judges = Judges(config, self.resolution, self.compute)
        self.networks = self.judges.networks
        if (adversary := self.judges.adversary) is not None:
            self.modules["adversary"] = adversary
            self.optimizers["adversary"] = torch.optim.Adam(
                adversary.parameters(),
                lr=adversary.config.learning_rate,
                betas=(0.0, 0.99),
                fused=True,
            )

    def measure(self, pictures: Tensor, images: Tensor, suffix: str = "") -> dict[str, float]:
        """PSNR, gradient energy, and what the judging networks say of pictures of ``images``."""
        view, source = View(pictures), View(images)
        metrics = {
            f"psnr{suffix}": float(psnr(pictures, images).mean()),
            f"sharpness{suffix}": sharpness(pictures, images),
        }
        if self.judges.perceptual is not None:
            distance = self.judges.perceptual.distance(view, source)
            metrics[f"perceptual{suffix}"] = float(distance.mean())
        if self.judges.identity is not None:
            distance = self.judges.identity.embedding_distance(view, source)
            metrics[f"identity{suffix}"] = float(distance.median())
        return metrics

    def _picture_step(
        self,
        name: str,
        picture: Tensor,
        target: Tensor,
        *,
        weights: Tensor,
        number: int,
        average: GradientAverage,
        more: Tensor | float = 0.0,
    ) -> Metrics:
        """A step of one optimizer, towards ``target``, and of the adversary.

        Args:
            picture: with gradients.
            weights: of the pixels (``Batch.weights``).
            number: of the step.
            more: a further loss of that optimizer.
        """
        source, view = View(target), leaf(picture)
        metrics: Metrics = {}
        loss = self.judges.reconstruction(view, source, weights, metrics)
        if self.judges.acts(self._images_seen(number)):
            loss = loss + self.judges.adversarial([(view, 1.0)], loss, number, metrics)
        self._optimise(name, through([picture], [view], loss) + more, average)
        self._adversary_step(source, [view], average, metrics)
        return metrics

    def _images_seen(self, number: int) -> int:
        return number * self._images_per_step

    def _adversary_step(
        self, source: View, fakes: Sequence[View], average: GradientAverage, metrics: Metrics
    ) -> None:
        if self.judges.adversary is not None:
            metrics["discriminator"] = self.judges.discriminator_loss(source, fakes)
            self._optimise("adversary", metrics["discriminator"], average)

    @property
    def part(self) -> StepPart:
        return self._part

    @part.setter
    def part(self, part: StepPart) -> None:
        self._part = part
        self._calls.clear()
        if part.is_first:
            self._earlier.clear()

    def _optimise(self, name: str, loss: Tensor, average: GradientAverage) -> None:
        """Step an optimizer by the gradients of a loss; in the last part of a step alone.

        The n-th call for an optimizer in a part belongs to the n-th in the others: their gradients
        add up, apart from those of further losses that it steps by.
        """
        optimizer, key = self.optimizers[name], (name, self._calls[name])
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._calls[name] += 1
        optimizer.zero_grad(set_to_none=True)
        for parameter, gradient in zip(parameters, self._earlier.pop(key, ()), strict=False):
            parameter.grad = gradient
        (loss / self.part.count).backward()
        if self.part.is_last:
            average(parameters)
            optimizer.step()
        else:
            self._earlier[key] = [parameter.grad for parameter in parameters]
