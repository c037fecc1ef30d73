"""Feature-editor stage: the editor alone learns, on edits of every face of a batch.

Generator and encoder stand still and work as they will in use (averaged weights, batch norm's
running statistics), so a step costs half of one of the stage before and shows four times as many
edits. Losses are those of the stage before (training.feature_style): the change of G(w~, F~) must
be that of G(w), the person must stay the source's, and the adversary judges what is sharp.
Where an edit changes whom one sees, recognition must see that change instead.
Pixels alone shrink an edit: lips of G(w) lie a little beside those of the source, so half a change
is the safest guess (docs/LOG.md). Encoder and probe read attributes and landmarks wherever they
lie, and what they read of an edit must be the same with F and without.

    python -m training editor --config configs/faces_editor128.yaml --out runs/editor128
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from training.data import ATTRIBUTES
from training.feature_style import EditChange, EncoderConfig, FeatureStyleTask
from training.judges import Metrics, leaf, through
from training.loop import Batch, GradientAverage
from training.terms import View
from vidinv.errors import UsageError

OF_THE_PERSON = [ATTRIBUTES.index(name) for name in ("age", "gender")]
"""Attributes whose edits recognition reads as another person."""


class FeatureEditorTask(FeatureStyleTask):
    """Trains the encoder's feature editor; see the file's head."""

    def __init__(self, config: EncoderConfig) -> None:
        if not config.encoder.editor_width or not config.edit_weight:
            raise UsageError("this stage needs encoder.editor_width and edit_weight above 0")
        super().__init__(config)
        for module in (self.generator, self.encoder, self.probe):
            module.eval().requires_grad_(False)
        assert self.encoder.feature_editor is not None
        self.encoder.feature_editor.requires_grad_(True)

    def _autoencoder_optimizer(self) -> torch.optim.Optimizer:
        assert self.encoder.feature_editor is not None
        parameters = list(self.encoder.feature_editor.parameters())
        rate = self.config.encoder_learning_rate
        return torch.optim.Adam(parameters, lr=rate, betas=(0.9, 0.99), fused=True)

    def initialise(self, path: Path) -> None:
        super().initialise(path)
        if not bool(self.edits.cross_AD.any()):
            raise UsageError(f"{path} has no directions of edits: it is no Feature-Style stage")

    def step(self, batch: Batch, number: int, average: GradientAverage) -> Metrics:
        config, generator, encoder = self.config, self.generator, self.encoder
        directed = self.edits.cross_AD.any(dim=1)  # labels had them where directions were learned
        shifts, attributes = self.edits.draw(len(batch.images), config.max_edit, directed)
        with torch.no_grad(), self.compute.autocast():
            encoded, full = self._invert(batch.images, generator, encoder)
            latents = encoded.latents_NLD
            moved = latents + shifts[:, None]
            plain = [View(self.synthesise(w)) for w in (latents, moved)]
        with self.compute.autocast():
            picture = self._edited(encoded, moved, generator, encoder)
        source, view = View(batch.images), leaf(picture)
        metrics: Metrics = {}
        wanted = EditChange(*plain)
        loss = self._edit_loss(EditChange(View(full), view), wanted, batch.weights, metrics)
        if config.edit_probe_weight:
            with torch.no_grad():
                wanted_reading = self._read(plain[1].images) - self._read(plain[0].images)
                before = self._read(full)
            missing = self._read(view.images) - before - wanted_reading
            read, landmarks = missing.tensor_split([len(ATTRIBUTES)], dim=1)
            metrics["edit_probe"] = read.square().mean() + landmarks.square().mean()
            loss = loss + config.edit_probe_weight * metrics["edit_probe"]
        part = slice(0, max(1, len(latents) // config.judges.identity_share))
        change = EditChange(View(full)[part], view[part])
        loss = loss + self._person_loss(
            change, EditChange(*(v[part] for v in plain)), source[part], attributes[part], metrics
        )
        if self.judges.acts(self._images_seen(number)):
            pair = [(view, config.edited_adversarial)]
            loss = loss + self.judges.adversarial(pair, loss, number, metrics)
        self._optimise("autoencoder", through([picture], [view], loss), average)
        self._adversary_step(source, [view], average, metrics)
        return metrics

    def _person_loss(
        self,
        change: EditChange,
        wanted: EditChange,
        source: View,
        attributes_N: Tensor,
        metrics: Metrics,
    ) -> Tensor | float:
        """The person of the source is to stay; of an edit of whom one sees, the change of G(w)."""
        config, identity = self.config, self.judges.identity
        if identity is None or not (config.edited_identity or config.edit_recognition_weight):
            return 0.0
        changes = torch.isin(attributes_N, attributes_N.new_tensor(OF_THE_PERSON)).float()
        if not config.edit_recognition_weight:
            changes = torch.zeros_like(changes)
        distance = identity.distance(change.after, source)
        metrics["edited_identity"] = (distance * (1 - changes)).mean()
        loss = config.edited_identity * metrics["edited_identity"]
        if config.edit_recognition_weight:
            with torch.no_grad():
                target = identity.embedding(wanted.after) - identity.embedding(wanted.before)
                before = identity.embedding(change.before)
            missing = identity.embedding(change.after) - before - target
            metrics["edit_recognition"] = (missing.square().sum(dim=1) * changes).mean()
            loss = loss + config.edit_recognition_weight * metrics["edit_recognition"]
        return loss

    def _read(self, images_N3RR: Tensor) -> Tensor:
        """``[N, 143]``: attributes and landmarks that the probe reads from the encoder's w."""
        with self.compute.autocast():
            latents: Tensor = self.encoder(images_N3RR)[0]
        return self.probe.head(self.mean_row(latents.float()))
