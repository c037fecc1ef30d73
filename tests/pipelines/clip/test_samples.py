"""Identity figures of a run: those of dlib's own code, on real faces."""

from __future__ import annotations

import dataclasses

import pytest

import pipelines.clip.networks
import vidinv
from tests.faces.dlib_reference import DlibOwnEmbedder
from tests.video.clips import images_of, write_clip
from vidinv.faces import Backend, dlib_backend


@pytest.mark.parametrize("name", ["greenscreen_512", "talk_hand_512"])
def test_figures_of_an_edit_are_those_of_dlib(shared_dir, tmp_path, name):
    clip = write_clip(
        tmp_path / "clip.mp4", images_of(shared_dir / "clips" / f"{name}.mp4", limit=16)
    )

    def figures(output):
        return dataclasses.asdict(vidinv.edit(clip, output, attributes={"smile": 1}).identity)

    ours = figures(tmp_path / "ours.mp4")
    found = dlib_backend()
    theirs = Backend(found.detector, found.landmarks, DlibOwnEmbedder())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipelines.clip.networks, "dlib_backend", lambda **_: theirs)
        assert figures(tmp_path / "theirs.mp4") == pytest.approx(ours, abs=1e-3)
    assert None not in ours.values()
