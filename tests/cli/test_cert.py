"""`tabagent cert`, as a user runs it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cryptography import x509

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from tests.cli.conftest import Done


def names_in(file: Path) -> set[str]:
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return {str(name.value) for name in found.value}


def test_it_writes_a_certificate_and_says_how_to_use_it(
    run: Callable[..., Done], home: Path
) -> None:
    done = run("cert")
    assert done.code == 0
    cert, key = home / "tls" / "cert.pem", home / "tls" / "key.pem"
    assert str(cert) in done.out
    assert str(key) in done.out
    assert f"--tls-cert {cert} --tls-key {key}" in done.err
    assert names_in(cert) == {"localhost", "127.0.0.1", "::1"}


def test_it_covers_the_names_of_this_server(
    run: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABAGENT_HOST", "192.168.1.7")
    monkeypatch.setenv("TABAGENT_ALLOW_HOST", "box.lan")
    assert run("cert", "fd00::1", "Other.Lan", "--out", str(tmp_path)).code == 0
    assert names_in(tmp_path / "cert.pem") == {
        *("localhost", "127.0.0.1", "::1"),
        *("192.168.1.7", "box.lan", "fd00::1", "other.lan"),
    }


def test_listening_everywhere_is_no_name(
    run: Callable[..., Done], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABAGENT_HOST", "0.0.0.0")
    assert run("cert").code == 0
    assert "0.0.0.0" not in names_in(home / "tls" / "cert.pem")


def test_it_replaces_one_only_when_asked(run: Callable[..., Done]) -> None:
    run("cert")
    again = run("cert")
    assert again.code == 2
    assert "invalid_parameter" in again.err
    assert run("cert", "--force").code == 0


def test_a_wrong_name_is_refused(run: Callable[..., Done]) -> None:
    done = run("cert", "not a name")
    assert (done.code, done.out) == (2, "")


def test_without_its_library_it_says_what_to_install(
    run: Callable[..., Done], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.startswith("cryptography.hazmat")]:
        monkeypatch.setitem(sys.modules, module, None)
    done = run("cert")
    assert done.code == 2
    assert "tabagent[tls]" in done.err
    assert not (home / "tls").exists()
