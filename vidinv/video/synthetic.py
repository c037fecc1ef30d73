"""Sound made from nothing, for clips made from nothing: the demo's and the tests'.

A writer copies sound from its source. A clip without a source gets one here: a tiny black clip with
a tone, whose tone the writer takes.

    write_tone("tone.mkv", seconds=4.0)
    with open_writer("out.mp4", source=replace(VideoInfo.from_scratch(...), path="tone.mkv")): ...
"""

from __future__ import annotations

import os
from typing import Any

import av
import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 48_000
PITCHES_HZ = (220.0, 277.18, 329.63)  # A major, equal temperament
LOUDNESS = 0.05  # peak of each of the three, full scale is 1: quiet
SWELL_SECONDS = 2.0
_AAC_FRAME = 1024  # samples a packet, ISO/IEC 14496-3
_SIDE_PX = 16  # smallest that every encoder takes


def write_tone(path: str | os.PathLike[str], *, seconds: float) -> None:
    """Write a black clip of two frames (ffv1) with a swelling stereo chord (AAC).

    Args:
        path: output; Matroska, whatever its name.
        seconds: length of the sound.
    """
    with av.open(os.fspath(path), "w", format="matroska") as output:
        picture = output.add_stream("ffv1", rate=1)
        picture.width = picture.height = _SIDE_PX
        picture.pix_fmt = "yuv420p"
        sound = output.add_stream("aac", rate=SAMPLE_RATE)
        for _ in range(2):
            output.mux(picture.encode(_black()))
        output.mux(picture.encode(None))
        for frame in av.AudioResampler("fltp", "stereo", SAMPLE_RATE, _AAC_FRAME).resample(
            _audio_frame(chord(seconds))
        ):
            output.mux(sound.encode(frame))
        output.mux(sound.encode(None))


def chord(seconds: float) -> npt.NDArray[np.float32]:
    """``[samples]`` in -1..1: three sines that swell and fade, silent at both ends."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    waves = sum(np.sin(2 * np.pi * pitch * time) for pitch in PITCHES_HZ)
    swell = 0.6 - 0.4 * np.cos(2 * np.pi * time / SWELL_SECONDS)
    fade = np.clip(np.minimum(time, seconds - time) / 0.05, 0, 1)  # 50 ms: no click
    return np.asarray(LOUDNESS * waves * swell * fade, np.float32)


def _audio_frame(samples: npt.NDArray[np.float32]) -> Any:
    frame = av.AudioFrame.from_ndarray(np.stack([samples] * 2), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts = SAMPLE_RATE, 0
    return frame


def _black() -> Any:
    return av.VideoFrame.from_ndarray(np.zeros((_SIDE_PX, _SIDE_PX, 3), np.uint8), format="rgb24")
