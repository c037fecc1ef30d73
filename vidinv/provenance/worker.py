"""The child process in which c2pa runs; ``credentials`` starts it, see ``vidinv.video.isolation``.

It answers ``{"done": true}``, ``{"credentials": ...}`` or ``{"error": reason}``, after heartbeats
while it hashes. It never uses the network: no time-stamp authority, no remote manifests, no
revocation lists.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import c2pa
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509 import load_pem_x509_certificates

from vidinv.provenance.keys import installation_pem
from vidinv.video.isolation import Channel, Heartbeat

_SETTINGS = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    # A thumbnail of a person is a picture that nobody asked to be kept.
    "builder": {"thumbnail": {"enabled": False}},
    # What is larger waits on the disk: by default, signing 400 MB took 800 MB of memory, so 440.
    # (Hashing reads up to 256 MiB ahead.)
    "core": {"backing_store_memory_threshold_in_mb": 16},
}
_CURVES = {
    "secp256r1": c2pa.C2paSigningAlg.ES256,
    "secp384r1": c2pa.C2paSigningAlg.ES384,
    "secp521r1": c2pa.C2paSigningAlg.ES512,
}
_ANY_KIND = "application/octet-stream"


class _Refused(Exception):
    """One line for the user."""


def main() -> None:
    """Serve one request, then leave."""
    channel = Channel()
    request = channel.receive()
    channel.set_on_parent_gone(lambda: _remove(request.get("signed")))
    heartbeat = Heartbeat(channel)
    try:
        answer = _TASKS[request["task"]](request, heartbeat)
    except Exception as error:
        _remove(request.get("signed"))
        known = isinstance(error, (_Refused, c2pa.C2paError, OSError))
        answer = {"error": str(error) if known else f"{type(error).__name__}: {error}"}
    channel.send(answer)
    os._exit(0)


def _remove(path: str | None) -> None:
    if path is not None:
        with contextlib.suppress(OSError):
            Path(path).unlink(missing_ok=True)


def _check(request: dict[str, Any], heartbeat: Heartbeat) -> dict[str, Any]:
    """Sign a picture of one pixel, so that a key that does not serve is known before the work."""
    from PIL import Image

    pixel = io.BytesIO()
    Image.new("RGB", (1, 1)).save(pixel, "PNG")
    kind = "http://c2pa.org/digitalsourcetype/empty"
    created = {"action": "c2pa.created", "digitalSourceType": kind}
    actions = {"label": "c2pa.actions.v2", "data": {"actions": [created]}}
    with _builder({"format": "image/png", "assertions": [actions]}) as builder:
        builder.sign(_signer(request["signer"]), "image/png", pixel, io.BytesIO())
    return {"done": True}


def _sign(request: dict[str, Any], heartbeat: Heartbeat) -> dict[str, Any]:
    os.environ["TMPDIR"] = os.path.dirname(request["signed"])  # a disk that has room for it
    with (
        _builder(request["manifest"]) as builder,
        _Beating(request["path"], "rb", heartbeat) as plain,
        _Beating(request["signed"], "w+b", heartbeat) as signed,
    ):
        for source in request["ingredients"]:
            _add_source(builder, source, heartbeat)
        builder.sign(_signer(request["signer"]), request["kind"], plain, signed)
        signed.flush()
    return {"done": True}


def _add_source(builder: c2pa.Builder, source: dict[str, str], heartbeat: Heartbeat) -> None:
    """Name a source, with its own credentials where it has some that can be read."""
    ingredient = {name: source[name] for name in ("title", "relationship", "label")}
    for kind in (source["kind"], _ANY_KIND):
        try:
            with _Beating(source["path"], "rb", heartbeat) as file:
                builder.add_ingredient(ingredient, kind, file)
            break
        except c2pa.C2paError:
            if kind == _ANY_KIND:
                raise


def _read(request: dict[str, Any], heartbeat: Heartbeat) -> dict[str, Any]:
    with c2pa.Context(c2pa.Settings.from_dict(_SETTINGS)) as context:
        try:
            with c2pa.Reader(request["path"], context=context) as reader:
                return {"credentials": json.loads(reader.json())}
        except (c2pa.C2paError.ManifestNotFound, c2pa.C2paError.NotSupported):
            return {"credentials": None}


_TASKS = {"check": _check, "sign": _sign, "read": _read}


@contextlib.contextmanager
def _builder(manifest: dict[str, Any]) -> Iterator[c2pa.Builder]:
    with (
        c2pa.Context(c2pa.Settings.from_dict(_SETTINGS)) as context,
        c2pa.Builder(manifest, context=context) as builder,
    ):
        yield builder


def _signer(where: dict[str, str]) -> c2pa.Signer:
    """Of the key that is named, or of this installation's."""
    if "own" in where:
        pem = key_pem = installation_pem(Path(where["own"]))
    else:
        pem, key_pem = (Path(where[name]).read_bytes() for name in ("certificate", "key"))
    try:
        key, chain = load_pem_private_key(key_pem, password=None), load_pem_x509_certificates(pem)
    except TypeError:
        raise _Refused("the private key is encrypted: decrypt it first") from None
    except ValueError:
        raise _Refused("certificate or private key is not in PEM format") from None
    if key.public_key() != chain[0].public_key():
        raise _Refused("the private key is not that of the certificate")
    info = c2pa.C2paSignerInfo(
        _algorithm(key),
        b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        None,  # no time-stamp authority
    )
    return c2pa.Signer.from_info(info)


def _algorithm(private: Any) -> c2pa.C2paSigningAlg:
    if isinstance(private, rsa.RSAPrivateKey):
        return c2pa.C2paSigningAlg.PS256
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return c2pa.C2paSigningAlg.ED25519
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in _CURVES:
        return _CURVES[private.curve.name]
    raise _Refused("a key of a kind that C2PA does not take; use P-256, P-384, RSA or Ed25519")


class _Beating(io.FileIO):
    """A file whose reads and writes show that the work goes on."""

    def __init__(self, path: str, mode: str, heartbeat: Heartbeat) -> None:
        super().__init__(path, mode)
        self._heartbeat = heartbeat

    def read(self, size: int | None = -1, /) -> Any:
        self._heartbeat.beat()
        return super().read(size)

    def write(self, data: Any, /) -> int:
        self._heartbeat.beat()
        return super().write(data) or 0
