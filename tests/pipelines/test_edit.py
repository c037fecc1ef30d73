"""``edit`` and ``invert`` from file to file: streams kept, faces changed, nothing lost."""

from __future__ import annotations

import json
import os
import shutil

import av
import numpy as np
import psutil
import pytest
from PIL import Image as PillowImage
from PIL import ImageCms

import vidinv
from pipelines.demo import make_clip as make_face_clip
from tests.packs.tiny import write_tiny_pack
from tests.pipelines.passes import Passes
from tests.video.clips import (
    comment_of,
    images_of,
    packets_of,
    plain_times,
    psnr,
    side_by_side,
    write_clip,
)
from vidinv.errors import DecodeError, UnknownNameError, UsageError
from vidinv.packs import load_pack
from vidinv.paths import sole_writer
from vidinv.provenance import credentials, is_edit_comment, read_credentials
from vidinv.video import EncodeOptions, read_image, read_with_alpha, rgb_profile, write_image


@pytest.fixture(scope="module")
def pack():
    return load_pack()


@pytest.fixture(scope="module")
def face_clip(pack, tmp_path_factory):
    """A face that the default pack generates: these tests run in a public clone too."""
    return make_face_clip(pack, tmp_path_factory.mktemp("clip") / "face.mp4", seconds=0.8)


@pytest.fixture(scope="module")
def smiling(pack, face_clip, tmp_path_factory):
    output = tmp_path_factory.mktemp("edit") / "smiling.mp4"
    return vidinv.edit(face_clip, output, attributes={"smile": 1.5}, pack=pack), output


def face_box(image: np.ndarray) -> np.ndarray:
    return image[150:362, 150:362]


def test_edit_changes_the_face_and_keeps_the_rest(face_clip, smiling):
    source, edited = images_of(face_clip), images_of(smiling[1])
    assert len(edited) == len(source) == 20
    for before, after in zip(source, edited, strict=True):
        assert np.abs(face_box(before).astype(int) - face_box(after)).mean() > 1
        assert psnr(before[:40], after[:40]) > 40


def test_timestamps_and_audio_are_the_sources(face_clip, smiling):
    assert plain_times(smiling[1]) == plain_times(face_clip)
    assert packets_of(smiling[1]) == packets_of(face_clip)
    assert packets_of(face_clip)


def test_the_output_says_that_it_is_edited(pack, smiling):
    assert f"smile=1.5; method fse; pack {pack.name}" in comment_of(smiling[1])


@pytest.mark.parametrize("suffix", [".mp4", ".png"])
def test_outputs_are_signed_where_that_is_wanted(pack, face_clip, tmp_path, monkeypatch, suffix):
    if not credentials.is_installed():
        pytest.skip("needs c2pa-python: pip install -e '.[credentials]'")
    monkeypatch.setenv(credentials.SWITCH, "on")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (face,) = images_of(face_clip, limit=1)
    source, output = tmp_path / f"face{suffix}", tmp_path / f"out{suffix}"
    write_image(source, face) if suffix == ".png" else write_clip(source, [face] * 2)
    vidinv.edit(source, output, attributes={"smile": 1}, pack=pack)
    found = read_credentials(output)
    assert found["validation_state"] == "Valid"
    made_from = found["manifests"][found["active_manifest"]]["ingredients"]
    assert [source["title"] for source in made_from] == [source.name]


def test_the_result_says_what_was_done(face_clip, smiling):
    result, output = smiling
    fields = result.as_dict()
    assert (fields["input"], fields["output"]) == (str(face_clip), str(output))
    assert (result.frames, result.faces_edited, result.frames_without_face) == (20, 20, 0)
    assert [(t.first, t.last, t.frames) for t in result.tracks] == [(0, 19, 20)]
    assert result.attributes == {"smile": 1.5}
    assert result.fps > 0
    # What earlier tests left in this process counts, their children do not.
    own_mb = psutil.Process().memory_info().rss / 2**20
    assert 100 < result.peak_rss_mb < own_mb + 1000
    assert -1 <= result.identity.similarity_min <= result.identity.similarity_mean <= 1
    assert 0 < result.identity.ic_source <= 1
    json.dumps(fields)


def test_strength_zero_gives_back_the_source(pack, face_clip, tmp_path):
    output = tmp_path / "same.mp4"
    result = vidinv.edit(face_clip, output, attributes={"smile": 0}, pack=pack)
    assert result.faces_edited == 0
    assert any("strength is 0" in warning for warning in result.warnings)
    pairs = zip(images_of(face_clip), images_of(output), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_keyframes_leave_the_time_before_them_alone(pack, face_clip, tmp_path):
    output = tmp_path / "later.mp4"
    keys = [(0.4, 0.0), (0.7, 1.5)]
    vidinv.edit(face_clip, output, attributes={"smile": keys}, pack=pack)
    source, edited = images_of(face_clip), images_of(output)
    pairs = zip(source[:8], edited[:8], strict=True)
    assert min(psnr(face_box(a), face_box(b)) for a, b in pairs) >= 40
    assert psnr(face_box(source[-1]), face_box(edited[-1])) < 35


def test_invert_shows_the_inversion_not_the_source(pack, face_clip, tmp_path):
    output = tmp_path / "inverted.mp4"
    result = vidinv.invert(face_clip, output, pack=pack)
    assert result.attributes == {}
    assert result.faces_edited == 20
    source, inverted = images_of(face_clip)[5], images_of(output)[5]
    assert psnr(face_box(source), face_box(inverted)) < 39


def test_a_picture_is_edited_as_a_picture(pack, face_clip, tmp_path):
    still, output = tmp_path / "face.png", tmp_path / "smiling.png"
    write_image(still, images_of(face_clip, limit=1)[0])
    result = vidinv.edit(still, output, attributes={"smile": 1.5}, pack=pack)
    assert (result.frames, result.faces_edited) == (1, 1)
    before, after = read_image(still), read_image(output)
    assert before.shape == after.shape
    assert np.array_equal(before[:40], after[:40])
    assert is_edit_comment(comment_of(output))
    assert np.abs(face_box(before).astype(int) - face_box(after)).mean() > 1


def test_a_faceless_clip_is_copied_and_said(pack, tmp_path):
    clip, output = tmp_path / "none.mp4", tmp_path / "out.mp4"
    write_clip(clip, [np.full((64, 96, 3), 90, np.uint8)] * 10, audio=True)
    result = vidinv.edit(clip, output, attributes={"smile": 1}, pack=pack)
    assert (result.frames, result.faces_edited, result.frames_without_face) == (10, 0, 10)
    assert any("no face" in warning for warning in result.warnings)
    assert packets_of(output, "video") == packets_of(clip, "video")
    assert comment_of(output) is None


def test_a_faceless_picture_is_copied(pack, tmp_path):
    still, same, other = (tmp_path / name for name in ("a.png", "b.png", "c.jpg"))
    write_image(still, np.full((64, 96, 3), 90, np.uint8))
    vidinv.edit(still, same, attributes={"smile": 1}, pack=pack)
    assert same.read_bytes() == still.read_bytes()
    vidinv.edit(still, other, attributes={"smile": 1}, pack=pack)
    assert read_image(other).shape == (64, 96, 3)


def test_transparency_that_is_lost_is_said(pack, face_clip, tmp_path):
    face = images_of(face_clip, limit=1)[0]
    clear, hard = (np.full((*face.shape[:2], 1), alpha, np.uint8) for alpha in (99, 255))
    for name, picture, outputs in (
        ("face", np.dstack([face, clear]), {"out.png": False, "out.jpg": True}),
        ("hard", np.dstack([face, hard]), {"out.png": False}),
        ("none", np.dstack([clear] * 4), {"copied.png": False, "made.webp": False}),
    ):
        still = tmp_path / f"{name}.png"
        PillowImage.fromarray(picture).save(still)
        for output, lost in outputs.items():
            result = vidinv.edit(
                still, tmp_path / output, attributes={"smile": 1}, pack=pack, overwrite=True
            )
            assert result.faces_edited == (name != "none")
            assert any("transparency of" in text for text in result.warnings) == lost
            alpha = read_with_alpha(tmp_path / output)[1]
            kept = 255 if lost or name == "hard" else 99
            assert (255 if alpha is None else set(alpha.flat)) in (kept, {kept})


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_deep_picture_changes_in_the_face_alone(pack, face_clip, tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 257, (512, 512, 3), np.uint16)
    face = images_of(face_clip, limit=1)[0].astype(np.uint16) * 256 + noise[:, :, :1]
    write_image(tmp_path / f"a{suffix}", face)
    output = tmp_path / f"b{suffix}"
    result = vidinv.edit(tmp_path / f"a{suffix}", output, attributes={"smile": 1.5}, pack=pack)
    after = read_image(output)
    assert not any("16 bits" in text for text in result.warnings)
    assert after.dtype == np.uint16
    assert np.array_equal(after[:40], face[:40])
    assert np.array_equal(after[:, :40], face[:, :40])
    assert np.abs(face_box(after).astype(int) - face_box(face)).mean() > 257


def test_an_edited_picture_keeps_its_colour_profile(pack, face_clip, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    write_image(tmp_path / "a.png", images_of(face_clip, limit=1)[0], profile=profile)
    result = vidinv.edit(tmp_path / "a.png", tmp_path / "b.jpg", attributes={"smile": 1}, pack=pack)
    assert result.faces_edited == 1
    assert rgb_profile(tmp_path / "b.jpg") == profile


def test_an_animation_is_no_picture(pack, tmp_path):
    first, second = (PillowImage.new("RGB", (96, 64), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "a.webp", save_all=True, append_images=[second])
    with pytest.raises(DecodeError, match=r"a\.webp: an animation of 2 frames; convert it"):
        vidinv.edit(tmp_path / "a.webp", tmp_path / "b.webp", attributes={"smile": 1}, pack=pack)
    assert not (tmp_path / "b.webp").exists()


def test_all_edits_everyone_and_largest_one(pack, face_clip, tmp_path):
    other = make_face_clip(pack, tmp_path / "other.mp4", seconds=0.4, seed=1, tone=False)
    left, right = images_of(face_clip)[:10], images_of(other)
    pair = write_clip(tmp_path / "pair.mp4", side_by_side(left, right))
    both = vidinv.edit(pair, tmp_path / "all.mp4", attributes={"smile": 1}, pack=pack, face="all")
    one = vidinv.edit(pair, tmp_path / "one.mp4", attributes={"smile": 1}, pack=pack)
    assert both.faces_edited == 20
    assert one.faces_edited == 10


def test_faces_are_numbers_in_python_too(pack, face_clip, tmp_path):
    write_image(tmp_path / "face.png", images_of(face_clip, limit=1)[0])
    how = {"attributes": {"smile": 1}, "pack": pack}
    for face in ((0, 1), np.int64(1)):
        with pytest.raises(UsageError, match="no face 1 in the clip: it has only face 0"):
            vidinv.edit(tmp_path / "face.png", tmp_path / "out.png", face=face, **how)
    for face in ((), (0, "all"), 1.5, True):
        with pytest.raises(UsageError, match="give 'largest', 'all', a number, several"):
            vidinv.edit(tmp_path / "face.png", tmp_path / "out.png", face=face, **how)


def test_attributes_have_names(tmp_path):
    with pytest.raises(UsageError, match="attributes: 0 is no name, such as 'smile'"):
        vidinv.edit(tmp_path / "face.png", tmp_path / "out.png", attributes={0: 1})


def test_damaged_input_leaves_nothing(pack, face_clip, tmp_path):
    broken, output = tmp_path / "broken.mp4", tmp_path / "out.mp4"
    data = bytearray(face_clip.read_bytes())
    broken.write_bytes(data[: len(data) // 3])
    with pytest.raises(DecodeError, match=r"broken\.mp4"):
        vidinv.edit(broken, output, attributes={"smile": 1}, pack=pack)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken.mp4"]


def test_an_interrupt_leaves_nothing(pack, face_clip, tmp_path):
    how = {"attributes": {"smile": 1}, "progress": Passes(interrupted="edit", after=5)}
    with pytest.raises(KeyboardInterrupt):
        vidinv.edit(face_clip, tmp_path / "out.mp4", pack=pack, **how)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("output", "message"),
    [("face.mp4", "is the input itself"), ("taken.mp4", "exists"), ("out.png", "names a picture")],
)
def test_outputs_that_would_lose_something_are_refused(pack, face_clip, tmp_path, output, message):
    clip = tmp_path / "face.mp4"
    shutil.copy(face_clip, clip)
    (tmp_path / "taken.mp4").write_bytes(b"precious")
    with pytest.raises(UsageError, match=message):
        vidinv.edit(clip, tmp_path / output, attributes={"smile": 1}, pack=pack)
    assert (tmp_path / "taken.mp4").read_bytes() == b"precious"
    assert clip.read_bytes() == face_clip.read_bytes()


def test_paths_are_checked_before_any_work(pack, face_clip, tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    for source, output, message in (
        (tmp_path, "out.mp4", "is a folder: `vidinv batch`"),
        ("-", "out.mp4", "is a pipe"),
        (face_clip, "folder.mp4", "is a folder: name the file"),
        (face_clip, "absent/out.mp4", "does not exist; make it first"),
        (face_clip, "x" * 300 + ".mp4", "longer than 255 bytes"),
    ):
        with pytest.raises(UsageError, match=message):
            vidinv.invert(source, tmp_path / output, pack=pack)
    assert os.listdir(tmp_path) == ["folder.mp4"]


def test_a_long_name_behind_a_link_is_written_by_one_run_only(pack, tmp_path):
    clip, link, target = tmp_path / "a.mp4", tmp_path / "out.mp4", tmp_path / ("x" * 246 + ".mp4")
    write_clip(clip, [np.full((64, 96, 3), 90, np.uint8)] * 5)
    link.symlink_to(target)
    with sole_writer(target), pytest.raises(UsageError, match="written by another run"):
        vidinv.invert(clip, link, pack=pack)
    vidinv.invert(clip, link, pack=pack)
    assert link.is_symlink()
    assert len(images_of(target)) == 5
    assert len(os.listdir(tmp_path)) == 3


def test_another_camera_is_named_when_the_first_shows_no_face(pack, tmp_path):
    clip, both = tmp_path / "a.mp4", tmp_path / "both.mp4"
    write_clip(clip, [np.full((64, 96, 3), 90, np.uint8)] * 5)
    with av.open(str(clip)) as source, av.open(str(both), "w") as target:
        kept = source.streams.video[0]
        streams = [target.add_stream_from_template(kept) for _ in range(2)]
        for packet in source.demux(kept):
            data, times = bytes(packet), (packet.pts, packet.dts)
            for stream in streams if times[1] is not None else ():
                copy = av.Packet(data)
                copy.pts, copy.dts = times
                copy.time_base, copy.duration = packet.time_base, packet.duration
                copy.is_keyframe, copy.stream = packet.is_keyframe, stream
                target.mux(copy)
    result = vidinv.edit(both, tmp_path / "out.mp4", attributes={"smile": 1}, pack=pack)
    assert any("not searched: #1 (h264)" in warning for warning in result.warnings)
    alone = vidinv.edit(clip, tmp_path / "alone.mp4", attributes={"smile": 1}, pack=pack)
    assert not any("not searched" in warning for warning in alone.warnings)


@pytest.mark.parametrize("name", ["a.jfif", "a.bmp", "a.tif"])
def test_pictures_of_other_kinds_are_pictures(pack, tmp_path, name):
    write_image(tmp_path / name, np.full((64, 96, 3), 90, np.uint8))
    result = vidinv.edit(tmp_path / name, tmp_path / "o.png", attributes={"smile": 1}, pack=pack)
    assert result.frames == 1
    with pytest.raises(UsageError, match=r"\.heic pictures are not supported"):
        vidinv.edit(tmp_path / name, tmp_path / "o.heic", attributes={"smile": 1}, pack=pack)


def test_overwrite_replaces(pack, tmp_path):
    clip, output = tmp_path / "none.mp4", tmp_path / "out.mp4"
    write_clip(clip, [np.full((64, 96, 3), 90, np.uint8)] * 5)
    output.write_bytes(b"old")
    vidinv.edit(clip, output, attributes={"smile": 1}, pack=pack, overwrite=True)
    assert len(images_of(output)) == 5


@pytest.mark.parametrize("command", ["edit", "invert"])
@pytest.mark.parametrize(
    ("output", "encode", "message"),
    [
        ("a.mp4", EncodeOptions(preset="bogus"), "--preset bogus: libx264 takes ultrafast"),
        ("a.webm", EncodeOptions(crf=-5), "--crf -5: libvpx-vp9 takes 0 to 63"),
        ("a.mp4", EncodeOptions("ffv1"), r"\.mp4 does not hold ffv1"),
        ("a.xyz", None, r"cannot write \.xyz video"),
    ],
)
def test_what_cannot_be_encoded_is_refused_before_anything_is_read(
    pack, tmp_path, command, output, encode, message
):
    wish = {"attributes": {"smile": 1}} if command == "edit" else {}
    with pytest.raises(UsageError, match=message):
        getattr(vidinv, command)(
            tmp_path / "absent.mp4", tmp_path / output, pack=pack, encode=encode, **wish
        )


def test_unknown_names_are_refused_before_anything_is_read(pack, tmp_path):
    missing = tmp_path / "missing.mp4"
    with pytest.raises(UnknownNameError, match=r"smlie.*there are: smile"):
        vidinv.edit(missing, tmp_path / "o.mp4", attributes={"smlie": 1}, pack=pack)
    with pytest.raises(UnknownNameError, match=r"psp.*there are: .*fse"):
        vidinv.edit(missing, tmp_path / "o.mp4", attributes={"smile": 1}, pack=pack, method="psp")
    with pytest.raises(UsageError, match="nothing to change"):
        vidinv.edit(missing, tmp_path / "o.mp4", attributes={}, pack=pack)


def test_a_strength_out_of_range_is_said(pack, tmp_path):
    still = tmp_path / "a.png"
    write_image(still, np.full((64, 96, 3), 90, np.uint8))
    result = vidinv.edit(still, tmp_path / "b.png", attributes={"smile": 50}, pack=pack)
    assert any("smile=50 is outside the range" in warning for warning in result.warnings)


def test_a_pack_of_other_sizes_serves_as_well(face_clip, tmp_path):
    tiny = write_tiny_pack(tmp_path / "tiny")
    result = vidinv.edit(face_clip, tmp_path / "o.mp4", attributes={"age": 1}, pack=tiny)
    assert result.pack == "tiny"
    assert result.faces_edited == 20


CLIPS = [
    ("greenscreen_512.mp4", 78, 0),
    ("grid_bbaf2n.mpg", 75, 0),
    ("fullbody_720x1080.mp4", 103, 0),
]
MORE_CLIPS = [
    ("expression_512.mp4", 354, 0),
    ("talk_hand_512.mp4", 183, 0),
    ("portrait_glasses_720x1280.mp4", 352, 0),
    ("landscape_1280x720.mp4", 282, 0),
    ("outdoor_720x1364.mp4", 160, 0),
    ("grid_lbax4n.mpg", 75, 0),
    ("grid_pwij3p.mpg", 75, 0),
    ("cuts_crowd.mp4", 275, 140),
    ("sign_smallface.mkv", 63, 40),
    ("noface_bottle.mp4", None, None),
    ("rotate90_noface.mov", None, None),
]


@pytest.mark.parametrize(("name", "frames", "most_missed"), CLIPS)
def test_real_clips_keep_their_streams(pack, shared_dir, tmp_path, name, frames, most_missed):
    check_real_clip(pack, shared_dir / "clips" / name, tmp_path, frames, most_missed)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "frames", "most_missed"), MORE_CLIPS)
def test_all_real_clips_keep_their_streams(pack, shared_dir, tmp_path, name, frames, most_missed):
    check_real_clip(pack, shared_dir / "clips" / name, tmp_path, frames, most_missed)


def check_real_clip(pack, clip, tmp_path, frames, most_missed) -> None:
    output = tmp_path / ("out" + (clip.suffix if clip.suffix != ".mpg" else ".mp4"))
    result = vidinv.edit(clip, output, attributes={"smile": 1}, pack=pack)
    times, kept = plain_times(clip), plain_times(output)
    assert result.frames == len(times) == len(kept)
    tolerance = 1e-3 if output.suffix == ".mkv" else 1e-6
    assert max(abs(float(a - b)) for a, b in zip(times, kept, strict=True)) <= tolerance
    assert [data for *_, data in packets_of(output)] == [data for *_, data in packets_of(clip)]
    if frames is None:
        assert result.faces_edited == 0
        return
    assert result.frames == frames
    assert result.frames_without_face <= most_missed
