"""Directions at strength 1: measured on pictures as a user gets them, and scaled.

Strength 1 is set so that the attribute, measured on composed pictures of validation faces, moves by
``UNITS`` population standard deviations, within ``MAX_DISTANCE``. What measures does not share the
encoder's errors: landmarks, pixels, and dlib's recognition network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.data import ATTRIBUTES, FaceArrays
from training.fit_directions import encode_all, named_directions, ridge_weights
from training.loop import make_batch
from vidinv.compose import Composer
from vidinv.editing.directions import JAW_POINTS, OUTLINE_POINTS
from vidinv.faces import face_mask
from vidinv.faces.aligned import MEASURE_PX, AlignedFaces
from vidinv.inversion import Inverter
from vidinv.inversion.fse import FeatureStyleInverter
from vidinv.inversion.fse_encoder import FeatureStyleEncoder
from vidinv.metrics.appearance import APPEARANCE, measure_appearance
from vidinv.metrics.attributes import SmileMeasure, geometry
from vidinv.rendering import to_array, with_outline_moved
from vidinv.types import Crop, EditedLatents, RenderMode

# What strength 1 means, in standard deviations of the attribute over the training faces.
UNITS = {
    "smile": 0.7,
    "age": 0.8,
    "gender": 0.7,
    "yaw": 0.8,
    "pitch": 0.8,
    "mouth_open": 1.0,
    "eyes_open": 1.0,
    "beard": 1.0,
    "brows": 1.0,
}
# A direction at strength 1 is at most this long, in Mahalanobis distance of w over the training
# faces (a face lies at 16 of the mean one): beyond it a weak attribute would be bought with an
# unnatural picture.
MAX_DISTANCE = 4.0
METER_FACES = 4000  # that age and gender are learnt from
OUTLINE_FACES = 64
BY_EMBEDDING = ("age", "gender")
EMBEDDING_RIDGE = 0.1
# Older people, and men, have paler irises on these photographs: at strength 1.5 eyes looked blind.
IRISES_KEPT = ("age", "gender")
FOUND = (*ATTRIBUTES, *APPEARANCE)  # the directions there are, in their order
# Fuller lips cost identity (a fifth of 80 faces at 0.4 or more from the source) for little effect,
# glasses are smudges on a large source, and taking them off harms eyes that wear none; irises serve
# other directions alone (with_irises_kept).
EDITS = tuple(name for name in FOUND if name not in ("lips", "glasses", "irises"))  # of a pack


class ComposedFaces:
    """Validation faces as a user gets them: edited by the method and laid on a larger picture.

    Args:
        indices: faces of ``data``, which has the method's size; ``large`` holds the same faces at
            128 px.
    """

    def __init__(
        self, inverter: Inverter, data: FaceArrays, large: FaceArrays, indices: np.ndarray
    ) -> None:
        self.inverter = inverter
        images = make_batch(data, indices).images
        self.inversion = self.inverter.encode(images, mode=RenderMode.TRANSFER)
        self.sources = to_array(images)
        self.rendered = self._pictures(self.inversion.unedited)
        middle = (MEASURE_PX - 1) / 2
        self.crop = Crop(middle, middle, MEASURE_PX / 2, 0.0)
        size = (MEASURE_PX, MEASURE_PX)
        faces = np.asarray(large.images_M3RR[indices]).transpose(0, 2, 3, 1)
        self.images = [cv2.resize(face, size, interpolation=cv2.INTER_CUBIC) for face in faces]
        self.landmarks = (large.landmarks_M[indices] + 0.5) * (MEASURE_PX / 128) - 0.5
        self.masks = [self._mask(points) for points in self.landmarks]

    def __call__(self, shift_D: Tensor | None = None) -> np.ndarray:
        """``[N, 256, 256, 3]`` float32 0..255, edited by ``shift`` in W."""
        if shift_D is None:
            return np.stack(self.images).astype(np.float32)
        return self.edited(EditedLatents(self.inversion.latents_NLD + shift_D))

    def edited(
        self, latents: EditedLatents, outline_shift: npt.NDArray[np.floating] | None = None
    ) -> np.ndarray:
        """The same, edited as ``latents`` of all faces say.

        Args:
            outline_shift: ``Directions.outline_shift`` of these edits.
        """
        edited = self._pictures(latents)
        after_masks = (
            [None] * len(self.masks)
            if outline_shift is None
            else [
                self._mask(with_outline_moved(points, self.crop, shift))
                for points, shift in zip(self.landmarks, outline_shift, strict=True)
            ]
        )
        parts = zip(
            self.images, self.sources, self.rendered, edited, self.masks, after_masks, strict=True
        )
        composed = [
            Composer().compose(
                image,
                crop=self.crop,
                source_crop=source,
                rendered=before,
                edited=after,
                mask=mask,
                edited_mask=after_mask,
            )
            for image, source, before, after, mask, after_mask in parts
        ]
        return np.stack(composed).astype(np.float32)

    def _mask(self, points_682: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return face_mask(points_682, crop=self.crop, size_px=self.sources.shape[1])

    def _pictures(self, edited: EditedLatents) -> np.ndarray:
        return to_array(self.inverter.render(self.inversion, edited, mode=RenderMode.TRANSFER))


class AttributeMeter:
    """Measures all ``EDITS`` on pictures, in population standard deviations.

    Geometry (smile, mouth, eyes, pose) comes from landmarks, age and gender from the embedding of
    the recognition network: none of them shares the encoder's errors. A regression on embeddings
    with a determination of R^2 shows R^2 of a change (regression dilution), so its changes are
    divided by that.

    Args:
        train: indices of the faces that it learns from.
    """

    def __init__(self, data: FaceArrays, train: np.ndarray) -> None:
        landmarks, targets = data.landmarks_M[train], data.targets_MA[train]
        self.faces = AlignedFaces(data.landmarks_M.mean(0))
        self.smile = SmileMeasure.fit(landmarks, targets[:, 0])
        self.spread = {name: values.std() for name, values in geometry(landmarks).items()}
        appearance, _ = measure_appearance(pictures(data, train), landmarks)
        self.appearance_spread = appearance.std(axis=0)
        embeddings = self.faces.embeddings_at(pictures(data, train), landmarks)
        columns = [ATTRIBUTES.index(name) for name in BY_EMBEDDING]
        self._mean = embeddings.mean(0)
        weights = ridge_weights(embeddings, targets[:, columns], ridge=EMBEDDING_RIDGE)
        slopes = slope_of_prediction(embeddings, targets[:, columns])
        self._weights = weights / slopes[:, None]

    def __call__(self, pictures_NRR3: np.ndarray) -> dict[str, np.ndarray]:
        """Name -> ``[N]``."""
        return self.with_embeddings(pictures_NRR3)[0]

    def with_embeddings(
        self, pictures_NRR3: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The measures, and the ``[N, 128]`` recognition embeddings of the pictures."""
        landmarks = self.faces.landmarks(pictures_NRR3)
        values = {n: v / self.spread[n] for n, v in geometry(landmarks).items()}
        values["smile"] = self.smile(landmarks)
        appearance, _ = measure_appearance(pictures_NRR3, landmarks)
        values |= dict(zip(APPEARANCE, (appearance / self.appearance_spread).T, strict=True))
        embeddings = self.faces.embeddings_at(pictures_NRR3, landmarks)
        read = ((embeddings - self._mean) @ self._weights.T).T
        return values | dict(zip(BY_EMBEDDING, read, strict=True)), embeddings


def pictures(data: FaceArrays, indices: np.ndarray) -> Iterator[np.ndarray]:
    """Faces by index as ``[R, R, 3]``."""
    return (np.asarray(data.images_M3RR[index]).transpose(1, 2, 0) for index in indices)


def slope_of_prediction(embeddings_MD: np.ndarray, targets_MA: np.ndarray) -> np.ndarray:
    """``[A]``: how much of a change the regression shows, on every fifth face held out of it."""
    held_out = np.arange(len(embeddings_MD)) % 5 == 0
    fitted = ridge_weights(embeddings_MD[~held_out], targets_MA[~held_out], ridge=EMBEDDING_RIDGE)
    predicted = embeddings_MD[held_out] @ fitted.T
    slopes = []
    for read, target in zip(predicted.T, targets_MA[held_out].T, strict=True):
        known = ~np.isnan(target)
        slopes.append(np.polyfit(target[known], read[known], 1)[0])
    return np.array(slopes)


def with_irises_kept(
    faces: ComposedFaces,
    rows: Mapping[str, np.ndarray],
    meter: AttributeMeter,
    w_MD: np.ndarray,
    *,
    names: Sequence[str] = IRISES_KEPT,
) -> dict[str, np.ndarray]:
    """Directions by name, those of ``names`` with a step along ``irises`` that takes back what they
    do to the irises' darkness, as it is measured on pictures.

    Args:
        rows: directions by name, ``[D]`` each, ``irises`` among them.
    """

    def slope(row_D: np.ndarray) -> float:
        """Of the darkness, for one step, over half of ``MAX_DISTANCE`` on either side."""
        steps = MAX_DISTANCE / 2 / mahalanobis(row_D[None], w_MD)[0]
        vector = torch.from_numpy((row_D * steps).astype(np.float32))
        more, less = (float(meter(faces(sign * vector))["irises"].mean()) for sign in (1, -1))
        return (more - less) / 2 / steps

    own = slope(rows["irises"])
    kept = {name: rows[name] - slope(rows[name]) / own * rows["irises"] for name in names}
    return {**rows, **kept}


def calibrate(
    faces: ComposedFaces, rows: Mapping[str, np.ndarray], meter: AttributeMeter, w_MD: np.ndarray
) -> tuple[dict[str, Tensor], dict[str, dict[str, float]]]:
    """Scale every direction ``[D]`` to its unit; returns them, and gain and leakage at strength 1.

    The gain is nearly linear, so one probe at the expected scale and one corrected probe suffice.
    """
    before = meter(faces())
    scaled: dict[str, Tensor] = {}
    effects: dict[str, dict[str, float]] = {}
    for name, row in rows.items():
        vector = torch.from_numpy(row.astype(np.float32))
        limit = float(MAX_DISTANCE / mahalanobis(row[None], w_MD)[0])
        scale = limit / 2
        for _ in range(2):
            after = meter(faces(vector * scale))
            effect = {key: float((after[key] - before[key]).mean()) for key in EDITS}
            gain = max(effect[name] / scale, 0.01)
            previous, scale = scale, float(np.clip(UNITS[name] / gain, 0.3, limit))
        effects[name] = {key: round(value * scale / previous, 3) for key, value in effect.items()}
        effects[name]["distance"] = round(scale * MAX_DISTANCE / limit, 2)
        scaled[name] = vector * scale
    return scaled, effects


def measured_outlines(
    inverter: FeatureStyleInverter,
    faces: AlignedFaces,
    images_N3RR: Tensor,
    directions: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Where strength 1 moves the outline: ``NAME.outline``, ``[27, 2]`` in sides of the crop.

    From landmarks of G(w) at strengths 1 and -1, the mean over faces. Brows stand for the forehead
    over them, whose outline no landmark follows: sideways it goes with the ends of the jaw.
    """
    latents = inverter.encode_latents(images_N3RR)
    outlines = {}
    for name, vector in directions.items():
        with torch.inference_mode():
            more, less = (
                faces.landmarks(to_array(inverter.synthesis(latents + sign * vector)))
                for sign in (1.0, -1.0)
            )
        shift = (more - less)[:, :OUTLINE_POINTS].mean(0) / 2 / 128
        left, right = shift[[0, JAW_POINTS - 1], 0]
        shift[JAW_POINTS:, 0] = np.linspace(left, right, OUTLINE_POINTS - JAW_POINTS)
        outlines[f"{name}.outline"] = torch.from_numpy(shift)
    return outlines


def mahalanobis(vectors_AD: np.ndarray, w_MD: np.ndarray) -> np.ndarray:
    """``[A]`` lengths of steps in w, in standard deviations of encoded faces along them.

    Numbers of w that hardly vary are held at a thousandth of the mean variance.
    """
    covariance = np.cov(w_MD.T)
    covariance += np.eye(len(covariance)) * np.trace(covariance) / len(covariance) * 1e-3
    whitened = np.linalg.solve(covariance, vectors_AD.T).T
    return np.asarray(np.sqrt((vectors_AD * whitened).sum(axis=1)))


@dataclass(frozen=True)
class FittedDirections:
    """Directions of a pack, and what they were found with.

    Attributes:
        vectors: ``NAME`` and ``NAME.outline``, as a pack's file has them.
        effects: gain and leakage at strength 1, by name.
        w_MD: of the training faces.
    """

    vectors: dict[str, Tensor]
    effects: dict[str, dict[str, float]]
    w_MD: np.ndarray
    meter: AttributeMeter


def fit_and_calibrate(
    inverter: FeatureStyleInverter,
    encoder: FeatureStyleEncoder,
    data: FaceArrays,
    large: FaceArrays,
    *,
    train: np.ndarray,
    calibration_faces: int,
    names: Sequence[str],
    rng: np.random.Generator,
) -> FittedDirections:
    """Fit all directions on faces ``train``, calibrate those of ``names``.

    Args:
        encoder: of ``inverter``.
        large: the faces of ``data`` at 128 px.
        calibration_faces: validation faces whose pictures are measured.
    """
    w = encode_all(encoder, data, train)
    meter = AttributeMeter(data, train[:: max(1, len(train) // METER_FACES)])
    chosen = rng.choice(data.val_indices, calibration_faces, replace=False)
    faces = ComposedFaces(inverter, data, large, chosen)
    rows = with_irises_kept(faces, named_directions(w, data, train), meter, w)
    scaled, effects = calibrate(faces, {name: rows[name] for name in names}, meter, w)
    count = min(OUTLINE_FACES, len(data.train_indices))
    some = make_batch(data, rng.choice(data.train_indices, count, replace=False)).images
    outlines = measured_outlines(inverter, meter.faces, some, scaled)
    return FittedDirections({**scaled, **outlines}, effects, w, meter)
