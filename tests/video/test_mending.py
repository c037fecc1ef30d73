"""Damage that is none, and what becomes of damage that is some."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
from av.error import InvalidDataError

from tests.video.clips import make_clip
from vidinv.errors import DecodeError
from vidinv.video import copy_media, open_reader
from vidinv.video.integrity import Damage
from vidinv.video.mending import Mending
from vidinv.video.timing import Jumps

BASE = Fraction(1, 1000)


@dataclass
class Stream:
    index: int = 0
    type: str = "video"


@dataclass
class Picture:
    """A decoded one."""

    pts: int
    is_corrupt: bool = False

    @property
    def time(self) -> float:
        return self.pts / 1000


class Packet:
    """``damaged`` does not decode; ``hint`` is what a demuxer marks."""

    def __init__(
        self, pts: int, *, damaged: bool = False, broken: bool = False, hint: bool = False, **stream
    ) -> None:
        self.pts = self.dts = pts
        self.size, self.duration, self.time_base = 1, 40, BASE
        self.is_keyframe, self.is_discard, self.is_corrupt = True, False, hint
        self.damaged, self.broken = damaged, broken
        self.stream = Stream(**stream)
        self.stream_index = self.stream.index

    def decode(self) -> list[Any]:
        if self.damaged:
            raise InvalidDataError(1, "damaged")
        return [Picture(self.pts, self.broken)]


def times(mending: Mending, packets: list[Packet]) -> list[int]:
    return [frame.pts for frame in mending.frames(packets)]


def test_a_hint_of_the_demuxer_is_no_damage():
    mending = Mending(BASE, skips=False)
    assert times(mending, [Packet(0), Packet(40, hint=True), Packet(80)]) == [0, 40, 80]
    assert mending.notes() == ["the file has broken packets (1), but every frame decoded"]


@pytest.mark.parametrize("how", ["damaged", "broken"])
def test_damage_stops_and_names_the_option(how):
    packets = [Packet(0), Packet(40, **{how: True}), Packet(80)]
    with pytest.raises(Damage, match=r"after frame 0 \(0.00 s\); --on-error skip"):
        times(Mending(BASE, skips=False), packets)


@pytest.mark.parametrize("how", ["damaged", "broken"])
def test_skipping_holds_the_last_good_picture_for_each_that_is_lost(how):
    mending = Mending(BASE, skips=True)
    lost = [Packet(40, **{how: True}), Packet(80, **{how: True})]
    assert times(mending, [Packet(0), *lost, Packet(120), Packet(160)]) == [0, 40, 80, 120, 160]
    assert mending.num_held == 2
    (note,) = mending.notes()
    assert note.endswith("the last good picture in their place: 2")


def test_nothing_is_held_where_nothing_was_damaged():
    """Some packets have no picture of their own (fields, hidden frames)."""

    class Hidden(Packet):
        def decode(self) -> list[Any]:
            return []

    mending = Mending(BASE, skips=True)
    assert times(mending, [Packet(0), Hidden(20), Packet(40)]) == [0, 40]


def test_cut_files_are_worth_what_decodes(tmp_path):
    whole = make_clip(tmp_path / "a.mkv", num_frames=12)
    data = whole.read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(DecodeError, match=r"is cut short: .*; --on-error skip"):
        open_reader(cut).__enter__()
    with open_reader(cut, on_error="skip") as reader:
        assert 2 < len(list(reader)) < 12
    assert "is cut short" in reader.notes[0]


def test_one_bad_frame(shared_dir):
    clip = shared_dir / "inputs" / "06b_one_bad_frame.mp4"
    with open_reader(clip, on_error="skip") as reader:
        assert [frame.pts for frame in reader] == list(range(0, 30 * 512, 512))
    assert reader.num_held == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("06_ts_joined_parts_all50frames_decode.ts", "whose times went back were moved"),
        ("07_ts_one_audio_packet_lost.ts", "damaged packets were left out (1)"),
    ],
)
def test_transport_streams_with_seams_and_holes_are_taken(shared_dir, tmp_path, name, said):
    source = shared_dir / "inputs" / name
    assert any(said in text for text in copy_media(source, tmp_path / "a.mp4"))
    with open_reader(source) as a, open_reader(tmp_path / "a.mp4") as b:
        assert sum(1 for _ in a) == sum(1 for _ in b)


def corrected(*packets: Packet) -> list[int]:
    return [packet.dts for packet in Jumps().corrected(packets)]


def sound(pts: int) -> Packet:
    return Packet(pts, index=1, type="audio")


def test_parts_that_were_joined_are_put_in_one_row():
    first = [Packet(0), sound(10), Packet(1000), sound(1010)]
    again = [sound(10), Packet(0), sound(1010), Packet(1000)]
    row = corrected(*first, *again)
    assert row[:4] == [0, 10, 1000, 1010]
    assert [row[n + 1] - row[n] for n in range(4, 7)] == [-10, 1010, -10]
    assert row[4] == 1050  # where the sound of the first part ends


def test_a_gap_in_one_stream_is_no_seam():
    row = [Packet(0), sound(0), Packet(9000), Packet(18000), Packet(26000), sound(26000)]
    assert corrected(*row) == [0, 0, 9000, 18000, 26000, 26000]


def test_times_that_start_anew_far_ahead():
    assert corrected(Packet(0), Packet(40), Packet(900_000), Packet(900_040)) == [0, 40, 80, 120]
