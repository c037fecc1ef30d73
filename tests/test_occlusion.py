"""What a parsing network sees in front of a face, where it lies in the crop."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from tests.compose.made_up_change import small_face
from tests.packs.green_parsing import KIND, GreenParser, write_parsing_pack
from vidinv.cli import main
from vidinv.errors import UsageError
from vidinv.faces import ALIGNMENTS
from vidinv.geometry import transform_points
from vidinv.networks.bisenet import BiSeNet, normalise
from vidinv.networks.registry import NETWORKS
from vidinv.occlusion import OccluderFinder, check_occlusion
from vidinv.video import write_image

CPU = torch.device("cpu")
SIZE_PX = 64


def scene(dtype=np.uint8, roll: float = 0.5):
    """A frame of skin with a green hand over mouth and chin of a rolled head."""
    turn = cv2.getRotationMatrix2D((60, 60), np.degrees(roll), 1.0)
    landmarks = transform_points(small_face(120), turn) + np.array([100, 80])
    image = np.full((300, 320, 3), (190, 150, 130), np.uint8)
    hand = cv2.convexHull(np.rint(landmarks[[*range(5, 12), *range(48, 60)]]).astype(np.int32))
    cv2.fillConvexPoly(image, hand, (0, 230, 0))
    return image.astype(dtype) * (257 if dtype == np.uint16 else 1), landmarks.astype(np.float32)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_hand_is_found_where_it_lies_in_the_crop(alignment, dtype):
    image, landmarks = scene(dtype)
    crop = ALIGNMENTS[alignment].crop(landmarks)
    find = OccluderFinder(GreenParser.made(), CPU)
    found = find(image, crop=crop, landmarks_682=landmarks, size_px=SIZE_PX)
    # Where it is: the green channel under the very same crop.
    shown = cv2.warpAffine(
        image[..., 0], crop.crop_to_frame(SIZE_PX), (SIZE_PX, SIZE_PX),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    is_green = shown < np.iinfo(dtype).max * 0.37
    inside, outside = (
        cv2.erode(where.astype(np.uint8), np.ones((5, 5))) > 0 for where in (is_green, ~is_green)
    )
    assert inside.sum() > 10
    assert found[inside].min() > 0.95
    assert found[outside].max() < 0.05
    edge = cv2.dilate(is_green.astype(np.uint8), np.ones((3, 3))) > is_green
    assert np.median(found[edge]) > 0.7  # with a margin


def test_bisenet_keeps_what_is_no_class_of_the_face():
    torch.manual_seed(1)
    network = BiSeNet().eval().requires_grad_(False)
    network.conv_out.conv_out.weight.mul_(1000.0)  # untrained, all classes are as likely
    network.input_px = 64
    image, landmarks = scene()
    crop = ALIGNMENTS["ffhq"].crop(landmarks)
    found = OccluderFinder(network, CPU)(image, crop=crop, landmarks_682=landmarks, size_px=64)
    assert found.shape == (64, 64)
    face = [*range(1, 6), 7, 8, *range(10, 15)]  # of docs/REFERENCES.md, "Face parsing"
    view = cv2.warpAffine(
        image, crop.crop_to_frame(64), (64, 64), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    x = torch.from_numpy(view.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    expected = 1 - network(normalise(x)).softmax(1)[0, face].sum(0).numpy()
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)  # the margin, a pixel here
    expected = cv2.dilate(expected, cross)
    assert np.abs(found - expected).mean() < 0.02
    assert expected.std() > 0.03


def test_a_word_that_is_none_is_refused():
    with pytest.raises(UsageError, match="occlusion 'on': there are: auto, off"):
        check_occlusion("on")


@pytest.mark.parametrize("command", ["edit", "batch", "bench video"])
def test_every_command_that_edits_takes_the_option(command, monkeypatch, tmp_path):
    """What each of them asks for, without doing it."""
    asked = []

    def stopped(*arguments, **options):
        spec = options.get("spec")
        asked.append(spec.occlusion if spec else options.get("occlusion"))
        raise UsageError("stopped")

    monkeypatch.setattr("vidinv.api.edit", stopped)
    monkeypatch.setattr("pipelines.bench.video.measure_video", stopped)
    monkeypatch.setattr(
        "pipelines.batch.driver.run", lambda request: stopped(occlusion=request.occlusion)
    )
    rest = [] if command == "bench video" else ["-o", str(tmp_path / "o.mp4")]
    assert main([*command.split(), "a.mp4", *rest, "--attr", "smile", "--occlusion", "off"]) == 2
    assert asked == ["off"]


@pytest.mark.parametrize("command", ["edit", "batch"])
def test_a_damaged_parsing_network_is_told_before_any_work(command, monkeypatch, tmp_path, capsys):
    """Of a picture without a face, which nobody would parse; and nobody does where it is off."""
    monkeypatch.setitem(NETWORKS["parsing"], KIND, GreenParser)
    pack, still, output = write_parsing_pack(tmp_path / "p"), tmp_path / "a.png", tmp_path / "out"
    write_image(still, np.full((64, 96, 3), 90, np.uint8))
    (pack / "parsing.safetensors").write_bytes(b"")
    target = output / "b.png" if command == "edit" else output
    edit = [command, str(still), "-o", str(target), "--pack", str(pack), "--attr", "smile"]
    edit += ["--dry-run"] if command == "batch" else []
    output.mkdir()
    assert main(edit) == 1
    assert "parsing.safetensors is damaged or was changed" in capsys.readouterr().err
    assert list(output.iterdir()) == []
    assert main([*edit, "--occlusion", "off"]) == 0
