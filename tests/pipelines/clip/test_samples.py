"""Identity figures of a run: those of dlib's own code, on real faces."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from pipelines.clip.networks import Networks
from pipelines.clip.samples import (
    MAX_SAMPLES,
    IdentitySampler,
    load_samples,
    save_samples,
    summarise,
)
from pipelines.edit import run
from pipelines.edit_request import EditRequest
from tests.faces.dlib_reference import DlibOwnEmbedder
from tests.video.clips import images_of, write_clip
from vidinv.faces import Backend, dlib_backend
from vidinv.packs import load_pack
from vidinv.types import EditSpec, FaceTrack, Frame


@pytest.mark.parametrize(
    "name", [pytest.param("greenscreen_512", marks=pytest.mark.slow), "talk_hand_512"]
)
def test_figures_of_an_edit_are_those_of_dlib(shared_dir, tmp_path, name):
    clip = write_clip(
        tmp_path / "clip.mp4", images_of(shared_dir / "clips" / f"{name}.mp4", limit=9)
    )

    pack, found = load_pack(), dlib_backend()

    def figures(name, embedder):
        spec = EditSpec({"smile": ((0.0, 1.0),)})
        request = EditRequest(clip, tmp_path / f"{name}.mp4", pack, spec, device="cpu")
        networks = Networks(pack, backend=Backend(found.detector, found.landmarks, embedder))
        return dataclasses.asdict(run(request, networks=networks).identity)

    ours, theirs = figures("ours", found.embedder), figures("theirs", DlibOwnEmbedder())
    assert theirs == pytest.approx(ours, abs=1e-3)
    assert None not in ours.values()


class TurningFace:
    """A made-up embedder: the level of a picture is the angle of its face in degrees."""

    def embed_all(self, faces):
        angles = np.radians([float(image.mean()) for image, _ in faces])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def samples_of(tracks, *, segments=((0, 60),), folder=None):
    """Samples of a clip whose face turns by a degree a frame, twice as fast in the output."""
    found = []
    for number, segment in enumerate(segments):
        sampler = IdentitySampler(Backend(None, None, TurningFace()))
        sampler.choose(tracks)
        for index in range(*segment):
            image = np.full((64, 64, 3), index, np.uint8)
            sampler.observe(Frame(index, index, Fraction(1, 25), image), 2 * image)
        save_samples(folder / f"{number}.samples", sampler.samples())
        found += load_samples(folder / f"{number}.samples")
    return found


def track_of(number, first, last):
    length = last - first + 1
    square = np.random.default_rng(0).uniform(20, 40, (68, 2)).astype(np.float32)
    return FaceTrack(
        id=number,
        shot=0,
        first=first,
        landmarks_T682=np.tile(square, (length, 1, 1)),
        crops_T4=np.tile([30.0, 30.0, 10.0, 0.0], (length, 1)),
        measured_T=np.ones(length, bool),
    )


@pytest.mark.parametrize("segments", [((0, 60),), ((0, 25), (25, 60))])
def test_consistency_is_against_each_tracks_own_first_frame(tmp_path, segments):
    """The second track's first frame is none of those that are spread evenly."""
    tracks = [track_of(0, 0, 39), track_of(1, 22, 59)]
    samples = samples_of(tracks, segments=segments, folder=tmp_path)
    evenly = [sample for sample in samples if not sample.additional]
    assert len(evenly) == MAX_SAMPLES
    assert [(s.track, s.additional) for s in samples if s.additional] == [(1, True)]

    def angles(track):
        own = [sample.source for sample in samples if sample.track == track]
        return np.degrees([np.arctan2(y, x) for x, y in own])

    wanted = []
    for track in tracks:
        assert angles(track.id)[0] == pytest.approx(track.first)
        wanted.append(np.cos(np.radians(angles(track.id)[1:] - track.first)).mean())
        own = summarise([s for s in samples if s.track == track.id], None)
        assert own.ic_source == pytest.approx(wanted[-1], abs=1e-4)
    figures = summarise(samples, None)
    assert figures.ic_source == pytest.approx(np.mean(wanted), abs=1e-4)
    apart = [np.cos(np.arctan2(*s.source[::-1])) for s in evenly]  # output is twice the angle
    assert figures.similarity_mean == pytest.approx(np.mean(apart), abs=1e-4)
    assert figures.similarity_min == pytest.approx(min(apart), abs=1e-4)


def test_a_picture_has_no_consistency(tmp_path):
    figures = summarise(samples_of([track_of(0, 0, 0)], segments=((0, 1),), folder=tmp_path), None)
    assert (figures.ic_source, figures.ic_output) == (None, None)
    assert figures.similarity_mean == 1
