"""Identity over time, from embeddings alone: IC, TL-ID, TG-ID and plain similarity.

Everything uses the cosine after subtracting a reference mean: with the bundled dlib net the raw
cosine says nothing (strangers: median 0.84; docs/REFERENCES.md, "Identity figures"). With an
ArcFace-type net give a mean of zeros. Embeddings come in as ``[T, D]``, one row a frame in which
the face was found.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vidinv.types import FloatArray

Float64 = npt.NDArray[np.float64]


def similarity(first: FloatArray, second: FloatArray, *, mean: FloatArray | float) -> Float64:
    """Mean-centred cosine of matching rows.

    Args:
        first, second: ``[..., D]`` embeddings, broadcast against each other.
        mean: ``[D]`` mean embedding of a reference population, or 0.

    Returns:
        ``[...]`` float64 in [-1, 1].
    """
    return np.asarray((_unit(first, mean) * _unit(second, mean)).sum(-1))


def identity_consistency(embeddings_TD: FloatArray, *, mean: FloatArray | float) -> float:
    """IC: mean similarity of frames 1..N to frame 0 (Feature-Style, eq. 9; supplement eq. 1).

    Raises:
        ValueError: fewer than two rows.
    """
    _check_track(embeddings_TD)
    units_TD = _unit(embeddings_TD, mean)
    return float((units_TD[1:] @ units_TD[0]).mean())


def tl_id(edited_TD: FloatArray, source_TD: FloatArray, *, mean: FloatArray | float) -> float:
    """TL-ID: similarity of neighbouring frames of the edit relative to the source's.

    Tzaban et al., "Stitch it in Time" (SIGGRAPH Asia 2022): 1 means that identity is
    as steady from frame to frame as in the source. Here a ratio of means, because a mean-centred
    similarity of one pair may come near zero.

    Args:
        edited_TD, source_TD: embeddings of the same consecutive frames.

    Raises:
        ValueError: fewer than two rows, or different shapes.
    """
    _check_same_frames(edited_TD, source_TD)
    pairs = (np.stack([track[:-1], track[1:]], 1) for track in (edited_TD, source_TD))
    return tl_id_of_pairs(*pairs, mean=mean)


def tl_id_of_pairs(
    edited_N2D: FloatArray, source_N2D: FloatArray, *, mean: FloatArray | float
) -> float:
    """TL-ID over ``N`` pairs of neighbouring frames, where not every frame is sampled.

    Args:
        edited_N2D, source_N2D: embeddings of both frames of the same pairs.

    Raises:
        ValueError: no pair, or different shapes.
    """
    shapes = np.shape(edited_N2D), np.shape(source_N2D)
    if shapes[0] != shapes[1] or len(shapes[0]) != 3 or shapes[0][0] < 1 or shapes[0][1] != 2:
        raise ValueError(f"needs embeddings [N, 2, D] of the same pairs: got {shapes}")
    edited, source = (
        similarity(pairs[:, 0], pairs[:, 1], mean=mean)
        for pairs in (np.asarray(edited_N2D), np.asarray(source_N2D))
    )
    return _ratio(edited, source)


def tg_id(edited_TD: FloatArray, source_TD: FloatArray, *, mean: FloatArray | float) -> float:
    """TG-ID: as ``tl_id`` over all pairs of frames: steadiness over the whole clip."""
    _check_same_frames(edited_TD, source_TD)
    edited, source = (_unit(track, mean) for track in (edited_TD, source_TD))
    return _ratio(_all_pairs(edited), _all_pairs(source))


def _all_pairs(units_TD: Float64) -> Float64:
    rows, columns = np.triu_indices(len(units_TD), 1)
    return np.asarray((units_TD @ units_TD.T)[rows, columns])


def _ratio(edited: Float64, source: Float64) -> float:
    return float(edited.mean() / source.mean())


def _check_same_frames(edited_TD: FloatArray, source_TD: FloatArray) -> None:
    if np.shape(edited_TD) != np.shape(source_TD):
        raise ValueError(
            f"embeddings of the same frames: got {np.shape(edited_TD)} and {np.shape(source_TD)}"
        )
    _check_track(edited_TD)


def _check_track(embeddings_TD: FloatArray) -> None:
    if np.ndim(embeddings_TD) != 2 or len(embeddings_TD) < 2:
        raise ValueError(
            f"needs embeddings [T, D] of at least two frames, got {np.shape(embeddings_TD)}"
        )


def _unit(embeddings: FloatArray, mean: FloatArray | float) -> Float64:
    centred = np.asarray(embeddings, np.float64) - mean
    norm = np.linalg.norm(centred, axis=-1, keepdims=True)
    return np.asarray(centred / np.maximum(norm, 1e-12))
