"""The tone for clips that are made from nothing."""

from __future__ import annotations

import av
import numpy as np
import pytest

from vidinv.video import probe
from vidinv.video.synthetic import SAMPLE_RATE, chord, write_tone


@pytest.mark.parametrize("seconds", [0.2, 2.0])
def test_write_tone(tmp_path, seconds):
    path = tmp_path / "tone.mkv"
    write_tone(path, seconds=seconds)
    assert [(s.kind, s.codec) for s in probe(path).other_streams] == [("audio", "aac")]
    with av.open(str(path)) as container:
        heard = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    # AAC pads to whole packets and adds one of its own.
    assert abs(len(heard) - seconds * SAMPLE_RATE) <= 2 * 1024
    assert 0.01 < np.abs(heard).max() < 0.25


def test_chord_is_quiet_and_silent_at_both_ends():
    samples = chord(1.0)
    assert samples.shape == (SAMPLE_RATE,)
    assert np.abs(samples).max() <= 0.15
    assert abs(samples[0]) < 1e-3
    assert abs(samples[-1]) < 1e-3
