"""Content credentials: what is signed, by whom, and what happens where that is not possible."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.video.clips import make_clip, packets_of, pattern
from vidinv.errors import MissingDependencyError, UsageError
from vidinv.files import temporary_path
from vidinv.provenance import (
    CredentialOptions,
    EditedFrom,
    Finisher,
    check_credentials,
    credentials,
    read_credentials,
)
from vidinv.provenance.credentials import SWITCH, CredentialError, key_file, manifest
from vidinv.types import EditSpec, RenderMode
from vidinv.video import copy_media, write_image
from vidinv.video.credentials_mark import has_credentials

SPEC = EditSpec({"smile": ((0.0, 1.5),)})
needs_c2pa = pytest.mark.skipif(
    not credentials.is_installed(), reason="needs c2pa-python: pip install -e '.[credentials]'"
)


@pytest.fixture(autouse=True)
def own_key(tmp_path_factory, monkeypatch) -> None:
    """Every output is signed, with a key that is not the user's."""
    monkeypatch.setenv(SWITCH, "on")
    folder = tmp_path_factory.getbasetemp() / "config"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "a.mp4", num_frames=2)


def sign(source: Path, output: Path, data: bytes, **options) -> list[str]:
    """Put ``data`` into place at ``output`` as a writer does; the warnings."""
    edited = EditedFrom(source, source.name, SPEC, "faces")
    finisher = Finisher(CredentialOptions(**options), output, edited)
    temporary = temporary_path(output)
    temporary.write_bytes(data)
    finisher(temporary)
    temporary.replace(output)
    assert os.listdir(output.parent) == [output.name]
    return finisher.warnings


def active(found: dict) -> dict:
    return found["manifests"][found["active_manifest"]]


def test_the_manifest_names_source_edit_and_program():
    edited = EditedFrom(Path("x/a.mp4"), "a.mp4", SPEC, "faces")
    made = manifest("b.mp4", "video/mp4", edited)
    opened, edit = made["assertions"][0]["data"]["actions"]
    assert opened["action"] == "c2pa.opened"
    assert edit["action"] == "c2pa.edited"
    assert edit["digitalSourceType"].endswith("/compositeWithTrainedAlgorithmicMedia")
    assert edit["parameters"]["vidinv.attributes"] == {"smile": 1.5}
    assert made["claim_generator_info"][0]["name"] == "vidinv"
    inverted = EditedFrom(Path("a"), "a", EditSpec(SPEC.attributes, mode=RenderMode.INVERT), "p")
    edit = manifest("b.mp4", "video/mp4", inverted)["assertions"][0]["data"]["actions"][1]
    assert edit["parameters"]["vidinv.attributes"] == {}


@needs_c2pa
def test_a_signed_clip_says_what_was_done_and_shows_later_changes(clip, tmp_path):
    output = tmp_path / "b.mp4"
    assert sign(clip, output, clip.read_bytes()) == []
    found = read_credentials(output)
    assert found["validation_state"] == "Valid"
    assert [source["title"] for source in active(found)["ingredients"]] == ["a.mp4"]
    assert active(found)["ingredients"][0]["relationship"] == "parentOf"
    assert "self-signed" in active(found)["signature_info"]["common_name"]
    assert packets_of(output, "video") == packets_of(clip, "video")
    assert stat.S_IMODE(key_file().stat().st_mode) == 0o600
    data = bytearray(output.read_bytes())
    data[data.index(b"mdat") + 40] ^= 1
    output.write_bytes(data)
    assert read_credentials(output)["validation_state"] == "Invalid"


@needs_c2pa
def test_sources_of_any_kind_are_named(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    source, picture = tmp_path / "a.jpg", tmp_path / "b.png"
    source.write_bytes(b"no picture at all")
    write_image(picture, pattern(0))
    assert sign(source, folder / "c.png", picture.read_bytes()) == []
    found = active(read_credentials(folder / "c.png"))
    assert [i["title"] for i in found["ingredients"]] == ["a.jpg"]


@needs_c2pa
def test_a_file_that_cannot_be_signed_is_kept_and_said(clip, tmp_path):
    (warning,) = sign(clip, tmp_path / "b.mp4", b"no clip")
    assert warning.startswith("content credentials could not be added (")
    assert (tmp_path / "b.mp4").read_bytes() == b"no clip"


@needs_c2pa
def test_a_container_without_credentials_is_said(clip, tmp_path):
    assert sign(clip, tmp_path / "b.mkv", b"x") == [
        ".mkv files hold no content credentials: it is not signed"
    ]


@pytest.mark.parametrize("how", ["option", "environment"])
def test_nothing_is_signed_where_it_is_not_wanted(clip, tmp_path, monkeypatch, how):
    if how == "environment":
        monkeypatch.setenv(SWITCH, "off")
    assert sign(clip, tmp_path / "b.mp4", b"x", enabled=how != "option") == []
    assert (tmp_path / "b.mp4").read_bytes() == b"x"


@needs_c2pa
def test_a_certificate_of_ones_own_signs(clip, tmp_path):
    from vidinv.provenance.keys import new_pem

    pem, folder = tmp_path / "mine.pem", tmp_path / "out"
    folder.mkdir()
    pem.write_bytes(new_pem())
    mine = {"certificate": str(pem), "key": str(pem)}
    check_credentials(CredentialOptions(**mine))
    assert sign(clip, folder / "b.mp4", clip.read_bytes(), **mine) == []
    other = tmp_path / "other.pem"
    other.write_bytes(new_pem())
    with pytest.raises(UsageError, match="private key is not that of the certificate"):
        check_credentials(CredentialOptions(certificate=str(pem), key=str(other)))


@needs_c2pa
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"x", "not in PEM format"),
        (b"expired", "not valid at time of signing"),
    ],
)
def test_a_certificate_that_cannot_sign_is_refused(tmp_path, content, message):
    from vidinv.provenance.keys import new_pem

    pem = tmp_path / "mine.pem"
    if content is not None:
        pem.write_bytes(new_pem(valid_days=-1) if content == b"expired" else content)
    with pytest.raises(UsageError, match=message):
        check_credentials(CredentialOptions(certificate=str(pem), key=str(pem)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"certificate": "a.pem"}, "go together"),
        ({"key": "a.pem"}, "go together"),
        ({"enabled": False, "certificate": "a", "key": "b"}, "exclude each other"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        check_credentials(CredentialOptions(**options))


def test_a_certificate_without_the_optional_part_is_refused(monkeypatch):
    if credentials.is_installed():
        pytest.skip("c2pa-python is here")
    with pytest.raises(MissingDependencyError, match=r"pip install -e '\.\[credentials\]'"):
        check_credentials(CredentialOptions(certificate="a", key="b"))


@needs_c2pa
def test_the_key_of_an_installation_is_made_once_and_again_when_it_has_expired(tmp_path):
    from vidinv.provenance.keys import installation_pem, new_pem

    path = tmp_path / "config" / "vidinv" / "credentials.pem"
    first = installation_pem(path)
    assert installation_pem(path) == first
    path.write_bytes(new_pem(valid_days=-1))
    expired = path.read_bytes()
    assert installation_pem(path) not in (expired, first)
    assert os.listdir(path.parent) == [path.name]


def test_a_worker_that_dies_is_a_reason():
    with pytest.raises(CredentialError, match="c2pa crashed"):
        credentials.ask("check", worker="tests.provenance.absent_worker")


def test_options_travel_as_plain_values(monkeypatch):
    monkeypatch.setenv(SWITCH, "off")
    assert CredentialOptions().resolved() == CredentialOptions(enabled=False)
    named = CredentialOptions(certificate="a", key="b").resolved()
    assert named.enabled
    assert named.certificate == os.path.abspath("a")


@needs_c2pa
def test_credentials_of_a_source_that_are_lost_are_said(clip, tmp_path):
    signed, still = tmp_path / "s" / "a.mp4", tmp_path / "p" / "a.png"
    for path in (signed, still):
        path.parent.mkdir()
    sign(clip, signed, clip.read_bytes())
    write_image(tmp_path / "plain.png", pattern(0))
    sign(clip, still, (tmp_path / "plain.png").read_bytes())
    assert [has_credentials(path) for path in (signed, still)] == [True, True]
    assert [has_credentials(path) for path in (clip, tmp_path / "plain.png")] == [False, False]
    assert copy_media(signed, tmp_path / "same.mp4") == ()
    assert read_credentials(tmp_path / "same.mp4")["validation_state"] == "Valid"
    for suffix in (".mkv", ".mov"):
        (warning,) = copy_media(signed, tmp_path / f"b{suffix}")
        assert warning.startswith("the content credentials of the source are lost")
    folder = tmp_path / "out"
    folder.mkdir()
    (warning,) = sign(signed, folder / "c.mp4", clip.read_bytes(), enabled=False)
    assert warning.endswith("the output is not signed")
