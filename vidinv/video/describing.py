"""What a file says in its metadata, for people who look into it: tags, streams, comment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from PIL import ExifTags

from vidinv.errors import DecodeError
from vidinv.video.images import is_image_path, opened_picture
from vidinv.video.isolation import ChildDied, ChildProcess, ChildStalled

WORKER = "vidinv.video.describe_worker"
STALL_SECONDS = 20.0
_MOST_TEXT = 500  # characters of a tag: some hold whole documents


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """``kind`` (picture or clip), ``format``, ``tags`` and ``streams`` of a file, as plain types.

    Raises:
        DecodeError: it is missing or damaged, or neither a clip nor a picture.
    """
    return _picture(path) if is_image_path(path) else _clip(path)


def comment_of(description: dict[str, Any]) -> str | None:
    """The comment among its tags; a picture's is the description in its EXIF data."""
    names = ("comment", "imagedescription")
    found = (text for name, text in description["tags"].items() if name.lower() in names)
    return next(found, None)


def _picture(path: str | os.PathLike[str]) -> dict[str, Any]:
    with opened_picture(path) as picture:
        exif = picture.getexif()
        named = {ExifTags.TAGS.get(tag, str(tag)): value for tag, value in exif.items()}
        plain = {**_texts(picture.info), **_texts(named)}
        size = f"{picture.width}x{picture.height}"
        stream = {"index": 0, "kind": "picture", "codec": picture.format, "size": size, "tags": {}}
        return {
            "kind": "picture",
            "format": picture.format,
            "tags": plain,
            "streams": [stream],
        }


def _texts(values: dict[Any, Any]) -> dict[str, str]:
    """Those that are short enough to be read, and no bytes."""
    kinds = (str, int, float)
    return {
        str(name): str(value)[:_MOST_TEXT]
        for name, value in values.items()
        if isinstance(value, kinds)
    }


def _clip(path: str | os.PathLike[str]) -> dict[str, Any]:
    if not Path(path).is_file():
        raise DecodeError(f"{path}: no such file")
    child = ChildProcess(WORKER, request={"path": os.path.abspath(path)})
    try:
        answer = child.receive(timeout_seconds=STALL_SECONDS)
    except ChildStalled:
        raise DecodeError(f"{path}: reading hung for {STALL_SECONDS:g} s") from None
    except ChildDied as error:
        raise DecodeError(f"{path}: the reader crashed ({error})") from None
    finally:
        child.close()
    if "error" in answer:
        raise DecodeError(f"{path}: {answer['error']}")
    found: dict[str, Any] = answer["description"]
    return found
