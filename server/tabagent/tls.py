"""TLS: what the server shows, and how this user's commands know it again."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .config import ConfigError

if TYPE_CHECKING:
    from .config import Config

__all__ = ["client_context", "server_context"]

PEM_END: Final = "-----END CERTIFICATE-----"


def server_context(config: Config) -> ssl.SSLContext | None:
    """Return the context of `--tls-cert` and `--tls-key`; None where TLS is not asked for.

    :raises ConfigError: when the files cannot be used.
    """
    if config.tls_cert is None:
        if config.tls_key is not None:
            raise ConfigError("tls_key", "--tls-key", "needs --tls-cert")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # An empty password refuses an encrypted key; without one OpenSSL would ask the terminal.
        context.load_cert_chain(config.tls_cert, config.tls_key, password="")
    except (OSError, ValueError) as error:
        files = " and ".join(filter(None, (config.tls_cert, config.tls_key)))
        raise _unusable(files, error, "no certificate and key that fit together") from None
    return context


def client_context(cert: str) -> ssl.SSLContext:
    """Return a context that trusts the first certificate in `cert`, whatever names are in it.

    :raises ConfigError: when the file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        first, end, _ = Path(cert).read_text(encoding="ascii").partition(PEM_END)
        context.load_verify_locations(cadata=first + end)
    except (OSError, ValueError) as error:
        raise _unusable(cert, error, "no certificate") from None
    return context


def _unusable(files: str, error: OSError | ValueError, otherwise: str) -> ConfigError:
    reason = otherwise
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        reason = error.strerror or otherwise
    return ConfigError("tls_cert", "--tls-cert", f"{files}: {reason}")
