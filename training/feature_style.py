"""Feature-Style stage (F stage): the feature code joins, and edits keep their effect with it.

Three inversions are learned side by side: G(w) and G(w, F) (FSE paper, figure 3), and G(w~, F~) of
faces edited along an attribute. Pictures are judged as in the w stage (training.judges, in the
places of eqs. 2, 3 and 6); eq. 4 is the mean square of the head's prediction F - G^K(w). The
generator learns along: it was made as this encoder's decoder, so by default there is no synthetic
half of the batch (``synthetic``).

An F that reconstructs everything pins the picture, old lips included: eq. 1 then edits little. So
edited faces are rendered as the encoder says, by its feature editor where it has one and by eq. 1
else, and their change must be that of G(w), in pixels at half size and in features, mouth and eyes
above all; the adversary sees to the rest (docs/LOG.md).

    python -m training encoder --config configs/faces_fse128.yaml --out runs/fse128
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.data import ATTRIBUTES, FACE, PARTS, WEIGHT_UNIT
from training.gan import GanConfig, GanTask
from training.group import mean_over_workers
from training.judges import Metrics, leaf, through
from training.loop import Batch, GradientAverage
from training.terms import FeatureNetwork, View, frozen_features
from vidinv.generators.base import Generator, GeneratorNetwork, SynthesisState
from vidinv.inversion.fse_encoder import FeatureStyleEncoder

EDITED_SHARE = 4  # one face in four is edited in a step
EDITS_MEMORY = 0.02  # share of a batch in the running regression
MIN_CHANGE = 1e-3  # of features, relative to which their loss is taken: an edit may be nearly 0
SMILE = ATTRIBUTES.index("smile")
SHOWN_EDITS = (2.0, 4.0)  # smiles that are measured and shown, in standard deviations
PARTS_ABOVE = (FACE + PARTS) / 2 / WEIGHT_UNIT  # a pixel of more weight lies in eyes or mouth


@dataclass(frozen=True)
class EncoderConfig(GanConfig):
    """A Feature-Style stage; its ablations are in docs/TRAINING.md.

    ``encoder.editor_width`` 0 leaves out the feature editor, ``encoder.feature_width`` 0 the
    feature code.

    Attributes:
        feature_penalty: weight of eq. 4, the mean square of F - G^K(w); it trades reconstruction
            for the effect of edits.
        plain_weight: of the reconstruction of G(w), which is judged on half of the faces.
        plain_adversarial: of G(w) in the adversary's loss, where G(w, F) has 1.
        plain_faces: whose G(w) is judged: half of a batch, or all with the identity term as well.
        latents_apart: w learns from G(w) alone, and the loss of G(w, F) moves F alone.
        edited_adversarial: of G(w~, F~) in it.
        edit_weight: of the edit's loss in pixels; 0 leaves edits out.
        edit_feature_weight: of the edit's loss in features of EfficientNet-lite0.
        edit_probe_weight: of what the encoder and its probe read of an edit, attributes and
            landmarks, in the feature-editor stage (training.feature_editor).
        edit_recognition_weight: there, of what the recognition network sees of edits that change
            whom it sees (age, gender); the others have ``edited_identity``.
        edited_identity: weight of the identity term of G(w~, F~) against the source, on the edited.
        max_edit: longest edit, in standard deviations of the attribute.
    """

    feature_penalty: float = 0.3
    plain_weight: float = 1.0
    plain_adversarial: float = 1.5
    edited_adversarial: float = 0.25
    plain_faces: Literal["half", "all"] = "half"
    latents_apart: bool = False
    edit_weight: float = 4.0
    edit_feature_weight: float = 0.125
    edit_probe_weight: float = 10.0
    edit_recognition_weight: float = 0.0
    edited_identity: float = 0.1
    max_edit: float = 4.0


class EditDirections(nn.Module):
    """Running regression of w on the attributes: what an attribute changes, the rest held fixed.

    An attribute that no face of a batch has a label of (on video: smile, age, gender) counts as one
    of unit variance that goes with nothing, so that there is a solution; its direction fades.
    """

    moments_AA: Tensor
    cross_AD: Tensor

    def __init__(self, num_attributes: int, w_dim: int) -> None:
        super().__init__()
        self.register_buffer("moments_AA", torch.eye(num_attributes))
        self.register_buffer("cross_AD", torch.zeros(num_attributes, w_dim))

    @torch.no_grad()
    def update(self, targets_NA: Tensor, w_ND: Tensor) -> None:
        """Take in a batch of every worker; unknown targets (NaN) count as average."""
        targets = torch.nan_to_num(targets_NA)
        moments = targets.T @ torch.cat([targets, w_ND - w_ND.mean(dim=0)], dim=1) / len(targets)
        known = labelled(targets_NA).to(moments)[:, None]
        mean = mean_over_workers(torch.cat([moments, known], dim=1))
        own, cross, known = mean.split([targets.shape[1], w_ND.shape[1], 1], dim=1)
        own.diagonal().add_(known[:, 0] == 0)
        self.moments_AA.lerp_(own, EDITS_MEMORY)
        self.cross_AD.lerp_(cross, EDITS_MEMORY)

    @torch.no_grad()
    def directions(self) -> Tensor:
        """``[A, D]``: change of w for one standard deviation of each attribute."""
        return torch.linalg.solve(self.moments_AA, self.cross_AD)

    @torch.no_grad()
    def draw(self, count: int, max_edit: float, among_A: Tensor) -> tuple[Tensor, Tensor]:
        """Edits ``[count, D]``, each along one attribute by up to ``max_edit`` deviations; which.

        Args:
            among_A: which attributes; with none, edits are 0 or nearly.
        """
        directions = self.directions()
        where = directions.device
        weights = among_A.to(directions).clamp(min=1e-6)  # not 0 in all, and no GPU is waited for
        attributes = torch.multinomial(weights, count, replacement=True)
        lengths = (torch.rand(count, 1, device=where) * 2 - 1) * max_edit
        return directions[attributes] * lengths, attributes


def labelled(targets_NA: Tensor) -> Tensor:
    """``[A]``: attributes that a face of the batch has a label of."""
    return ~targets_NA.isnan().all(dim=0)


@dataclass(frozen=True)
class Encoded:
    """A batch as latents and feature code: G^K(w) and F - G^K(w)."""

    latents_NLD: Tensor
    base_NCHW: Tensor
    residual_NCHW: Tensor

    def __getitem__(self, part: slice) -> Encoded:
        return Encoded(self.latents_NLD[part], self.base_NCHW[part], self.residual_NCHW[part])


@dataclass(frozen=True)
class EditChange:
    """What an edit does to pictures: views before and after it."""

    before: View
    after: View

    def pixels(self) -> Tensor:
        """The change at half size."""
        return F.avg_pool2d(self.after.images - self.before.images, 2)

    def features(self, network: FeatureNetwork) -> list[Tensor]:
        """The change of a network's features, by level."""
        pairs = zip(self.after.features(network), self.before.features(network), strict=True)
        return [after - before for after, before in pairs]


class FeatureStyleTask(GanTask):
    """Trains latent head, feature head, feature editor and generator; see the file's head."""

    config: EncoderConfig

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        edits = EditDirections(len(ATTRIBUTES), config.generator.w_dim)
        self.edits = edits.to(self.compute.device)
        self.modules["edits"] = self.edits
        if config.edit_weight and config.edit_feature_weight:
            self.networks["edit"] = frozen_features(self.compute.device).name

    def step(self, batch: Batch, number: int, average: GradientAverage) -> Metrics:
        config, generator, encoder = self.config, self.generator, self.encoder
        if encoder.feature_head is None:
            return super().step(batch, number, average)
        batch, count = self._photographs(batch)
        with self.compute.autocast():
            encoded, full = self._invert(batch.images, generator, encoder)
            latents = encoded.latents_NLD
            half, part = _parts(len(latents), number)
            half = slice(None) if config.plain_faces == "all" else half
            pictures = [full, self.synthesise(self.noisy(latents[half]))]
        self.edits.update(batch.targets, latents.mean(dim=1).detach())  # the next stage's as well
        if config.edit_weight:
            subject = encoded[part]
            known = labelled(batch.targets)
            shifts, _ = self.edits.draw(len(subject.latents_NLD), config.max_edit, known)
            moved = self._for_features(subject.latents_NLD) + shifts[:, None]
            by_eq1 = number % 2  # of a quarter of the batch: F has to stay fit for eq. 1
            with self.compute.autocast():
                pictures.append(self._edited(subject, moved, generator, encoder, by_eq1=by_eq1))
        source, views = View(batch.images), [leaf(picture) for picture in pictures]
        metrics: Metrics = {}
        featured = self.judges.reconstruction(views[0], source, batch.weights, metrics)
        loss = featured + config.plain_weight * self.judges.reconstruction(
            views[1],
            source[half],
            batch.weights[half],
            metrics,
            suffix="_w",
            identity=config.plain_faces == "all",
        )
        if config.edit_weight:
            with torch.no_grad(), self.compute.autocast():
                plain = [View(self.synthesise(w)) for w in (subject.latents_NLD, moved)]
            change = EditChange(views[0][part].detach(), views[2])
            loss = loss + self._edit_loss(change, EditChange(*plain), batch.weights[part], metrics)
            if (identity := self.judges.identity) is not None and config.edited_identity:
                distance = identity.distance(views[2], source[part]).mean()
                metrics["edited_identity"] = distance
                loss = loss + config.edited_identity * distance
        if self.judges.acts(self._images_seen(number)):
            weights = (1.0, config.plain_adversarial, config.edited_adversarial)
            weighted = list(zip(views, weights, strict=False))  # two views without edits
            loss = loss + self.judges.adversarial(weighted, featured, number, metrics)
        metrics["feature"] = encoded.residual_NCHW.square().mean()
        log_sigma = self.probe.log_sigma.detach()
        self._optimise(
            "autoencoder",
            through(pictures, views, loss)
            + config.feature_penalty * metrics["feature"]
            + self._latent_losses(latents, log_sigma, batch, metrics)
            + self._synthetic_loss(latents, count, metrics),
            average,
        )
        self._adversary_step(source, views, average, metrics)
        return metrics

    def _invert(
        self, images: Tensor, generator: Generator, encoder: FeatureStyleEncoder
    ) -> tuple[Encoded, Tensor]:
        """Codes of faces, and G(w, F)."""
        latents, stage = encoder(images)
        latents = latents.float()
        held = self._for_features(latents)
        lower = generator.synthesis.run(held, stop=encoder.config.feature_layer, noise_mode="none")
        residual = encoder.feature_residual(stage, lower.features_NCHW)
        assert residual is not None
        encoded = Encoded(latents, lower.features_NCHW.float(), residual.float())
        return encoded, self._finish(generator, held, lower, residual)

    def _for_features(self, latents_NLD: Tensor) -> Tensor:
        return latents_NLD.detach() if self.config.latents_apart else latents_NLD

    def _edited(
        self,
        encoded: Encoded,
        latents_NLD: Tensor,
        generator: Generator,
        encoder: FeatureStyleEncoder,
        *,
        by_eq1: int = 0,
    ) -> Tensor:
        """G(w~, F~) by the feature editor; by eq. 1 without one, and for the last ``by_eq1``."""
        lower = generator.synthesis.run(
            latents_NLD, stop=encoder.config.feature_layer, noise_mode="none"
        )
        residual = encoded.residual_NCHW
        if encoder.feature_editor is not None:
            changed = encoder.feature_editor(residual, lower.features_NCHW - encoded.base_NCHW)
            middle = len(residual) - by_eq1
            residual = torch.cat([changed[:middle], residual[middle:]])
        return self._finish(generator, latents_NLD, lower, residual)

    def _finish(
        self, generator: Generator, latents_NLD: Tensor, lower: SynthesisState, residual: Tensor
    ) -> Tensor:
        start = lower.replace_features(lower.features_NCHW + residual)
        return generator.synthesis.run(
            latents_NLD, start=start, stop=self.top_layer, noise_mode="none"
        ).picture_N3HW

    def _edit_loss(
        self, change: EditChange, wanted: EditChange, weight_N1HW: Tensor, metrics: Metrics
    ) -> Tensor:
        """What G(w, F) makes of an edit against what G(w) does, eyes and mouth above all."""
        difference = change.pixels() - wanted.pixels()
        weight = edit_weights(weight_N1HW, difference.shape[-1])
        metrics["edit"] = (difference.abs() * weight).mean()
        loss = self.config.edit_weight * metrics["edit"]
        if self.config.edit_feature_weight:
            levels = []
            network = frozen_features(self.compute.device)
            pairs = zip(change.features(network), wanted.features(network), strict=True)
            for ours, theirs in pairs:
                weight = edit_weights(weight_N1HW, ours.shape[-1])
                size = theirs.abs().mean().clamp(min=MIN_CHANGE)
                levels.append(((ours - theirs).abs() * weight).mean() / size)
            metrics["edit_features"] = torch.stack(levels).mean()
            loss = loss + self.config.edit_feature_weight * metrics["edit_features"]
        return loss

    def forward(self, modules: dict[str, nn.Module], batch: Batch) -> None:
        if self.encoder.feature_head is None:
            super().forward(modules, batch)
            return
        self._invert(batch.images, *_networks(modules))

    @torch.no_grad()
    def evaluate(
        self, ema: dict[str, nn.Module], batch: Batch
    ) -> tuple[dict[str, float], list[Tensor]]:
        """Measures of G(w), G(w, F) and, on labelled faces, of smiles by eq. 1 and by the editor.

        ``kept``: share of the edit's change of G(w) at eyes and mouth that the picture with F shows
        (its projection). Sheet rows: source, G(w), G(w, F), then G(w~), eq. 1 and editor by edit.
        """
        if self.encoder.feature_head is None:
            return super().evaluate(ema, batch)
        generator, encoder = _networks(ema)
        images = batch.images
        encoded, full = self._invert(images, generator, encoder)
        plain = self.synthesise(encoded.latents_NLD, generator)
        metrics = self.measure(plain, images, "_w") | self.measure(full, images)
        rows = [images, plain, full]
        smile = self.edits.directions()[SMILE]
        rules = {"eq1": len(images)} | ({"editor": 0} if encoder.feature_editor else {})
        has_smiles = self.config.edit_weight and bool(labelled(batch.targets)[SMILE])
        for size in SHOWN_EDITS if has_smiles else ():
            latents = encoded.latents_NLD + size * smile
            wanted = self.synthesise(latents, generator)
            rows.append(wanted)
            for rule, by_eq1 in rules.items():
                edited = self._edited(encoded, latents, generator, encoder, by_eq1=by_eq1)
                rows.append(edited)
                measures = self.measure(edited, images)
                measures["kept"] = kept_change(edited - full, wanted - plain, batch.weights)
                shown = {"kept", "sharpness", "identity"} & measures.keys()
                metrics |= {f"{key}_{rule}_{size:.0f}": measures[key] for key in sorted(shown)}
        return metrics, [row[:16] for row in rows]


def edit_weights(weight_N1HW: Tensor, side: int) -> Tensor:
    """``[N, 1, side, side]`` of mean 1: the squares of pixel weights (training.data.weight_map)."""
    if side > weight_N1HW.shape[-1]:
        resized = F.interpolate(weight_N1HW, size=side, mode="bilinear")
    else:
        resized = F.adaptive_avg_pool2d(weight_N1HW, side)
    squared = resized.square()
    return squared / squared.mean()


def _parts(count: int, number: int) -> tuple[slice, slice]:
    """Faces whose G(w) is judged in this step (half of them), and faces that are edited."""
    half, quarter = count // 2, max(1, count // EDITED_SHARE)
    odd = number % 2
    return slice(half * odd, half if not odd else count), slice(
        quarter * (1 - odd), quarter * (2 - odd)
    )


def kept_change(change: Tensor, wanted: Tensor, weight_N1HW: Tensor) -> float:
    """Projection of one change on another, in units of it, at eyes and mouth and half size."""
    ours, theirs = (F.avg_pool2d(c, 2) for c in (change, wanted))
    weight = F.interpolate(weight_N1HW, size=ours.shape[-1], mode="bilinear")
    inside = (weight > PARTS_ABOVE).float()
    return float((ours * theirs * inside).sum() / (theirs * theirs * inside).sum())


def _networks(modules: dict[str, nn.Module]) -> tuple[GeneratorNetwork, FeatureStyleEncoder]:
    generator, encoder = modules["generator"], modules["encoder"]
    assert isinstance(generator, GeneratorNetwork)
    assert isinstance(encoder, FeatureStyleEncoder)
    return generator, encoder
