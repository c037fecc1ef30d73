"""Still pictures in and out."""

from __future__ import annotations

import os

import av
import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageCms, features

from tests.video.clips import comment_of, pattern, psnr
from vidinv.errors import DecodeError, EncodeError, UsageError
from vidinv.video import (
    check_kind,
    is_image_path,
    keeps_alpha,
    keeps_comment,
    picture_tags,
    read_image,
    read_with_alpha,
    rgb_profile,
    same_kind,
    write_image,
)
from vidinv.video.images import PictureTags
from vidinv.video.isolation import end_real_time_priority


@pytest.mark.parametrize(
    ("name", "least_db"),
    [("a.png", 100), ("a.JPG", 38), ("a.webp", 32), ("a.jfif", 38), ("a.bmp", 100), ("a.tif", 100)],
)
def test_picture_comes_back(tmp_path, name, least_db):
    write_image(tmp_path / name, pattern(0))
    image = read_image(tmp_path / name)
    assert (image.shape, image.dtype) == ((64, 96, 3), np.uint8)
    assert psnr(image, pattern(0)) > least_db
    assert os.listdir(tmp_path) == [name]


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_comes_back(tmp_path):
    write_image(tmp_path / "a.avif", pattern(0))
    assert psnr(read_image(tmp_path / "a.avif"), pattern(0)) > 32


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.avif"])
def test_a_comment_is_kept_where_a_picture_has_one(tmp_path, name):
    if not is_image_path(name):
        pytest.skip("this Pillow has no AVIF")
    write_image(tmp_path / name, pattern(0))
    assert comment_of(tmp_path / name) is None
    write_image(tmp_path / name, pattern(0), comment="edited (smile=1)")
    assert keeps_comment(name)
    assert comment_of(tmp_path / name) == "edited (smile=1)"
    assert not keeps_comment("a.BMP")


@pytest.mark.parametrize("name", ["a.heic", "a.JXL", "a.dng", "a.psd"])
def test_other_kinds_of_pictures_are_refused_by_name(name):
    with pytest.raises(UsageError, match=rf"{name}: .* pictures are not supported; convert it to"):
        check_kind(name)
    assert not is_image_path(name)


@pytest.mark.parametrize("name", ["a.png", "a.jfif", "a.tiff", "a.mp4", "a.gif", "a"])
def test_known_kinds_and_clips_are_not_refused(name):
    check_kind(name)


def test_kinds_are_formats_whatever_the_extension():
    assert same_kind("a.jpg", "b.JFIF")
    assert not same_kind("a.jpg", "b.png")


def test_a_picture_of_108_megapixels_is_read(tmp_path):
    PillowImage.new("1", (12000, 9000)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (9000, 12000, 3)
    PillowImage.new("1", (20000, 14000)).save(tmp_path / "b.png")
    with pytest.raises(DecodeError, match=r"too many pixels \(20000x14000"):
        read_image(tmp_path / "b.png")


@pytest.mark.parametrize("name", ["a.tif", "a.avif"])
def test_orientation_of_other_kinds_is_applied_once(tmp_path, name):
    if not is_image_path(name):
        pytest.skip("this Pillow has no AVIF")
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    PillowImage.fromarray(pattern(0)).save(tmp_path / name, exif=exif)
    assert psnr(read_image(tmp_path / name), np.rot90(pattern(0), -1)) > 25


def test_pages_are_refused(tmp_path):
    first, second = (PillowImage.fromarray(pattern(n)) for n in range(2))
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    with pytest.raises(DecodeError, match=r"a\.tif: 2 pages"):
        read_image(tmp_path / "a.tif")


def test_orientation_is_applied(tmp_path):
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to display
    PillowImage.fromarray(pattern(0)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), np.rot90(pattern(0), -1))


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "CMYK"])
def test_other_modes_become_rgb(tmp_path, mode):
    name = "a.jpg" if mode == "CMYK" else "a.png"
    PillowImage.fromarray(pattern(0)).convert(mode).save(tmp_path / name)
    assert read_image(tmp_path / name).shape == (64, 96, 3)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_grey_keeps_its_shades(tmp_path, name):
    grey = np.arange(0, 1 << 16, 64, np.uint16).reshape(32, 32)
    PillowImage.fromarray(grey).save(tmp_path / name)
    assert np.array_equal(read_image(tmp_path / name), np.dstack([grey] * 3))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("transparent", [False, True])
def test_16_bits_a_colour_come_back_with_all_that_is_said(tmp_path, name, transparent):
    image = pattern(0, dtype="uint16")
    alpha = image[..., 1] // 2 + 7 if transparent else None
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = PictureTags(dpi=(144.0, 144.0), bits=16)
    assert tags.lost_in(name) == []
    write_image(
        tmp_path / name, image, alpha=alpha, profile=profile, tags=tags, comment="edited (smile=1)"
    )
    back, opacity = read_with_alpha(tmp_path / name)
    assert np.array_equal(back, image)
    assert (opacity is None) if alpha is None else np.array_equal(opacity, alpha)
    assert comment_of(tmp_path / name) == "edited (smile=1)"
    assert rgb_profile(tmp_path / name) == profile
    found = picture_tags(tmp_path / name)
    assert found.bits == 16
    assert found.dpi == pytest.approx((144, 144), abs=0.1)
    pixels = cv2.imread(str(tmp_path / name), cv2.IMREAD_UNCHANGED)  # as others see it
    assert np.array_equal(pixels[..., 2::-1], image)


def test_16_bits_become_8_where_a_kind_has_no_more(tmp_path):
    image = pattern(0, dtype="uint16")
    write_image(tmp_path / "a.bmp", image)
    assert np.array_equal(read_image(tmp_path / "a.bmp"), np.round(image / 257).astype(np.uint8))
    (text,) = PictureTags(bits=16).lost_in("a.jpg")
    assert text.startswith("16 bits a colour of the picture: JPEG")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_pictures_are_turned_as_others(tmp_path, orientation):
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    deep, flat = tmp_path / "deep.png", tmp_path / "flat.png"
    write_image(deep, pattern(0, dtype="uint16"), tags=PictureTags(exif=exif.tobytes()))
    write_image(flat, pattern(0), tags=PictureTags(exif=exif.tobytes()))
    assert np.abs(read_image(deep) / 257 - read_image(flat)).max() < 1


def test_a_damaged_deep_picture_fails(tmp_path):
    write_image(tmp_path / "a.png", pattern(0, dtype="uint16"))
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(DecodeError, match=r"a\.png: the picture is damaged"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp", "a.avif"])
def test_transparency_comes_back(tmp_path, name):
    if not is_image_path(name):
        pytest.skip("this Pillow has no AVIF")
    alpha = pattern(0)[..., 1]
    write_image(tmp_path / name, pattern(0), alpha=alpha)
    image, back = read_with_alpha(tmp_path / name)
    lossless = name != "a.avif"
    assert np.abs(back.astype(int) - alpha).max() <= (0 if lossless else 12)
    assert psnr(image, pattern(0)) > 30
    assert keeps_alpha(name)
    assert not keeps_alpha("a.jpg")


def test_tags_of_storage_do_not_go_into_other_pictures(tmp_path):
    write_image(tmp_path / "a.tif", pattern(0))
    tags = picture_tags(tmp_path / "a.tif")
    write_image(tmp_path / "b.tif", np.rot90(pattern(1)), tags=tags)
    assert np.array_equal(read_image(tmp_path / "b.tif"), np.rot90(pattern(1)))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_ten_bits_of_avif_are_said_to_be_lost(tmp_path):
    write_image(tmp_path / "a.avif", pattern(0))
    assert picture_tags(tmp_path / "a.avif").lost_in("a.avif") == []
    with av.open(str(tmp_path / "a.avif"), "w") as output:
        stream = output.add_stream("libsvtav1", rate=1)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p10le"
        frame = av.VideoFrame.from_ndarray(pattern(0), "rgb24")
        packets = stream.encode(frame)
        end_real_time_priority()  # which this encoder takes, run by root
        output.mux([*packets, *stream.encode(None)])
    (text,) = picture_tags(tmp_path / "a.avif").lost_in("a.avif")
    assert text.startswith("10 bits a colour")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_the_colour_profile_is_kept(tmp_path, name):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    write_image(tmp_path / name, pattern(0), profile=profile)
    assert rgb_profile(tmp_path / name) == profile
    write_image(tmp_path / name, pattern(0))
    assert rgb_profile(tmp_path / name) is None
    grey = profile[:16] + b"GRAY" + profile[20:]
    PillowImage.fromarray(pattern(0)).convert("L").save(tmp_path / name, icc_profile=grey)
    assert rgb_profile(tmp_path / name) is None  # it does not speak of the RGB that is read


@pytest.mark.parametrize(
    ("name", "mode", "lost"),
    [
        ("a.png", "RGB", False),
        ("a.jpg", "RGB", False),
        ("a.png", "RGBA", True),
        ("a.webp", "RGBA", True),
        ("a.png", "LA", True),
        ("a.png", "P", True),
    ],
)
def test_transparency_is_known(tmp_path, name, mode, lost):
    picture = PillowImage.fromarray(pattern(0)).convert(mode)
    picture.save(tmp_path / name)
    assert read_with_alpha(tmp_path / name)[1] is None  # there may be a channel that hides nothing
    if not lost:
        return
    if mode == "P":
        picture.save(tmp_path / name, transparency=picture.getpixel((3, 3)))
    else:
        picture.putpixel((3, 3), (*picture.getpixel((3, 3))[:-1], 0))
        picture.save(tmp_path / name, lossless=True)
    alpha = read_with_alpha(tmp_path / name)[1]
    assert alpha[3, 3] == 0
    assert alpha.max() == 255


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_animation_fails(tmp_path, name):
    first, *others = (PillowImage.fromarray(pattern(n)) for n in range(3))
    first.save(tmp_path / name, save_all=True, append_images=others)
    with pytest.raises(DecodeError, match="an animation of 3 frames; convert it"):
        read_image(tmp_path / name)


def test_jpeg_with_a_second_picture_is_still(tmp_path):
    first, second = (PillowImage.fromarray(pattern(n)) for n in range(2))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second], quality=95)
    assert psnr(read_image(tmp_path / "a.jpg"), pattern(0)) > 30


def test_missing_picture_fails(tmp_path):
    with pytest.raises(DecodeError, match=r"a\.png: no such file"):
        read_image(tmp_path / "a.png")


def test_no_picture_fails(tmp_path):
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(DecodeError, match="not a picture"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_cut_short_picture_fails(tmp_path, name):
    write_image(tmp_path / name, pattern(0))
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(DecodeError, match="damaged") as error:
        read_image(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "mark"), [("a.tif", b"II"), ("a.avif", b"mdat")])
def test_flipped_bytes_are_damage_and_nothing_else_is_printed(tmp_path, capfd, name, mark):
    if not is_image_path(name):
        pytest.skip("this Pillow has no AVIF")
    write_image(tmp_path / name, pattern(0))
    data = bytearray((tmp_path / name).read_bytes())
    start = data.index(mark) + 10
    data[start : start + 60] = bytes(60)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DecodeError, match=name):
        read_image(tmp_path / name)
    assert capfd.readouterr() == ("", "")
    os.write(2, b"still there")
    assert capfd.readouterr().err == "still there"


def test_too_large_picture_fails(tmp_path, monkeypatch):
    write_image(tmp_path / "a.png", pattern(0))
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(DecodeError, match="too many pixels"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("name", "image"), [("a.heic", pattern(0)), ("a.png", pattern(0).astype(float))]
)
def test_unsupported_output_fails(tmp_path, name, image):
    with pytest.raises(UsageError):
        write_image(tmp_path / name, image)
    assert os.listdir(tmp_path) == []


def test_missing_folder_fails(tmp_path):
    with pytest.raises(EncodeError, match="cannot be written"):
        write_image(tmp_path / "absent" / "a.png", pattern(0))


def test_image_paths():
    assert is_image_path("x/A.PNG")
    assert not is_image_path("a.mp4")


def test_what_a_camera_says_comes_back(shared_dir, tmp_path):
    source = shared_dir / "inputs" / "11_photo_exif_gps_xmp.jpg"
    before = picture_tags(source)
    write_image(tmp_path / "a.jpg", read_image(source), tags=before, comment="edited")
    after = picture_tags(tmp_path / "a.jpg")
    assert (after.xmp, after.dpi) == (before.xmp, before.dpi)
    with PillowImage.open(source) as a, PillowImage.open(tmp_path / "a.jpg") as b:
        one, other = a.getexif(), b.getexif()
        assert dict(other.get_ifd(0x8825)) == dict(one.get_ifd(0x8825)) != {}  # GPS
        assert other.get(0x010F) == one.get(0x010F)  # make
    assert before.lost_in("a.jpg") == []
    assert [text[:4] for text in before.lost_in("a.bmp")] == ["EXIF", "XMP "]


def test_sixteen_bits_of_a_real_picture_are_read(shared_dir):
    image = read_image(shared_dir / "inputs" / "17_rgb16.png")
    assert image.dtype == np.uint16
    assert image.max() > 255
