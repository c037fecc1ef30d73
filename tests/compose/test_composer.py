"""Composer: exact where nothing changes, sharp where something does, steady over time."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.compose.faces import face_mask, generator_pair, look, mask_in_frame, scene
from tests.compose.made_up_change import mean_landmarks, small_face, smile_warp
from vidinv.compose import Composer
from vidinv.faces import FFHQ, TIGHT
from vidinv.faces import face_mask as region_of_landmarks
from vidinv.geometry import transform_points
from vidinv.metrics import masked_psnr, psnr
from vidinv.types import Crop


def smile(frame, crop, *, size_px=128, detail=True, composer=None, **change):
    composer = composer or Composer(detail=detail)
    parts = generator_pair(look(frame, crop, size_px), **change)
    return composer.compose(frame, crop=crop, mask=face_mask(size_px), **parts)


def high_frequencies(image, inside):
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(np.square(gray - cv2.GaussianBlur(gray, (0, 0), 2))[inside].mean())


@pytest.mark.parametrize("size_px", [64, 128])
def test_strength_zero_gives_the_source_bit_for_bit(size_px):
    frame, crop = scene()
    assert np.array_equal(smile(frame, crop, size_px=size_px, strength=0.0), frame)


def test_a_small_strength_changes_little_and_more_changes_more():
    frame, crop = scene()
    distances = [100 - psnr(smile(frame, crop, strength=s), frame) for s in (0.1, 0.4, 1.0)]
    assert distances == sorted(distances)
    assert distances[0] < distances[2] - 5


@pytest.mark.parametrize("detail", [True, False])
@pytest.mark.parametrize("side_px", [60.0, 220.0, 290.0])
def test_nothing_changes_outside_the_mask(detail, side_px):
    frame, crop = scene(side_px=side_px)
    output = smile(frame, crop, detail=detail, teeth=True)
    outside = ~mask_in_frame(face_mask(), crop, frame.shape)
    assert np.array_equal(output[outside], frame[outside])
    assert not np.array_equal(output, frame)


@pytest.mark.parametrize("aspect", [64 / 45, 3 / 4])
def test_a_frame_of_pixels_that_are_not_square_changes_as_it_is_seen(aspect):
    """Squeezed before or after the edit: the same picture."""
    frame, crop = scene()
    size = (round(frame.shape[1] / aspect), frame.shape[0])
    exact = frame.shape[1] / size[0]

    def squeezed(picture):
        return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)

    narrow = Crop(*crop.as_array(), pixel_aspect=exact)
    found = smile(squeezed(frame), narrow, teeth=True)
    expected = squeezed(smile(frame, crop, teeth=True))
    assert psnr(found, expected) > psnr(squeezed(frame), expected) + 8


def test_the_input_is_not_modified():
    frame, crop = scene()
    before = frame.copy()
    smile(frame, crop)
    assert np.array_equal(frame, before)


def test_detail_transfer_moves_the_mouth_and_keeps_texture():
    frame, crop = scene()
    wanted = smile_warp(look(frame, crop, 512), mean_landmarks(512))
    matrix, size = crop.crop_to_frame(512), frame.shape[1::-1]
    target = cv2.warpAffine(wanted, matrix, size, flags=cv2.INTER_AREA)
    mouth = np.zeros((128, 128), np.uint8)
    cv2.fillConvexPoly(mouth, cv2.convexHull(mean_landmarks(128)[48:60].astype(np.int32)), 1)
    mouth = mask_in_frame(cv2.dilate(mouth, np.ones((7, 7))), crop, frame.shape)
    detailed, pasted = smile(frame, crop), smile(frame, crop, detail=False)
    # Measured: source 18.2, detail 34.0, paste 34.5 dB.
    assert masked_psnr(detailed, target, mouth) > masked_psnr(frame, target, mouth) + 2
    energy = high_frequencies(frame, mouth)
    assert high_frequencies(detailed, mouth) > 0.6 * energy
    assert high_frequencies(pasted, mouth) < 0.5 * energy


@pytest.mark.parametrize("blur", [1 / 400, 1 / 128])  # all, and half of the fine contrast
def test_teeth_come_from_the_generator(blur):
    frame, crop = scene()
    x, y = (crop.crop_to_frame(128) @ [*mean_landmarks(128)[[62, 66]].mean(0), 1]).astype(int)
    patch = np.s_[y - 1 : y + 2, x - 3 : x + 4]
    assert smile(frame, crop, teeth=True, blur=blur)[patch].mean() > frame[patch].mean() + 60
    assert smile(frame, crop, teeth=False, blur=blur)[patch].mean() < frame[patch].mean() + 40


@pytest.mark.parametrize(("sigma_px", "least", "most"), [(0.0, 0.95, 1.05), (0.8, 0.88, 1.1)])
def test_what_a_soft_generator_shows_anew_is_made_as_crisp_as_the_source(sigma_px, least, most):
    """Stripes of a generator as sharp as the source, or softer: 0.74 of its picture before."""
    rng = np.random.default_rng(0)
    source = rng.normal(128, 20, (128, 128, 1)).repeat(3, axis=2).astype(np.float32)
    stripes = np.full((128, 128, 3), 128, np.float32)
    stripes[:, ::6] = stripes[:, 1::6] = stripes[:, 2::6] = 200
    edited = source.copy()
    edited[70:90, 40:88] = stripes[70:90, 40:88]

    def soft(picture: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(picture, (0, 0), sigma_px) if sigma_px else picture

    output = Composer().compose(
        source.clip(0, 255).astype(np.uint8),
        crop=Crop(63.5, 63.5, 64.0, 0.0),
        source_crop=source,
        rendered=soft(source),
        edited=soft(edited),
        mask=face_mask(),
    )
    new = np.s_[74:86, 46:82, 1]
    contrast = output[new].std() / soft(edited)[new].std()
    assert least < contrast < most


def test_what_the_generator_shows_anew_has_the_colour_of_the_source():
    """Brown irises that a generator makes blue stay brown while it opens the eyes."""
    source = np.full((128, 128, 3), (200, 160, 140), np.float32)
    closed, opened = source.copy(), source.copy()
    brown, blue = (110, 70, 40), (60, 80, 110)
    for picture, colour, radius in ((source, brown, 4), (closed, blue, 4), (opened, blue, 8)):
        for x in (40, 88):
            cv2.circle(picture, (x, 44), radius, colour, -1)
    crop = Crop(63.5, 63.5, 64.0, 0.0)
    output = Composer().compose(
        source.astype(np.uint8),
        crop=crop,
        source_crop=source,
        rendered=closed,
        edited=opened,
        mask=face_mask(),
    )
    iris = output[43:46, 39:42].reshape(-1, 3).mean(0)
    assert iris[0] > iris[1] + 15 > iris[2] + 25


def test_a_blurred_generator_moves_the_lips_but_adds_no_light_and_no_colour():
    frame, crop = scene()
    sharp, blurred = (smile(frame, crop, teeth=True, blur=b) for b in (1 / 400, 1 / 40))
    x, y = (crop.crop_to_frame(128) @ [*mean_landmarks(128)[[62, 66]].mean(0), 1]).astype(int)
    patch = np.s_[y - 1 : y + 2, x - 3 : x + 4]
    assert sharp[patch].mean() > frame[patch].mean() + 60
    assert blurred[patch].mean() < sharp[patch].mean() - 20  # at most skin that was moved there
    inside = mask_in_frame(face_mask(), crop, frame.shape)
    assert high_frequencies(blurred, inside) > 0.8 * high_frequencies(frame, inside)
    chroma = [image[..., 0].astype(float) - image[..., 2] for image in (blurred, frame)]
    assert abs((chroma[0] - chroma[1])[inside].mean()) < 1
    assert not np.array_equal(blurred, frame)


def test_a_blurred_generator_may_darken_an_opened_mouth():
    frame, crop = scene()
    source = look(frame, crop)
    rendered = cv2.GaussianBlur(source, (0, 0), 3)
    opened = np.zeros((128, 128), np.float32)
    x, y = mean_landmarks(128)[[62, 66]].mean(0).astype(int)
    cv2.ellipse(opened, (int(x), int(y)), (12, 5), 0, 0, 360, 1, -1)
    dark = rendered - 80 * cv2.GaussianBlur(opened, (0, 0), 2)[..., None]
    parts = {"source_crop": source, "rendered": rendered, "edited": dark}
    output = Composer().compose(frame, crop=crop, mask=face_mask(), **parts)
    x, y = (crop.crop_to_frame(128) @ [x, y, 1]).astype(int)
    patch = np.s_[y - 2 : y + 3, x - 4 : x + 5]
    assert output[patch].mean() < frame[patch].mean() - 20


def test_a_faint_drift_of_colour_far_from_the_change_leaves_the_skin_alone():
    frame, crop = scene()
    parts = generator_pair(look(frame, crop))
    y, x = np.mgrid[:128, :128] / 128
    parts["edited"] = parts["edited"] + (2.5 * np.sin(3 * x + 2 * y))[..., None].astype(np.float32)
    output = Composer().compose(frame, crop=crop, mask=face_mask(), **parts)
    forehead = np.zeros((128, 128), np.uint8)
    forehead[15:28, 40:88] = 1
    forehead = mask_in_frame(forehead, crop, frame.shape)
    assert np.abs(output.astype(int) - frame)[forehead].max() <= 1


def test_a_strong_change_of_tone_is_kept():
    frame, crop = scene()
    source = look(frame, crop)
    blurred = cv2.GaussianBlur(source, (0, 0), 0.3)
    parts = {"source_crop": source, "rendered": blurred, "edited": blurred - 25}
    output = Composer().compose(frame, crop=crop, mask=face_mask(), **parts)
    middle = mask_in_frame(cv2.erode(face_mask(), np.ones((31, 31))), crop, frame.shape)
    assert (output.astype(float) - frame)[middle].mean() == pytest.approx(-25, abs=3)


def test_paste_matches_the_tone_of_the_border():
    frame, crop = scene()
    source = look(frame, crop)
    parts = {"source_crop": source, "rendered": source, "edited": source + 20}
    output = Composer(detail=False).compose(frame, crop=crop, mask=face_mask(), **parts)
    inside = mask_in_frame(face_mask(), crop, frame.shape)
    assert abs((output.astype(float) - frame)[inside].mean()) < 2


@pytest.mark.parametrize("detail", [True, False])
def test_uint16_agrees_with_uint8(detail):
    frame, crop = scene()
    parts = generator_pair(look(frame, crop))
    shallow, deep = (
        Composer(detail=detail).compose(image, crop=crop, mask=face_mask(), **parts)
        for image in (frame, frame.astype(np.uint16) * 257)
    )
    assert deep.dtype == np.uint16
    # OpenCV interpolates 8 bits with coarser weights: measured 65 dB.
    assert psnr(deep / 257.0, shallow) > 55
    outside = ~mask_in_frame(face_mask(), crop, frame.shape)
    assert np.array_equal(deep[outside], frame[outside].astype(np.uint16) * 257)


@pytest.mark.parametrize("center", [(20.0, 150.0), (310.0, 290.0), (160.0, -40.0)])
@pytest.mark.parametrize("detail", [True, False])
def test_a_face_partly_outside_the_frame(center, detail):
    frame, crop = scene(center=center)
    output = smile(frame, crop, detail=detail, teeth=True)
    assert output.shape == frame.shape
    outside = ~mask_in_frame(face_mask(), crop, frame.shape)
    assert np.array_equal(output[outside], frame[outside])


def test_a_face_wholly_outside_leaves_the_frame():
    frame, _ = scene()
    crop = Crop(-500.0, -500.0, 100.0, 0.0)
    parts = generator_pair(look(*scene()))
    assert Composer().compose(frame, crop=crop, mask=face_mask(), **parts) is frame


def test_an_empty_mask_leaves_the_frame():
    frame, crop = scene()
    parts = generator_pair(look(frame, crop))
    assert Composer().compose(frame, crop=crop, mask=np.zeros((128, 128)), **parts) is frame


def test_pictures_of_different_size_fail():
    frame, crop = scene()
    parts = generator_pair(look(frame, crop))
    with pytest.raises(ValueError, match=r"edited.*\(64, 64, 3\)"):
        Composer().compose(
            frame, crop=crop, mask=face_mask(), **{**parts, "edited": parts["edited"][:64, :64]}
        )
    with pytest.raises(ValueError, match="mask"):
        Composer().compose(frame, crop=crop, mask=face_mask(64), **parts)


def test_a_frame_of_another_type_fails():
    frame, crop = scene()
    parts = generator_pair(look(frame, crop))
    with pytest.raises(ValueError, match="float32"):
        Composer().compose(frame.astype(np.float32), crop=crop, mask=face_mask(), **parts)


@pytest.mark.parametrize(("detail", "most"), [(True, 0.2), (False, 0.04)])
def test_a_wider_crop_of_the_same_face_gives_about_the_same_frame(detail, most):
    """A made-up change in the tight crop at 180 px and, as many pixels a face, FFHQ's at 256."""
    frame, crop = scene(width=480, height=480, center=(240.0, 270.0))
    landmarks = transform_points(small_face(128), crop.crop_to_frame(128))
    pictures = []
    for alignment, size_px in ((TIGHT, 180), (FFHQ, 256)):
        crop, scale = alignment.crop(landmarks), alignment.crop_scale
        points = transform_points(landmarks, crop.frame_to_crop(size_px))
        source = look(frame, crop, size_px)
        smiling = smile_warp(source, points, teeth=True)
        blur = [cv2.GaussianBlur(picture, (0, 0), 1.0) for picture in (source, smiling)]
        pictures.append(
            Composer(detail=detail, crop_scale=scale).compose(
                frame,
                crop=crop,
                source_crop=source,
                rendered=blur[0],
                edited=blur[1],
                mask=region_of_landmarks(landmarks, crop=crop, size_px=size_px, crop_scale=scale),
            )
        )
    tight, wide = (picture.astype(float) for picture in pictures)
    # Measured: 0.14 and 0.02; with fields and masks in units of the crop 0.42 and 0.12.
    assert np.abs(wide - tight).mean() < most * np.abs(tight - frame).mean()
