"""The key of this installation: made at its first use, with a certificate that it signs itself.

It tells whether a file was changed since, and which files one installation made. It does not tell
who that is: nobody has checked a name, so verifiers call the signer unknown.
"""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vidinv.files import temporary_path

VALID_DAYS = 3650
NAME = "vidinv installation (self-signed)"


def installation_pem(path: Path) -> bytes:
    """Private key and certificate in one PEM file, made where it is missing or has expired.

    Raises:
        OSError: it can neither be read nor made.
    """
    try:
        pem = path.read_bytes()
    except FileNotFoundError:
        return _made(path, replace=False)
    expires = x509.load_pem_x509_certificate(pem).not_valid_after_utc
    return pem if expires > datetime.now(UTC) else _made(path, replace=True)


def _made(path: Path, *, replace: bool) -> bytes:
    """A new file, for the user alone; of two runs that make it at once, the first one's counts."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = temporary_path(path)
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(new_pem())
        if replace:
            os.replace(temporary, path)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path.read_bytes()


def new_pem(*, valid_days: int = VALID_DAYS) -> bytes:
    """A new P-256 key and a certificate of it, as C2PA asks for (specification 2.2, 14.5.1)."""
    key = ec.generate_private_key(ec.SECP256R1())
    encoded = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return encoded + _certificate(key, valid_days).public_bytes(Encoding.PEM)


def _certificate(key: ec.EllipticCurvePrivateKey, valid_days: int) -> x509.Certificate:
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, NAME),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, NAME),
        ]
    )
    public, now = key.public_key(), datetime.now(UTC)
    usage = dict.fromkeys(
        (
            *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        ),
        False,
    )
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.KeyUsage(digital_signature=True, **usage), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False),
        (x509.SubjectKeyIdentifier.from_public_key(public), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False),
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1, minutes=1))  # clocks differ
        .not_valid_after(now + timedelta(days=valid_days))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, hashes.SHA256())
