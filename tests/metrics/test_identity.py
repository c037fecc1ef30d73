"""IC, TL-ID and TG-ID on embeddings whose angles are known."""

from __future__ import annotations

import numpy as np
import pytest

from vidinv.metrics import identity_consistency, similarity, tg_id, tl_id, tl_id_of_pairs


def at_degrees(*degrees):
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], 1)


def cosine(*degrees):
    return np.cos(np.radians(degrees))


def test_similarity_is_centred():
    first, second, mean = at_degrees(0, 60), at_degrees(90, 60), np.array([3.0, -1.0])
    assert similarity(first, second, mean=0) == pytest.approx([0, 1])
    assert similarity(first + mean, 5 * second + mean, mean=mean) == pytest.approx([0, 1])
    assert similarity(first + mean, second + mean, mean=0)[0] > 0.5


def test_identity_consistency_compares_with_frame_zero_only():
    value = identity_consistency(at_degrees(0, 60, 90), mean=0)
    assert value == pytest.approx(cosine(60, 90).mean())
    assert identity_consistency(at_degrees(20, 20, 20), mean=0) == pytest.approx(1)


def test_tl_id_compares_neighbours_and_tg_id_all_pairs():
    edited, source = at_degrees(0, 20, 40), at_degrees(0, 10, 20)
    local = cosine(20) / cosine(10)
    assert tl_id(edited, source, mean=0) == pytest.approx(local.item())
    everywhere = cosine(20, 40, 20).mean() / cosine(10, 20, 10).mean()
    assert tg_id(edited, source, mean=0) == pytest.approx(everywhere)


def test_tl_id_of_pairs_needs_no_frames_between():
    edited, source = at_degrees(0, 20, 70, 90), at_degrees(0, 10, 50, 60)
    found = tl_id_of_pairs(edited.reshape(2, 2, 2), source.reshape(2, 2, 2), mean=0)
    assert found == pytest.approx((cosine(20) / cosine(10)).item())
    for bad in (np.ones((0, 2, 4)), np.ones((3, 4)), np.ones((1, 3, 4))):
        with pytest.raises(ValueError, match="same pairs"):
            tl_id_of_pairs(bad, bad, mean=0)
    with pytest.raises(ValueError, match="same pairs"):
        tl_id_of_pairs(np.ones((1, 2, 4)), np.ones((2, 2, 4)), mean=0)


def test_slow_drift_costs_tg_id_more_than_tl_id():
    edited, source = at_degrees(*range(0, 90, 5)), at_degrees(*[0] * 18)
    assert tl_id(edited, source, mean=0) > 0.99
    assert tg_id(edited, source, mean=0) < 0.9


def test_the_source_itself_scores_one():
    source = np.random.default_rng(0).normal(1, 1, (6, 16))
    assert tl_id(source, source, mean=0.5) == pytest.approx(1)
    assert tg_id(source, source, mean=0.5) == pytest.approx(1)


@pytest.mark.parametrize("embeddings", [np.ones((1, 4)), np.ones((0, 4)), np.ones(4)])
def test_too_few_frames_fail(embeddings):
    with pytest.raises(ValueError, match="two frames"):
        identity_consistency(embeddings, mean=0)
    with pytest.raises(ValueError, match="two frames"):
        tl_id(embeddings, embeddings, mean=0)


def test_embeddings_of_different_frames_fail():
    with pytest.raises(ValueError, match="same frames"):
        tg_id(np.ones((3, 4)), np.ones((2, 4)), mean=0)
