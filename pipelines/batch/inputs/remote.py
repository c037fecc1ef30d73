"""Inputs that are URLs, read with fsspec: what they stand for, as the driver finds it.

fsspec is imported when the first URL is met. What the protocol needs besides (s3fs, gcsfs, ...) and
the credentials come from where fsspec looks for them: environment, its configuration, the URL.
"""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipelines.batch.inputs.sources import (
    decoded,
    input_name,
    is_web,
    shown,
    split_url,
    url_path,
    without_secrets,
)
from vidinv.errors import MediaError, MissingDependencyError, UsageError

Stamp = dict[str, Any]
Info = Mapping[str, Any]  # fsspec's, of one file

# What the file systems call what changes with a file. Others change when they are read.
_STAMP_FIELDS = (
    *("size", "mtime", "modified", "last_modified", "lastmodified", "last-modified", "updated"),
    *("created", "etag", "content-md5", "md5hash", "crc", "crc32c", "generation", "versionid"),
    *("sha", "date_time"),
)
_WILDCARDS = "*?["
_REQUESTS_AT_ONCE = 16
# aiohttp's own limit is 5 minutes for a whole file.
_CONNECT_SECONDS, SILENCE_SECONDS = 30.0, 60.0


@dataclass(frozen=True)
class RemoteFile:
    """A remote file.

    Attributes:
        name: below the folder or the fixed part of the pattern that was asked for, with ``/``.
        stamp: what tells one state of the file from another, with its ``"size"``; empty when it
            could not be asked for.
    """

    url: str
    name: str
    stamp: Stamp


def find(url: str, wanted: Callable[[str], bool]) -> tuple[RemoteFile, ...]:
    """The files that a URL of a file, a folder or a pattern stands for.

    Args:
        wanted: whether a file of this name is taken from a folder or a pattern.

    Raises:
        MissingDependencyError: the package of its protocol is absent; the message names it.
        UsageError: no such protocol, or nothing there.
        MediaError: the folder cannot be listed.
    """
    fs, path = open_url(url)
    fs.invalidate_cache()  # of an earlier run in this process
    own = url_path(url)
    is_folder = own == "" or own.endswith("/")
    info = None if is_folder else _info(fs, path)
    if info is not None and info["type"] != "directory":
        return (RemoteFile(url, input_name(url), _stamp(info)),)
    if info is None and any(sign in own for sign in _WILDCARDS):
        root = _before_wildcard(path)
        found = _matching(path, _tree(fs, url, root, depth=_depth(path.removeprefix(root))))
        return _below(fs, _before_wildcard(url), root, found, wanted)
    if info is None and not is_folder and wanted(input_name(url)):
        return (RemoteFile(url, input_name(url), {}),)  # its fetching says what is wrong
    if is_web(url) and "?" in url:
        raise UsageError(f"{shown(url)}: a folder with a query; name its files in a manifest")
    found = _tree(fs, url, path)
    if not found:
        raise UsageError(f"{shown(url)}: no such file or folder")
    before, folder, after = split_url(url)
    return _below(
        fs, f"{before}{folder.removesuffix('/')}/{after}", path.rstrip("/") + "/", found, wanted
    )


def check(url: str) -> None:
    """MissingDependencyError or UsageError for a protocol that cannot be read here."""
    core = _fsspec_core(url)
    for bit in url.split("::"):
        with _protocol_errors(url):
            core.get_filesystem_class(bit.partition("://")[0] if "://" in bit else bit)


def stamps(urls: Sequence[str]) -> list[Stamp]:
    """Asks for many files at a time; the stamp of one that does not answer is empty.

    Raises:
        MissingDependencyError, UsageError: as ``check``.
    """
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        return list(pool.map(_stamp_of, urls))


def read_bytes(url: str) -> bytes:
    """The content of a small file; MediaError when it cannot be had."""
    fs, path = open_url(url)
    try:
        return fs.cat_file(path)  # type: ignore[no-any-return]
    except Exception as error:
        raise MediaError(f"{shown(url)}: cannot be read ({reason(error)})") from None


def beside(url: str, name: str) -> str:
    """The URL of a file whose path is given relative to the folder of ``url``."""
    before, own, after = split_url(url)
    return f"{before}{own.partition('?')[0].rpartition('/')[0]}/{name}{after}"


def open_url(url: str, *, silence_seconds: float = SILENCE_SECONDS) -> tuple[Any, str]:
    """The file system of a URL, and its path there.

    Args:
        silence_seconds: how long a web server may send nothing.
    """
    core = _fsspec_core(url)
    with _protocol_errors(url):
        try:
            return core.url_to_fs(url, **_options(url, silence_seconds))  # type: ignore[no-any-return]
        except (ImportError, ValueError):
            raise
        except Exception as error:  # an archive is opened here
            raise MediaError(f"{shown(url)}: cannot be opened ({reason(error)})") from None


def _fsspec_core(url: str) -> Any:
    try:
        return importlib.import_module("fsspec.core")
    except ImportError:
        raise MissingDependencyError(
            f"{shown(url)}: inputs that are URLs need fsspec: pip install -e . "
            "(in the checkout of vidinv)"
        ) from None


@contextlib.contextmanager
def _protocol_errors(url: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingDependencyError(f"{shown(url)}: {error} (on every machine)") from None
    except ValueError as error:
        raise UsageError(f"{shown(url)}: {without_secrets(str(error))}") from None


def _options(url: str, silence_seconds: float) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        return {}
    try:
        aiohttp = importlib.import_module("aiohttp")
    except ImportError:
        return {}  # fsspec says what is missing
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=_CONNECT_SECONDS, sock_read=silence_seconds
    )
    configured = importlib.import_module("fsspec.config").conf.get(url.partition(":")[0], {})
    return {"client_kwargs": {"timeout": timeout, **configured.get("client_kwargs", {})}}


def _info(fs: Any, path: str) -> Info | None:
    try:
        return fs.info(path)  # type: ignore[no-any-return]
    except Exception:  # each protocol has its own; what is wrong shows when the file is asked for
        return None


def _tree(fs: Any, url: str, root: str, *, depth: int | None = None) -> dict[str, Info]:
    """The files below a folder, by path; fsspec's own ``find`` leaves out what it cannot list.

    Args:
        depth: of folders to list; None lists all.
    """
    found: dict[str, Info] = {}
    folders = [(root, 1)]
    while folders:
        folder, level = folders.pop()
        for info in _listing(fs, url, folder, is_root=level == 1):
            path = info["name"]
            if info["type"] != "directory":
                found[path] = info
            elif path.rstrip("/") != folder.rstrip("/") and (depth is None or level < depth):
                # A page may link to what is above it, and so on without end.
                folders += [] if is_web(url) and ".." in path.split("/") else [(path, level + 1)]
    return found


def _listing(fs: Any, url: str, folder: str, *, is_root: bool) -> list[Info]:
    try:
        return fs.ls(folder, detail=True)  # type: ignore[no-any-return]
    except Exception as error:
        if is_root and isinstance(error, FileNotFoundError):
            return []
        place = shown(url) if is_root else f"{shown(url)}: {without_secrets(folder)}"
        raise MediaError(f"{place}: cannot be listed ({reason(error)})") from None


def _matching(pattern: str, found: Mapping[str, Info]) -> dict[str, Info]:
    matches = re.compile(importlib.import_module("fsspec.utils").glob_translate(pattern)).match
    return {path: info for path, info in found.items() if matches(path)}


def _depth(pattern: str) -> int | None:
    return None if "**" in pattern else pattern.count("/") + 1


def _below(
    fs: Any, base: str, root: str, found: Mapping[str, Info], wanted: Callable[[str], bool]
) -> tuple[RemoteFile, ...]:
    """The wanted files of a listing, with URLs below ``base`` for paths below ``root``."""
    before, own, after = split_url(base)
    chosen = []
    for path, info in sorted(found.items()):
        below = path.removeprefix(root).lstrip("/")
        name = decoded(base, below)
        if info["type"] == "file" and wanted(name):
            chosen.append((path, info, f"{before}{own}{below}{after}", name))
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        infos = pool.map(lambda one: _complete(fs, one[0], one[1]), chosen)
        return tuple(
            RemoteFile(url, name, _stamp(info))
            for (_, _, url, name), info in zip(chosen, infos, strict=True)
        )


def _complete(fs: Any, path: str, info: Info) -> Info:
    """A web server's listing is names alone."""
    return info if info.get("size") is not None else _info(fs, path) or {}


def _stamp_of(url: str) -> Stamp:
    try:
        fs, path = open_url(url)
    except MediaError:
        return {}
    return _stamp(_info(fs, path) or {})


def _stamp(info: Info) -> Stamp:
    return {
        key.lower(): _plain(value)
        for key, value in info.items()
        if key.lower() in _STAMP_FIELDS and value is not None
    }


def _plain(value: Any) -> Any:
    """As JSON holds it; the same time in a listing and in an answer is the same number."""
    if isinstance(value, datetime):
        return value.timestamp()
    return value if isinstance(value, (int, float, str)) else str(value)


def _before_wildcard(text: str) -> str:
    """The folder before the first wildcard, with its ``/``, in a URL or a path."""
    before, own, after = split_url(text)
    start = min(place for sign in _WILDCARDS if (place := own.find(sign)) >= 0)
    return f"{before}{own[: own.rfind('/', 0, start) + 1]}{after}"


def reason(error: BaseException) -> str:
    """The cause in one line; fsspec calls every failure of a web server a missing file."""
    cause = error.__cause__ or error
    if isinstance(cause, FileNotFoundError):
        return "no such file"
    text = " ".join(str(cause).split()) or type(cause).__name__
    return without_secrets(text)
