"""Directions are scaled to their effect on pictures, and do not change what they must keep."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from tests.packs.tiny import write_tiny_pack
from training.calibration import UNITS, calibrate, mahalanobis, with_irises_kept
from training.refit_directions import build
from training.request import TrainingRequest
from vidinv.errors import UnknownNameError, UsageError

W = np.random.default_rng(0).normal(size=(2000, 4))
ROWS = {"age": np.array([0.5, 0, 0.1, 0]), "smile": np.array([0, 0.3, 0, 0.1]),
        "irises": np.array([0, 0, 0, 0.4])}  # fmt: skip
READ = {"age": np.array([1.0, 0, 0, 0.1]), "smile": np.array([0, 1.0, 0, 0]),
        "irises": np.array([-0.3, 0, 0, 0.5])}  # fmt: skip


def faces(shift=None) -> np.ndarray:
    """In the place of composed pictures: what an edit did to them."""
    return np.zeros(4) if shift is None else shift.numpy().astype(float)


def meter(changed: np.ndarray) -> dict[str, np.ndarray]:
    """Reads every attribute of 3 faces."""
    values = {name: np.full(3, 0.2 + changed @ row) for name, row in READ.items()}
    rest = {name: np.zeros(3) for name in UNITS if name not in values}
    return values | rest


def test_irises_keep_their_darkness_under_the_directions_that_are_named_alone():
    assert ROWS["age"] @ READ["irises"] < -0.1
    kept = with_irises_kept(faces, ROWS, meter, W, names=("age",))
    assert kept["age"] @ READ["irises"] == pytest.approx(0, abs=1e-6)
    np.testing.assert_array_equal(kept["age"][:3], ROWS["age"][:3])
    np.testing.assert_array_equal(kept["smile"], ROWS["smile"])


def test_strength_one_is_the_unit_of_the_attribute_within_the_longest_step():
    rows = {"age": ROWS["age"], "smile": ROWS["smile"] * 0.5}
    scaled, effects = calibrate(faces, rows, meter, W)
    assert [*scaled] == ["age", "smile"]
    for name, vector in scaled.items():
        moved = float(vector.double().numpy() @ READ[name])
        assert moved == pytest.approx(UNITS[name], rel=1e-3)
        assert effects[name][name] == pytest.approx(UNITS[name], abs=2e-3)
        distance = mahalanobis(vector.double().numpy()[None], W)[0]
        assert effects[name]["distance"] == pytest.approx(distance, abs=0.01)
    # One that hardly shows is no longer than allowed.
    faint = {**READ, "smile": READ["smile"] * 0.01}
    weak = {"smile": ROWS["smile"]}
    scaled, effects = calibrate(
        faces,
        weak,
        lambda changed: meter(changed) | {"smile": np.full(3, changed @ faint["smile"])},
        W,
    )
    assert effects["smile"]["distance"] == 4.0


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"directions": ["age", "glasses"]}, UnknownNameError, "glasses"),
        ({"directions": ["age"]}, UsageError, "is there already"),
        ({"directions": ["smile"], "pack": "TINY"}, UnknownNameError, "fitted here in pack tiny"),
    ],
)
def test_faults_of_a_refit_are_said_before_any_work(tmp_path, fields, error, said):
    path, out = tmp_path / "refit.yaml", tmp_path / "pack"
    if fields.get("pack") == "TINY":  # whose directions are others
        meta = {"file": "directions.safetensors", "entries": {}}
        fields = {
            **fields,
            "pack": str(write_tiny_pack(tmp_path / "tiny", directions=meta, vectors={})),
        }
    path.write_text(yaml.safe_dump({"pack": "faces-128", **fields}))
    if error is UsageError:
        out.mkdir()
    with pytest.raises(error, match=said):
        build(TrainingRequest("refit", path, out, tmp_path / "faces", False))
