"""What is neither pixel nor packet is kept or named, and nothing is named that has arrived."""

from __future__ import annotations

import struct
from itertools import islice
from pathlib import Path

import av
import pytest
from av.sidedata.sidedata import Type

from tests.video.clips import make_clip
from vidinv.video import EncodeOptions, copy_media, open_reader, open_writer


def trip(source: Path, output: Path, **how) -> tuple[str, ...]:
    options = EncodeOptions(**how)
    with (
        open_reader(source) as reader,
        open_writer(output, source=reader.info, options=options) as writer,
    ):
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


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_hdr10_comes_back_in_av1(shared_dir, tmp_path, suffix):
    source = shared_dir / "inputs" / "09_hdr10_mastering_cll.mp4"
    output = tmp_path / f"a{suffix}"
    assert not [text for text in trip(source, output, encoder="libsvtav1") if "HDR10" in text]
    before, after = side_data(source), side_data(output)
    assert after[Type.CONTENT_LIGHT_LEVEL] == before[Type.CONTENT_LIGHT_LEVEL]
    kind = Type.MASTERING_DISPLAY_METADATA
    one, other = (ratios(data[kind]) for data in (before, after))
    assert other == pytest.approx(one, rel=1e-3, abs=1e-4)  # AV1 has fractions of 2^-16 and 2^-14


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".mp4"])
def test_hdr10_that_vp9_does_not_hold_is_named(shared_dir, tmp_path, suffix):
    source = shared_dir / "inputs" / "09_hdr10_mastering_cll.mp4"
    warnings = trip(source, tmp_path / f"a{suffix}", encoder="libvpx-vp9")
    for what in ("mastering display (HDR10)", "content light level (HDR10)"):
        assert [text for text in warnings if text.startswith(f"{what} is lost")]


def ratios(data: bytes) -> list[float]:
    """Chromaticities and luminance of AVMasteringDisplayMetadata."""
    numbers = struct.unpack_from("<20i", data)
    return [n / d for n, d in zip(numbers[::2], numbers[1::2], strict=True)]


def box(name: bytes, data: bytes) -> bytes:
    """Of ISO/IEC 14496-12."""
    return struct.pack(">I4s", len(data) + 8, name) + data


FULL = b"\0\0\0\0"  # version and flags
STEREO = box(b"st3d", FULL + b"\2")  # left and right
PROJECTION = box(b"prhd", FULL + bytes(12)) + box(b"equi", FULL + bytes(16))
SPHERICAL = box(b"sv3d", box(b"svhd", FULL + b"made up\0") + box(b"proj", PROJECTION))


def with_boxes(source: Path, path: Path, boxes: bytes) -> Path:
    """A copy of an MP4 whose index is behind its pictures, with more in its sample entry."""
    data = bytearray(source.read_bytes())
    start, end, skips = 0, len(data), {b"stsd": 16, b"avc1": 86}
    parents = []
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        while data[start + 4 : start + 8] != name:
            start += struct.unpack_from(">I", data, start)[0]
        parents.append(start)
        end = start + struct.unpack_from(">I", data, start)[0]
        start += skips.get(name, 8)
    for parent in parents:
        (size,) = struct.unpack_from(">I", data, parent)
        struct.pack_into(">I", data, parent, size + len(boxes))
    path.write_bytes(data[:end] + boxes + data[end:])
    return path


@pytest.fixture(scope="module")
def spherical(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("spherical")
    clip = make_clip(folder / "a.mp4", num_frames=3)
    return with_boxes(clip, folder / "b.mp4", STEREO + SPHERICAL)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_spherical_clips_lose_their_projection_and_say_so(spherical, tmp_path, suffix):
    assert {Type.STEREO3D, Type.SPHERICAL} <= side_data(spherical).keys()
    assert trip(spherical, tmp_path / f"a{suffix}") == (
        "spherical projection is lost: it was not written",
    )
    assert side_data(tmp_path / f"a{suffix}")[Type.STEREO3D] == side_data(spherical)[Type.STEREO3D]


def test_stereo_that_an_encoder_does_not_hold_is_named(spherical, tmp_path):
    warnings = trip(spherical, tmp_path / "a.webm")
    assert [text for text in warnings if text.startswith("stereo 3D mode is lost")]


def test_copies_keep_projection_and_stereo(spherical, tmp_path):
    middle, back = tmp_path / "a.mkv", tmp_path / "b.mp4"
    assert copy_media(spherical, middle) == ()
    before, after = side_data(spherical), side_data(middle)
    assert after[Type.STEREO3D] == before[Type.STEREO3D]
    assert after[Type.SPHERICAL] == before[Type.SPHERICAL]
    assert copy_media(middle, back) == ()
    assert side_data(back)[Type.SPHERICAL] == before[Type.SPHERICAL]
    assert STEREO.removesuffix(b"\2") in back.read_bytes()


def test_stereo_that_mov_keeps_in_part_is_named(spherical, tmp_path):
    (warning,) = copy_media(spherical, tmp_path / "a.mov")
    assert warning.startswith("stereo 3D mode is lost")
