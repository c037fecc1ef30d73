"""Recognition of a report: frames embedded in addition find faults, and bias no figure."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.report.recognition import Recogniser
from pipelines.report.summary import summarise
from pipelines.report.track_meter import ChipStore, FaceDifference, measure_pops_without_strangers
from vidinv.metrics.identity import tl_id
from vidinv.report import FrameRow, rank, strangers_from
from vidinv.report.model import MAX_PAIRS

FRAMES = 78
SWAPPED = {*range(4, 15), *range(30, 41), *range(58, 69)}  # 33 of 78
NETWORK = "dlib_made_up"
LEVEL = strangers_from(NETWORK)
POP_PX = 48


class MadeUpFaces:
    """Store and network in one: an embedding of every clip, track and frame."""

    name = NETWORK

    def __init__(self, source_TD, output_TD, **others):
        self._clips = {"source": source_TD, "output": output_TD, **others}
        self.num_looks = 0

    def has(self, track, frame, name):
        return name in self._clips

    def points(self, track, frame, name):
        return None

    def chip(self, track, frame, name):
        return self._clips[name][frame]

    def embed_all(self, faces):
        found = [chip for chip, _ in faces]
        self.num_looks += len(found)
        return np.reshape(found, (len(found), 8))

    def distance(self, first, second):
        return float(np.linalg.norm(first - second))


def drifting(*, per_frame_degrees: float, frames: int = FRAMES):
    """``[T, 8]``: a face that turns steadily; neighbours are alike, the ends are not."""
    angles = np.radians(per_frame_degrees * np.arange(frames))
    found = np.zeros((frames, 8))
    found[:, 0], found[:, 1] = np.cos(angles), np.sin(angles)
    return found


def with_another_face(source_TD):
    """An edit at a distance of 0.2 from its source, and someone else's face at 0.9 now and then."""
    output = source_TD.copy()
    output[:, 2] += 0.2
    output[:, 3] += np.where([n in SWAPPED for n in range(len(output))], 0.88, 0.0)
    return output


def make_rows(frames: int = FRAMES, *, pops=SWAPPED):
    rows = [FrameRow(n, n / 25, 0, 0, True, 200.0) for n in range(frames)]
    for row in rows:
        row.pop_face = row.pop_border = 40.0 if row.frame in pops else 1.0
    return rows


def embed(source_TD, output_TD, *, every, pops=SWAPPED):
    faces, rows = MadeUpFaces(source_TD, output_TD), make_rows(len(source_TD), pops=pops)
    recogniser = Recogniser(
        faces,
        faces,
        mean=0.0,
        clips=("source", "output"),
        counted=lambda items, _: items,
    )
    known = recogniser.embed(rows, every)
    figures = recogniser.steadiness(known)
    return rows, known, summarise(rows, figures[0], LEVEL), faces


@pytest.mark.parametrize("every", [1, 2, 5])
def test_looking_closer_at_suspicious_frames_does_not_turn_the_verdict(every):
    source = drifting(per_frame_degrees=0)
    rows, known, summary, _ = embed(source, with_another_face(source), every=every)
    embedded = [row for row in rows if row.distance is not None]
    assert known.num_rows == len(embedded)
    assert sum(row.additional for row in embedded) == known.refined + known.neighbours
    assert summary.distance_median == pytest.approx(0.2, abs=0.01)
    assert summary.similarity_median > 0.95
    evenly = range(0, FRAMES, every)
    assert summary.like_strangers == len(SWAPPED & set(evenly))
    assert len(embedded) - known.refined - known.neighbours == len(evenly)
    assert {item.frame for item in rank(rows, strangers=LEVEL)} == SWAPPED


def test_departures_are_from_the_usual_face_of_the_sampled_frames():
    """Of the frames embedded more than half are someone else's; of the clip, fewer."""
    source = drifting(per_frame_degrees=0)
    rows, known, *_ = embed(source, with_another_face(source), every=2)
    departures = {row.frame: row.departure for row in rows if row.departure is not None}
    assert sum(frame in SWAPPED for frame in departures) > len(departures) / 2
    assert known.refined
    for frame, departure in departures.items():
        assert departure == pytest.approx(0.88 if frame in SWAPPED else 0.0, abs=0.01)


def test_a_stranger_whose_score_is_ordinary_is_embedded_closer():
    source = drifting(per_frame_degrees=0)
    frames, swapped = np.arange(FRAMES), range(38, 44)
    output = source.copy()
    output[:, 2] += np.where(frames // 5 % 2, 0.05, 0.6)
    output[swapped, 2] = 0.75
    rows, *_ = embed(source, output, every=5, pops=())
    assert {item.frame for item in rank(rows, strangers=LEVEL)} == set(swapped)


@pytest.mark.parametrize("every", [3, 19])
def test_tl_id_is_over_true_neighbours_however_few_frames_are_sampled(every):
    source = drifting(per_frame_degrees=1)
    output = drifting(per_frame_degrees=4)
    _, known, summary, faces = embed(source, output, every=every)
    neighbours = np.cos(np.radians(4)) / np.cos(np.radians(1))
    assert summary.tl_id == pytest.approx(neighbours)
    assert summary.tl_id == pytest.approx(tl_id(output, source, mean=0.0))
    pairs = known.pairs[0]
    assert len(pairs) == known.neighbours == min(MAX_PAIRS, len(known.sampled[0]))
    assert all(after.frame == first.frame + 1 for first, after in pairs)
    assert pairs[0][0].frame == 0
    assert pairs[-1][0].frame >= FRAMES - 2 * every
    assert faces.num_looks == 2 * known.num_rows


def test_tl_id_is_over_all_neighbours_where_every_frame_is_sampled():
    source = drifting(per_frame_degrees=1)
    random = np.random.default_rng(0)
    output = source + 0.1 * random.normal(size=source.shape)
    _, known, summary, _ = embed(source, output, every=1)
    assert (len(known.pairs[0]), known.neighbours) == (FRAMES - 1, 0)
    assert summary.tl_id == pytest.approx(tl_id(output, source, mean=0.0))


def test_without_a_neighbour_there_is_no_tl_id():
    source = drifting(per_frame_degrees=1, frames=1)
    *_, summary, _ = embed(source, source, every=1)
    assert (summary.tl_id, summary.tg_id, summary.ic_output) == (None, None, None)
    source = drifting(per_frame_degrees=1, frames=3)
    *_, summary, _ = embed(source, source, every=5)
    assert summary.tl_id == pytest.approx(1.0)


@pytest.mark.parametrize("every", [1, 7, 100])
def test_consistency_is_against_a_tracks_own_first_frame(every):
    """Two tracks that end where they began to differ; however few of their frames are sampled."""
    source = drifting(per_frame_degrees=1, frames=60)
    rows = [FrameRow(n, n / 25, track, 0, True, 200.0) for track in (0, 1) for n in range(60)]
    rows = [row for row in rows if (row.frame < 40) == (row.track == 0)]
    faces = MadeUpFaces(source, source)
    recogniser = Recogniser(
        faces, faces, mean=0.0, clips=("source", "output"), counted=lambda items, _: items
    )
    known = recogniser.embed(rows, every)
    figures = recogniser.steadiness(known)
    for track, (first, last) in enumerate([(0, 39), (40, 59)]):
        sampled = [*range(first, last + 1, every)]
        sampled = sampled if len(sampled) > 1 else [first, last]
        assert [row.frame for row in known.sampled[track]] == sampled
        wanted = np.cos(np.radians(np.array(sampled[1:]) - first)).mean()
        assert figures[track]["ic_output"] == pytest.approx(wanted)
        own = [row for row in rows if row.track == track and row.first_output is not None]
        for row in own:
            assert row.first_output == pytest.approx(np.cos(np.radians(row.frame - first)))


def test_the_inversion_is_recognised_in_the_generators_picture():
    source, generated = (drifting(per_frame_degrees=n, frames=10) for n in (0, 3))
    faces = MadeUpFaces(source, source, inversion=source, generated=generated)
    clips = ("source", "output", "inversion")
    recogniser = Recogniser(faces, faces, mean=0.0, clips=clips, counted=lambda items, _: items)
    rows = make_rows(10)
    known = recogniser.embed(rows, 1)
    wanted = np.cos(np.radians(3 * np.arange(1, 10))).mean()
    assert recogniser.steadiness(known)[0]["ic_inversion"] == pytest.approx(wanted)
    assert rows[9].similarity_inversion == pytest.approx(np.cos(np.radians(27)))


def test_flicker_stays_over_all_frames():
    rows = make_rows(4)
    for row in rows:
        row.flicker_output = float(row.frame)
        row.distance, row.additional = 0.1 * row.frame, row.frame > 1
    summary = summarise(rows, {}, LEVEL)
    assert summary.flicker_output == 1.5
    assert summary.distance_median == pytest.approx(0.05)


def test_good_frames_between_faults_are_not_the_exception():
    """Two blocks of eight in 25 frames are the majority there: the good ones seemed to jump."""
    swapped = {*range(10, 18), *range(30, 38)}
    rows = make_rows(48)
    everywhere = np.ones((POP_PX, POP_PX), bool)
    with ChipStore() as store:
        for row in rows:
            level = 60 if row.frame in swapped else row.frame % 2
            picture = np.full((POP_PX, POP_PX, 3), level, np.int16)
            store.put_difference(0, row.frame, FaceDifference(picture, everywhere, everywhere))
            row.pop_face = row.pop_border = 0.0
            row.reasons = ("identity",) if row.frame in swapped else ()
        rows[23].pop_face = 59.0  # as if most of its neighbours were swapped
        measure_pops_without_strangers(rows, store)
    for row in rows:
        wanted = 60 if row.frame in swapped else 0
        assert row.pop_face == pytest.approx(wanted, abs=1), row.frame
    assert rows[47].pop_border == pytest.approx(0.0, abs=1)


def test_a_face_without_good_neighbours_keeps_its_figures():
    rows = make_rows(30)
    for row in rows:
        row.pop_face, row.reasons = 7.0, ("identity",)
    with ChipStore() as store:
        measure_pops_without_strangers(rows, store)
    assert {row.pop_face for row in rows} == {7.0}
