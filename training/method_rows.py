"""What the methods of a pack keep of edits of validation faces, for ``training.evaluate``.

Pictures are the networks' own at the pack's size, without detail transfer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from training.calibration import EDITS, AttributeMeter
from training.data import FaceArrays
from training.loop import make_batch
from vidinv.inversion import METHODS, Inverter, find_method
from vidinv.inversion.fse import FeatureStyleInverter
from vidinv.packs import Pack
from vidinv.rendering import to_array
from vidinv.types import EditedLatents


def trained_inverters(pack: Pack) -> dict[str, Inverter]:
    """The methods that the pack has weights for; ``fse`` by each rule of editing that it has.

    Those that are fitted to a track serve as they are before that, or are left out: single faces
    are none.
    """
    inverters: dict[str, Inverter] = {}
    for name in METHODS:
        if name not in pack.meta["methods"]:
            continue
        inverter = unfitted(pack, name)
        if inverter.sample_frames:
            continue
        if not isinstance(inverter, FeatureStyleInverter):
            inverters[name] = inverter
            continue
        encoder = inverter.encoder
        inverters["eq1"] = FeatureStyleInverter(pack.generator, encoder, edit_rule="eq1")
        if encoder.feature_editor is not None:
            inverters["editor"] = FeatureStyleInverter(pack.generator, encoder, edit_rule="editor")
    return inverters


def unfitted(pack: Pack, method: str) -> Inverter:
    """A method of the pack, without its fit to a track where it can do without."""
    options = find_method(method).unfitted_options
    return (pack if options is None else pack.with_options(method, options)).inverter(method)


def kept_edits(
    meter: AttributeMeter,
    pack: Pack,
    data: FaceArrays,
    indices: np.ndarray,
    *,
    inverters: Mapping[str, Inverter],
    edits: Sequence[str] = EDITS,
    strength: float = 1.0,
) -> dict[str, dict[str, float]]:
    """``"smile"`` -> its change in G(w), and what of it each inverter keeps.

    Measured by landmarks and recognition; ``kept`` is a ratio of mean changes, ``distance`` the
    median embedding distance to the source. G(w) is that of the first inverter's latents.
    """
    batches = [
        make_batch(data, part).images for part in np.array_split(indices, len(indices) // 16)
    ]
    _, source = meter.with_embeddings(_pictures(batches))

    def measured(pictures: Iterable[Tensor]) -> tuple[dict[str, np.ndarray], float]:
        values, seen = meter.with_embeddings(_pictures(pictures))
        return values, float(np.median(np.linalg.norm(seen - source, axis=1)))

    directions = pack.directions()
    inversions = {
        name: [inverter.encode(images) for images in batches]
        for name, inverter in inverters.items()
    }
    full = {
        name: measured(inverters[name].render(i, i.unedited) for i in found)[0]
        for name, found in inversions.items()
    }
    latents = [inversion.latents_NLD for inversion in next(iter(inversions.values()))]
    synthesis = pack.generator.synthesis
    with torch.inference_mode():
        plain, _ = measured(synthesis(w) for w in latents)
    table = {}
    for name in edits:

        def moved(latents_NLD: Tensor, name: str = name) -> EditedLatents:
            return directions.apply(latents_NLD, {name: torch.full([len(latents_NLD)], strength)})

        with torch.inference_mode():
            values, distance = measured(synthesis(moved(w).latents_NLD) for w in latents)
        wanted = float((values[name] - plain[name]).mean())
        row = {"moved_w": wanted, "distance_w": distance}
        for rule, inverter in inverters.items():
            values, distance = measured(
                inverter.render(i, moved(i.latents_NLD)) for i in inversions[rule]
            )
            row[f"kept_{rule}"] = float((values[name] - full[rule][name]).mean()) / wanted
            row[f"distance_{rule}"] = distance
        table[name] = {key: round(value, 3) for key, value in row.items()}
    return table


def _pictures(batches: Iterable[Tensor]) -> np.ndarray:
    """``[N, R, R, 3]`` float32, 0..255."""
    return np.concatenate([to_array(images) for images in batches])
