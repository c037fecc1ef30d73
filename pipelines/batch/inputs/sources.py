"""What an input is: a file of this machine or a URL, and what it is called.

Nothing here reaches for the network; ``remote`` does.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_LOCAL_SCHEMES = ("file://", "local://")
_PASSWORD = re.compile(r"(?<=://)[^\s/@]*@")
# A signature or a token belongs to what is beside it: the whole query goes.
_SECRET_QUERY = re.compile(
    r"\?[^\s'\"]*?(?:sig|token|secret|passw|credential|auth|key)[^\s'\"=&]*=[^\s'\"]*",
    re.IGNORECASE,
)


def is_url(text: str) -> bool:
    """It is read with fsspec; ``file://`` is a path of this machine."""
    return "://" in text and ("::" in text or not text.startswith(_LOCAL_SCHEMES))


def local_path(text: str) -> Path:
    """A path as typed, or the one of a ``file://`` URL, which is taken as it is (no %20)."""
    for scheme in _LOCAL_SCHEMES:
        text = text.removeprefix(scheme)
    return Path(text)


def without_secrets(text: str) -> str:
    """A URL, or a message with URLs, without ``user:password@`` and without signed queries."""
    return _SECRET_QUERY.sub("?***", _PASSWORD.sub("", text))


def shown(text: str) -> str:
    """An input as a person may see it."""
    return without_secrets(text) if is_url(text) else text


def split_url(url: str) -> tuple[str, str, str]:
    """A chain in three: ``simplecache::``, ``zip://a/b.mp4`` and ``::file:///x.zip``."""
    bits = url.split("::")
    place = next((n for n, bit in enumerate(bits) if "://" in bit), 0)
    before = "".join(f"{bit}::" for bit in bits[:place])
    return before, bits[place], "".join(f"::{bit}" for bit in bits[place + 1 :])


def url_path(url: str) -> str:
    """The path inside a URL: without scheme, query, and the archive or cache that it lies in."""
    own = split_url(url)[1]
    return urlsplit(own).path if is_web(own) else own.partition("://")[2]


def input_name(text: str) -> str:
    """Name of the file of an input; that of a web address is decoded (``%20``)."""
    if not is_url(text):
        return local_path(text).name
    return decoded(text, url_path(text).rpartition("/")[2])


def is_web(url: str) -> bool:
    """Its path is percent-encoded, and it may have a query."""
    return split_url(url)[1].startswith(("http://", "https://"))


def decoded(url: str, path: str) -> str:
    """A path below ``url`` as the name of a file here."""
    return unquote(path.partition("?")[0]) if is_web(url) else path


def file_stamp(path: Path) -> dict[str, Any]:
    """What tells one state of a file from another; empty for one that cannot be asked."""
    try:
        status = path.stat()
    except OSError:
        return {}
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def absolute(path: Path) -> Path:
    """Links are followed, but for one that leads nowhere: it is what an error is to name."""
    if os.path.exists(path):
        return path.resolve()
    return Path(os.path.realpath(path.parent), path.name)
