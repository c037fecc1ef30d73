"""InterFaceGAN, SeFa and GANSpace on made-up latents whose directions are known."""

from __future__ import annotations

import numpy as np
import pytest

from vidinv.editing.fitting import (
    closed_form,
    linear_svm,
    orthogonal_to,
    principal,
    separate,
    signed,
    spread_along,
)

RNG = np.random.default_rng(0)
W = RNG.standard_normal((800, 6))
TRUE = np.array([0.6, 0.0, 0.8, 0.0, 0.0, 0.0])


def test_the_svm_has_the_widest_margin():
    """Two points a side, mirrored: the normal lies across, the bias between."""
    x = np.array([[0.0, 0.0], [0.0, 1.0], [4.0, 0.0], [4.0, 1.0]])
    normal, bias = linear_svm(x, np.array([-1.0, -1, 1, 1]), c=1e6)
    assert normal == pytest.approx([0.5, 0.0], abs=1e-4)
    assert bias == pytest.approx(-1.0, abs=1e-3)


def test_far_samples_do_not_turn_the_svm():
    """Unlike least squares: what lies far on its own side costs nothing."""
    x = np.concatenate([RNG.normal([-1, 0], 0.2, (50, 2)), RNG.normal([1, 0], 0.2, (50, 2))])
    far = np.concatenate([x, [[3.0, 40.0]] * 5])
    normal, _ = linear_svm(far, np.array([-1.0] * 50 + [1.0] * 55))
    assert abs(normal[1] / normal[0]) < 0.15


def test_a_separator_finds_the_direction_of_the_scores():
    scores = W @ TRUE + 0.1 * RNG.standard_normal(len(W))
    scores[::7] = np.nan
    found = separate(W, scores, share=0.3)
    assert found.normal @ TRUE > 0.98
    assert np.linalg.norm(found.normal) == pytest.approx(1)
    assert found.accuracy > 0.95
    noise = separate(W, RNG.standard_normal(len(W)), share=0.3)
    assert 0.3 < noise.accuracy < 0.7


@pytest.mark.parametrize(
    ("share", "message"), [(0.0, "share"), (0.6, "share"), (0.01, "10 samples")]
)
def test_too_few_samples_are_refused(share, message):
    with pytest.raises(ValueError, match=message):
        separate(W, W[:, 0], share=share)


def test_conditioning_leaves_the_others_alone():
    others = [np.eye(6)[0], np.array([0.0, 0.6, 0.8, 0, 0, 0])]
    held = orthogonal_to(TRUE, others)
    assert [held @ other for other in others] == pytest.approx([0, 0], abs=1e-12)
    assert np.linalg.norm(held) == pytest.approx(1)
    assert held @ TRUE > 0
    assert orthogonal_to(TRUE, []) is TRUE
    with pytest.raises(ValueError, match="nothing is left"):
        orthogonal_to(TRUE, [TRUE])


def test_sefa_finds_what_the_styles_read_most():
    """Eq. 6: eigenvectors of A^T A by falling eigenvalue, rows of A at unit length."""
    weights = [RNG.standard_normal((40, 6)) * [5, 1, 1, 1, 1, 1], 100 * RNG.standard_normal((9, 6))]
    found = closed_form(weights, count=3)
    rows = np.concatenate(weights)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    changes = [np.square(rows @ vector).sum() for vector in found]
    values = np.linalg.eigvalsh(rows.T @ rows)[::-1]
    assert changes == pytest.approx(values[:3].tolist())
    assert found @ found.T == pytest.approx(np.eye(3), abs=1e-9)
    assert np.abs(found[0]).argmax() == 0


def test_ganspace_finds_the_widest_directions_of_w():
    spread = np.array([1, 5, 1, 3, 1, 1.0])
    found = principal(W * spread + 7, count=2)
    assert np.abs(found).argmax(axis=1).tolist() == [1, 3]
    assert spread_along(W * spread, found) == pytest.approx([5, 3], rel=0.1)


def test_signs_are_fixed():
    vectors = np.array([[0.1, -0.9], [0.9, 0.1]])
    assert np.array_equal(signed(vectors), [[-0.1, 0.9], [0.9, 0.1]])
    assert np.array_equal(signed(-vectors), signed(vectors))
