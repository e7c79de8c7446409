"""TLS: what `tabagent cert` makes, what the server refuses to show, and who trusts whom."""

from __future__ import annotations

import socket
import ssl
import stat
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from tabagent.certificate import MadeCertificate, make_certificate
from tabagent.config import Config, ConfigError
from tabagent.core.errors import RequestError
from tabagent.tls import client_context, server_context

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


NAMES = ("localhost", "127.0.0.1", "::1", "box.lan")


@pytest.fixture
def made(tmp_path: Path) -> MadeCertificate:
    return make_certificate(tmp_path / "tls", NAMES, replace=False)


def served(made: MadeCertificate) -> ssl.SSLContext:
    context = server_context(Config(tls_cert=str(made.cert), tls_key=str(made.key)))
    assert context is not None
    return context


def trusting(made: MadeCertificate) -> ssl.SSLContext:
    """What a client does that is told of one more certificate, as strictly as there is."""
    context = ssl.create_default_context(cafile=str(made.cert))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def connect(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> str | None:
    """Shake hands over a real socket; gives the version of TLS, or raises what the client saw."""
    ours, theirs = socket.socketpair()

    def answer() -> None:
        try:
            server.wrap_socket(theirs, server_side=True).close()
        except (ssl.SSLError, OSError):
            theirs.close()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=name) as connection:
            return connection.version()
    finally:
        ours.close()
        thread.join()


@pytest.mark.parametrize("name", NAMES)
def test_a_client_that_trusts_the_certificate_connects_by_each_name(
    made: MadeCertificate, name: str
) -> None:
    assert connect(served(made), trusting(made), name) == "TLSv1.3"


@pytest.mark.parametrize("name", ["example.org", "127.0.0.2"])
def test_by_another_name_it_does_not(made: MadeCertificate, name: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(served(made), trusting(made), name)


def test_nobody_else_trusts_it(made: MadeCertificate) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(served(made), ssl.create_default_context(), "localhost")


def test_it_vouches_for_no_other(made: MadeCertificate, tmp_path: Path) -> None:
    other = make_certificate(tmp_path / "other", NAMES, replace=False)
    for context in (trusting(made), client_context(str(made.cert))):
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(served(other), context, "localhost")


def test_our_own_commands_know_it_by_any_name(made: MadeCertificate) -> None:
    assert connect(served(made), client_context(str(made.cert)), "10.0.0.1") == "TLSv1.3"


def test_of_a_chain_they_trust_the_first_only(made: MadeCertificate, tmp_path: Path) -> None:
    other = make_certificate(tmp_path / "other", NAMES, replace=False)
    chain = tmp_path / "chain.pem"
    chain.write_text(made.cert.read_text() + other.cert.read_text())
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(served(other), client_context(str(chain)), "localhost")


@pytest.mark.skipif(sys.platform == "win32", reason="no modes")
def test_only_we_can_read_the_key(made: MadeCertificate) -> None:
    assert stat.S_IMODE(made.key.stat().st_mode) == 0o600


def test_one_file_may_hold_both(made: MadeCertificate, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text(made.key.read_text() + made.cert.read_text())
    assert server_context(Config(tls_cert=str(both))) is not None
    assert connect(served(made), client_context(str(both)), "localhost")


def test_one_that_is_there_is_replaced_only_when_asked(made: MadeCertificate) -> None:
    with pytest.raises(RequestError, match="--force"):
        make_certificate(made.cert.parent, NAMES, replace=False)
    again = make_certificate(made.cert.parent, NAMES, replace=True)
    assert again.fingerprint != made.fingerprint
    assert connect(served(again), trusting(again), "localhost")


def encrypted(made: MadeCertificate) -> dict[str, str]:
    key = serialization.load_pem_private_key(made.key.read_bytes(), None)
    made.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    return {"tls_cert": str(made.cert), "tls_key": str(made.key)}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (lambda made: {"tls_key": str(made.key)}, "needs --tls-cert"),
        (lambda made: {"tls_cert": str(made.cert)}, "fit together"),
        (lambda made: {"tls_cert": str(made.key), "tls_key": str(made.key)}, "fit together"),
        (lambda made: {"tls_cert": str(made.cert) + "x"}, "No such file"),
        (encrypted, "fit together"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    made: MadeCertificate, files: Callable[[MadeCertificate], dict[str, Any]], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        server_context(Config(**files(made)))


def test_without_files_there_is_no_tls() -> None:
    assert server_context(Config()) is None
