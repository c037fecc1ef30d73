"""What is neither pixel nor packet is kept or named, and nothing is named that has arrived."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import av
import pytest
from av.sidedata.sidedata import Type

from vidinv.video import open_reader, open_writer


def trip(source: Path, output: Path) -> tuple[str, ...]:
    with open_reader(source) as reader, open_writer(output, source=reader.info) as writer:
        for frame in islice(reader, 3):
            writer.write(frame)
    return writer.warnings


def side_data(path: Path) -> dict[Type, bytes]:
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return {data.type: bytes(data) for data in frame.side_data.keys()}  # noqa: SIM118


def test_hdr10_comes_back(shared_dir, tmp_path):
    source = shared_dir / "inputs" / "09_hdr10_mastering_cll.mp4"
    assert trip(source, tmp_path / "a.mp4") == ()
    before, after = side_data(source), side_data(tmp_path / "a.mp4")
    assert after[Type.CONTENT_LIGHT_LEVEL] == before[Type.CONTENT_LIGHT_LEVEL]
    assert Type.MASTERING_DISPLAY_METADATA in after


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_stereo_comes_back(shared_dir, tmp_path, suffix):
    source = shared_dir / "inputs" / "09_stereo_mode.mkv"
    assert not [w for w in trip(source, tmp_path / f"a{suffix}") if "stereo" in w]
    assert side_data(tmp_path / f"a{suffix}")[Type.STEREO3D] == side_data(source)[Type.STEREO3D]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_what_a_phone_says_comes_back(shared_dir, tmp_path, suffix):
    source = shared_dir / "inputs" / "11_iphone_mdta_keys.mov"
    assert trip(source, tmp_path / f"a{suffix}") == ()
    with av.open(str(source)) as a, av.open(str(tmp_path / f"a{suffix}")) as b:
        after = {name.lower(): value for name, value in b.metadata.items()}
        keys = [name for name in a.metadata if name.startswith("com.apple.")]
        assert len(keys) == 5
        assert {name: after.get(name.lower()) for name in keys} == {n: a.metadata[n] for n in keys}


def test_chapters_and_timecode_that_arrive_are_not_said_to_be_lost(shared_dir, tmp_path):
    source = shared_dir / "inputs" / "08_chapters_timecode_cover.mp4"
    assert trip(source, tmp_path / "a.mp4") == ()
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert len(container.chapters()) == 2
        assert container.metadata["timecode"] == "10:00:00:00"


def test_names_of_tracks_come_back(shared_dir, tmp_path):
    source = shared_dir / "inputs" / "25_two_cameras_default_has_no_face.mp4"
    assert trip(source, tmp_path / "a.mp4") == ()
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert [s.metadata["name"] for s in container.streams.video] == ["rear", "front"]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("10_alpha_vp9.webm", "the transparency of the source is lost"),
    ],
)
def test_what_is_lost_is_named(shared_dir, tmp_path, name, what):
    warnings = trip(shared_dir / "inputs" / name, tmp_path / "a.mp4")
    assert any(what in text for text in warnings)
