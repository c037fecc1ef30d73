"""Make a pack from a finished run: directions, calibration, mapping, mean identity, figures.

    vidinv train directions --config configs/faces64_pack.yaml --out vidinv/packs/default/faces-64

Strength 1 of a direction is set so that the attribute, measured on composed pictures of validation
faces, moves by ``UNITS`` population standard deviations, within ``MAX_SHIFT``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.config import load_yaml
from training.data import ATTRIBUTES, FaceArrays, load
from training.feature_style import EncoderConfig
from training.fit_directions import attribute_directions, encode_all, ridge_weights
from training.loop import make_batch
from training.mapping import set_gaussian_mapping
from training.measure import MEASURE_PX, AlignedFaces
from training.request import TrainingRequest
from vidinv.compose import Composer
from vidinv.faces import face_mask
from vidinv.generators.registry import build_generator
from vidinv.inversion.fse import FeatureStyleInverter
from vidinv.inversion.fse_encoder import FeatureStyleEncoder
from vidinv.metrics.attributes import SmileMeasure, geometry
from vidinv.packs import write_pack
from vidinv.rendering import to_array
from vidinv.types import Crop

# What strength 1 means, in standard deviations of the attribute over the training faces.
UNITS = {
    "smile": 0.7,
    "age": 1.3,
    "gender": 1.3,
    "yaw": 0.8,
    "pitch": 0.8,
    "mouth_open": 1.0,
    "eyes_open": 1.0,
}
POSITIVE = {
    "smile": "more smile",
    "age": "older",
    "gender": "more masculine",
    "yaw": "nose to the picture's right",
    "pitch": "nose up",
    "mouth_open": "mouth wider open",
    "eyes_open": "eyes wider open",
}
# A direction is at most this many standard deviations long at strength 1: beyond it a weak
# attribute would be bought with an unnatural picture. Twenty strangers at smile=1.5, composed: 2.7
# deviations keep 20 of 20 recognised and raise the smile of 17 clearly, 3.3 keep 16 to 18.
MAX_SHIFT = {"smile": 2.3}
MAX_SHIFT_OF_OTHERS = 3.0
# Share of the feature code in edits; calibration presumes 0. F holds lips and eyes in place under
# an edit, and detail transfer brings the detail anyway: twenty strangers at smile=1.5 rise by 0.89
# standard deviations without F and by 0.58 with 0.6 of it (docs/LOG.md).
EDIT_FEATURE_SCALE = 0.0
RANGES = dict.fromkeys(ATTRIBUTES, (-2.0, 2.0))  # checked on strangers (docs/LOG.md)


@dataclass(frozen=True)
class PackConfig:
    """What a pack is made of.

    Attributes:
        run: folder of the last training stage; its averaged weights go into the pack.
        stage: experiment file of that stage.
        every: use every n-th face, for a quick look; 1 for a pack that is kept.
        calibration_faces: validation faces whose pictures are measured.
        identities: training faces in the mean embedding.
    """

    run: str
    stage: str
    name: str
    every: int = 1
    calibration_faces: int = 48
    identities: int = 400


class RunModels:
    """The averaged networks of a run, and its data."""

    def __init__(self, run: Path, config: EncoderConfig, data: FaceArrays) -> None:
        state = torch.load(run / "latest.pt", weights_only=True, map_location="cpu")
        self.config, self.data = config, data
        self.images_seen = int(state["images_seen"])
        self.generator = build_generator(config.generator).eval().requires_grad_(False)
        self.generator.load_state_dict(state["ema"]["generator"])
        self.encoder = FeatureStyleEncoder(config.encoder, config.generator).eval()
        self.encoder.load_state_dict(state["ema"]["encoder"])
        self.encoder.requires_grad_(False)
        self.inverter = FeatureStyleInverter(self.generator, self.encoder)


class ComposedFaces:
    """Validation faces as a user gets them: edited by G(w) and carried over to a larger picture.

    Args:
        indices: faces of ``models.data``; ``large`` holds the same faces at 128 px.
    """

    def __init__(self, models: RunModels, large: FaceArrays, indices: np.ndarray) -> None:
        self.generator = models.generator
        images = make_batch(models.data, indices).images
        with torch.inference_mode():
            self.latents_NLD = models.encoder(images)[0]
        self.sources = to_array(images)
        self.rendered = self._pictures(self.latents_NLD)
        middle = (MEASURE_PX - 1) / 2
        self.crop = Crop(middle, middle, MEASURE_PX / 2, 0.0)
        size = (MEASURE_PX, MEASURE_PX)
        faces = np.asarray(large.images_M3RR[indices]).transpose(0, 2, 3, 1)
        self.images = [cv2.resize(face, size, interpolation=cv2.INTER_CUBIC) for face in faces]
        landmarks = (large.landmarks_M[indices] + 0.5) * (MEASURE_PX / 128) - 0.5
        side = self.sources.shape[1]
        self.masks = [face_mask(points, crop=self.crop, size_px=side) for points in landmarks]

    def __call__(self, shift_D: Tensor | None = None) -> np.ndarray:
        """``[N, 256, 256, 3]`` float32 0..255, edited by ``shift`` in W."""
        if shift_D is None:
            return np.stack(self.images).astype(np.float32)
        edited = self._pictures(self.latents_NLD + shift_D)
        parts = zip(self.images, self.sources, self.rendered, edited, self.masks, strict=True)
        composed = [
            Composer().compose(
                image, crop=self.crop, source_crop=source, rendered=before, edited=after, mask=mask
            )
            for image, source, before, after, mask in parts
        ]
        return np.stack(composed).astype(np.float32)

    def _pictures(self, latents_NLD: Tensor) -> np.ndarray:
        with torch.inference_mode():
            return to_array(self.generator.synthesis(latents_NLD))


class AttributeMeter:
    """Measures all attributes on pictures, in population standard deviations.

    Geometry (smile, mouth, eyes, pose) comes from landmarks. Age and gender have no network that
    may be had offline: they are read by the ridge regression on the encoder's latents of the
    picture, which shares its errors with the direction, so their gains are lower bounds of trust.
    """

    def __init__(
        self, encoder: FeatureStyleEncoder, data: FaceArrays, train: np.ndarray, w_MD: np.ndarray
    ) -> None:
        landmarks, targets = data.landmarks_M[train], data.targets_MA[train]
        self.faces = AlignedFaces(data.landmarks_M.mean(0))
        self.smile = SmileMeasure.fit(landmarks, targets[:, 0])
        self.spread = {name: values.std() for name, values in geometry(landmarks).items()}
        self._encoder = encoder
        self._weights = ridge_weights(w_MD, targets)
        self._mean = w_MD.mean(0)

    @classmethod
    def fit(
        cls, encoder: FeatureStyleEncoder, data: FaceArrays, train: np.ndarray
    ) -> AttributeMeter:
        """A meter of faces ``train`` (indices), with their latents computed here."""
        return cls(encoder, data, train, encode_all(encoder, data, train))

    def __call__(self, pictures_NRR3: np.ndarray) -> dict[str, np.ndarray]:
        """Name -> ``[N]``."""
        landmarks = self.faces.landmarks(pictures_NRR3)
        values = {n: v / self.spread[n] for n, v in geometry(landmarks).items()}
        values["smile"] = self.smile(landmarks)
        tensor = torch.from_numpy(pictures_NRR3).permute(0, 3, 1, 2) / 127.5 - 1
        with torch.inference_mode():
            w = self._encoder(tensor)[0][:, 0].double().numpy()
        predicted = (w - self._mean) @ self._weights.T
        for index, name in enumerate(ATTRIBUTES):
            if name in ("age", "gender"):
                values[name] = predicted[:, index]
        return values


def calibrate(
    faces: ComposedFaces, directions_AD: np.ndarray, meter: AttributeMeter
) -> tuple[dict[str, Tensor], dict[str, dict[str, float]]]:
    """Scale every direction to its unit; returns them, and gain and leakage at strength 1.

    The gain is nearly linear, so one probe at the expected scale and one corrected probe suffice.
    """
    before = meter(faces())
    scaled, effects = {}, {}
    for index, name in enumerate(ATTRIBUTES):
        vector = torch.from_numpy(directions_AD[index].astype(np.float32))
        limit = MAX_SHIFT.get(name, MAX_SHIFT_OF_OTHERS)
        scale = limit / 2
        for _ in range(2):
            after = meter(faces(vector * scale))
            effect = {key: float((after[key] - before[key]).mean()) for key in ATTRIBUTES}
            gain = max(effect[name] / scale, 0.01)
            previous, scale = scale, float(np.clip(UNITS[name] / gain, 0.3, limit))
        effects[name] = {key: round(value * scale / previous, 3) for key, value in effect.items()}
        effects[name]["shift"] = round(scale, 2)
        scaled[name] = vector * scale
    return scaled, effects


def smile_tensors(
    measure: SmileMeasure, landmarks_M682: npt.NDArray[np.floating]
) -> dict[str, Tensor]:
    """``SmileMeasure`` as a pack stores it: float16 weights, the mean score kept by the bias."""
    weights = torch.from_numpy(measure.weights).half()
    rounded = SmileMeasure(weights.double().numpy(), 0.0)
    bias = (measure(landmarks_M682) - rounded(landmarks_M682)).mean()
    return {"smile_weights": weights, "smile_bias": torch.tensor([bias])}


def reconstruction(
    inverter: FeatureStyleInverter, data: FaceArrays, indices: np.ndarray
) -> dict[str, float]:
    """PSNR and SSIM (Gaussian window) of G(w) and G(w, F) on faces by index."""
    from vidinv.metrics import psnr_batch, ssim_batch

    rows: dict[str, list[Tensor]] = {"psnr_w": [], "ssim_w": [], "psnr": [], "ssim": []}
    with torch.inference_mode():
        for start in range(0, len(indices), 16):
            images = make_batch(data, indices[start : start + 16]).images
            inversion = inverter.encode(images)
            plain = inverter.synthesis(inversion.latents_NLD).clamp(-1, 1)
            full = inverter.render(inversion, inversion.unedited).clamp(-1, 1)
            rows["psnr_w"].append(psnr_batch(plain, images))
            rows["ssim_w"].append(ssim_batch(plain, images))
            rows["psnr"].append(psnr_batch(full, images))
            rows["ssim"].append(ssim_batch(full, images))
    return {name: round(float(torch.cat(values).mean()), 3) for name, values in rows.items()}


def build(request: TrainingRequest) -> dict[str, Any]:
    """Write the pack into ``request.out``; returns its metrics."""
    settings = load_yaml(PackConfig, request.config)
    config = load_yaml(EncoderConfig, Path(settings.stage))
    data = load(request.data, config.train_resolution)
    models = RunModels(Path(settings.run), config, data)
    train = data.train_indices[:: settings.every]
    w = encode_all(models.encoder, data, train)
    meter = AttributeMeter(models.encoder, data, train, w)
    rng = np.random.default_rng(0)
    chosen = rng.choice(data.val_indices, settings.calibration_faces, replace=False)
    directions = attribute_directions(w, data, train)
    faces = ComposedFaces(models, load(request.data, 128), chosen)
    scaled, effects = calibrate(faces, directions, meter)
    embeddings = meter.faces.embeddings(
        np.asarray(data.images_M3RR[i]).transpose(1, 2, 0).astype(np.float32)
        for i in rng.choice(data.train_indices, settings.identities, replace=False)
    )
    set_gaussian_mapping(models.generator, models.encoder, torch.from_numpy(w).float())
    metrics: dict[str, Any] = reconstruction(
        models.inverter, data, data.val_indices[:: settings.every]
    )
    metrics["effects_at_strength_1"] = effects
    tensors = {
        "generator.safetensors": models.generator.state_dict(),
        "fse.safetensors": models.encoder.state_dict(),
        "directions.safetensors": scaled,
        "identity.safetensors": {
            "mean_embedding": torch.from_numpy(embeddings.mean(0)),
            **smile_tensors(meter.smile, data.landmarks_M[train]),
        },
    }
    write_pack(request.out, describe(settings.name, config, models.images_seen, metrics), tensors)
    return metrics


def describe(
    name: str, config: EncoderConfig, images_seen: int, metrics: dict[str, Any]
) -> dict[str, Any]:
    """The fields of pack.json beside the file table."""
    entries = {
        key: {"space": "w", "positive": POSITIVE[key], "strength_range": RANGES[key]}
        for key in ATTRIBUTES
    }
    encoder = dataclasses.asdict(config.encoder)
    return {
        "name": name,
        "version": "1",
        "description": f"{config.generator.resolution} px faces, trained on permissive photographs",
        "licence": "CC-BY-4.0",
        "attribution": "Trained on FairFace (CC BY 4.0, Karkkainen & Joo 2021) and official "
        "portraits of members of the US Congress (public domain).",
        "alignment": "tight",
        "edit_feature_scale": EDIT_FEATURE_SCALE,
        "generator": {
            "kind": config.generator.kind,
            "config": dataclasses.asdict(cast(Any, config.generator)),
            "file": "generator.safetensors",
        },
        "methods": {"fse": {"file": "fse.safetensors", "config": encoder}},
        "directions": {"file": "directions.safetensors", "entries": entries},
        "identity": {"file": "identity.safetensors", "network": "dlib_face_recognition_resnet_v1"},
        "training": {"images_last_stage": images_seen, "data": "13,050 faces at 128 px"},
        "metrics": metrics,
    }
