"""Makes a certificate for this machine's own server, for clients that insist on `wss`."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from .core.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, GeneralName

__all__ = ["LOCAL_NAMES", "MadeCertificate", "make_certificate"]

LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")

LIFE: Final = timedelta(days=365)


class MadeCertificate(Struct, frozen=True):
    """A certificate and its key in files; `fingerprint` is SHA-256 in hex."""

    cert: Path
    key: Path
    expires_at: datetime
    fingerprint: str


def make_certificate(folder: Path, names: Sequence[str], *, replace: bool) -> MadeCertificate:
    """Write `cert.pem` and `key.pem` for `names`, which may be addresses; only we can read the key.

    The certificate vouches for itself and for nothing else: who trusts it trusts these names, not
    an authority whose key lies about on this machine.

    :raises RequestError: `not_supported` where the package `cryptography` is missing;
        `invalid_parameter` when the files exist and shall not be replaced.
    :raises OSError: when they cannot be written.
    """
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    if not replace and (cert_file.exists() or key_file.exists()):
        text = f"{folder} has a certificate already; --force replaces it"
        raise RequestError("invalid_parameter", text)
    try:
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ModuleNotFoundError:
        text = "making a certificate needs cryptography: pip install 'tabagent[tls]'"
        raise RequestError("not_supported", text) from None

    key = ec.generate_private_key(ec.SECP256R1())
    cert = _self_signed(key, names)
    pem = serialization.Encoding.PEM
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(key_file, key.private_bytes(pem, pkcs8, plain), 0o600)
    _write(cert_file, cert.public_bytes(pem), 0o644)
    fingerprint = cert.fingerprint(hashes.SHA256()).hex(":").upper()
    return MadeCertificate(cert_file, key_file, cert.not_valid_after_utc, fingerprint)


def _self_signed(key: EllipticCurvePrivateKey, names: Sequence[str]) -> Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "TabAgent")])
    public, now = key.public_key(), datetime.now(UTC)
    usage = dict.fromkeys(
        (
            *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        ),
        False,
    )
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (
        (x509.SubjectAlternativeName([_general_name(name) for name in names]), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.KeyUsage(digital_signature=True, **usage), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectKeyIdentifier.from_public_key(public), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False),
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + LIFE)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, hashes.SHA256())


def _general_name(name: str) -> GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(file: Path, content: bytes, mode: int) -> None:
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as stream:
        stream.write(content)
