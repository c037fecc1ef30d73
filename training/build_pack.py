"""Make a pack from a finished run: directions, calibration, mapping, mean identity, figures.

    vidinv train directions --config configs/faces128_pack.yaml --out vidinv/packs/default/faces-128

Strength 1 of a direction is what ``training.calibration`` measures.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.calibration import EDITS, fit_and_calibrate, pictures
from training.config import load_yaml
from training.data import load
from training.feature_style import EncoderConfig
from training.mapping import set_gaussian_mapping
from training.reconstruction import reconstruction_row
from training.request import TrainingRequest
from vidinv.generators.registry import build_generator
from vidinv.inversion.fse import FeatureStyleInverter
from vidinv.inversion.fse_encoder import FeatureStyleEncoder
from vidinv.metrics.attributes import SmileMeasure
from vidinv.packs import write_pack

POSITIVE = {
    "smile": "more smile",
    "age": "older",
    "gender": "more masculine",
    "yaw": "nose to the picture's right",
    "pitch": "nose up",
    "mouth_open": "mouth wider open",
    "eyes_open": "eyes wider open",
    "beard": "more beard and moustache",
    "brows": "higher brows",
}
RANGES = dict.fromkeys(EDITS, (-2.0, 2.0))  # checked on strangers (docs/LOG.md)


@dataclass(frozen=True)
class PackConfig:
    """What a pack is made of.

    Attributes:
        run: folder of the last training stage; its averaged weights go into the pack.
        stage: experiment file of that stage.
        every: use every n-th face, for a quick look; 1 for a pack that is kept.
        calibration_faces: validation faces whose pictures are measured.
        identities: training faces in the mean embedding.
        edit_feature_scale: share of the feature code in edits (``FeatureStyleInverter``).
    """

    run: str
    stage: str
    name: str
    every: int = 1
    calibration_faces: int = 48
    identities: int = 400
    edit_feature_scale: float = 1.0


class RunModels:
    """The averaged networks of a run."""

    def __init__(self, settings: PackConfig, config: EncoderConfig) -> None:
        path = Path(settings.run) / "latest.pt"
        state = torch.load(path, weights_only=True, map_location="cpu")
        self.images_seen = int(state["images_seen"])
        self.generator = build_generator(config.generator).eval().requires_grad_(False)
        self.generator.load_state_dict(state["ema"]["generator"])
        self.encoder = FeatureStyleEncoder(config.encoder, config.generator).eval()
        self.encoder.load_state_dict(state["ema"]["encoder"])
        self.encoder.requires_grad_(False)
        self.inverter = FeatureStyleInverter(
            self.generator, self.encoder, edit_feature_scale=settings.edit_feature_scale
        )


def smile_tensors(
    measure: SmileMeasure, landmarks_M682: npt.NDArray[np.floating]
) -> dict[str, Tensor]:
    """``SmileMeasure`` as a pack stores it: float16 weights, the mean score kept by the bias."""
    weights = torch.from_numpy(measure.weights).half()
    rounded = SmileMeasure(weights.double().numpy(), 0.0)
    bias = (measure(landmarks_M682) - rounded(landmarks_M682)).mean()
    return {"smile_weights": weights, "smile_bias": torch.tensor([bias])}


def build(request: TrainingRequest) -> dict[str, Any]:
    """Write the pack into ``request.out``; returns its metrics."""
    settings = load_yaml(PackConfig, request.config)
    config = load_yaml(EncoderConfig, Path(settings.stage))
    data = load(request.data, config.train_resolution)
    models = RunModels(settings, config)
    train = data.train_indices[:: settings.every]
    rng = np.random.default_rng(0)
    fitted = fit_and_calibrate(
        models.inverter,
        models.encoder,
        data,
        load(request.data, 128),
        train=train,
        calibration_faces=settings.calibration_faces,
        names=EDITS,
        rng=rng,
    )
    meter, w = fitted.meter, torch.from_numpy(fitted.w_MD).float()
    someone = rng.choice(data.train_indices, settings.identities, replace=False)
    embeddings = meter.faces.embeddings_at(pictures(data, someone), data.landmarks_M[someone])
    set_gaussian_mapping(models.generator, models.encoder, w)
    faces = data.val_indices[:: settings.every]
    row = reconstruction_row(models.inverter, models.generator, data, faces)
    metrics = {"methods": {"fse": row}, "effects_at_strength_1": fitted.effects}
    tensors = {
        "generator.safetensors": models.generator.state_dict(),
        "fse.safetensors": models.encoder.state_dict(),
        "directions.safetensors": fitted.vectors,
        "identity.safetensors": {
            "mean_embedding": torch.from_numpy(embeddings.mean(0)),
            **smile_tensors(meter.smile, data.landmarks_M[train]),
        },
    }
    write_pack(request.out, describe(settings, config, models.images_seen, metrics), tensors)
    return metrics


def describe(
    settings: PackConfig, config: EncoderConfig, images_seen: int, metrics: dict[str, Any]
) -> dict[str, Any]:
    """The fields of pack.json beside the file table."""
    entries = {
        key: {"space": "w", "positive": POSITIVE[key], "strength_range": RANGES[key]}
        for key in EDITS
    }
    encoder = dataclasses.asdict(config.encoder)
    return {
        "name": settings.name,
        "version": "1",
        "description": f"{config.generator.resolution} px faces, trained on permissive photographs",
        "licence": "CC-BY-4.0",
        "attribution": "Trained on FairFace (CC BY 4.0, Karkkainen & Joo 2021) and official "
        "portraits of members of the US Congress (public domain).",
        "alignment": "tight",
        "generator": {
            "kind": config.generator.kind,
            "config": dataclasses.asdict(cast(Any, config.generator)),
            "file": "generator.safetensors",
        },
        "methods": {
            "fse": {
                "file": "fse.safetensors",
                "config": encoder,
                "edit_feature_scale": settings.edit_feature_scale,
            }
        },
        "directions": {"file": "directions.safetensors", "entries": entries},
        "identity": {"file": "identity.safetensors", "network": "dlib_face_recognition_resnet_v1"},
        "training": {"images_last_stage": images_seen, "data": "13,050 faces at 128 px"},
        "metrics": metrics,
    }
