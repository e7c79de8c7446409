"""`tabagent cert`: a certificate for clients that insist on `https` and `wss`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from tabagent.config import Paths, load_config
from tabagent.core.access import parse_host
from tabagent.core.errors import RequestError

from .output import pairs

__all__ = ["cert"]

EVERYWHERE: Final = frozenset({"0.0.0.0", "::"})
"""Where a server may listen that is no name of it."""


@click.command()
@click.argument("names", metavar="[NAME|ADDRESS]...", nargs=-1)
@click.option("--out", metavar="FOLDER", help="Where to write; by default beside the settings.")
@click.option("--force", is_flag=True, help="Replace the one that is there.")
def cert(names: tuple[str, ...], out: str | None, force: bool) -> None:
    """Make a certificate for this server: localhost and what else it is called."""
    from tabagent.certificate import LOCAL_NAMES, make_certificate

    paths = Paths.locate(os.environ)
    config = load_config({}, os.environ, paths.config_file)
    wanted = [*LOCAL_NAMES, *config.allow_host, *map(_name, names)]
    if config.host is not None:
        wanted.append(config.host)
    hosts = dict.fromkeys(host.strip("[]") for host in wanted)
    folder = paths.tls if out is None else Path(out).expanduser()
    made = make_certificate(
        folder, [host for host in hosts if host not in EVERYWHERE], replace=force
    )
    pairs(
        [
            ("certificate", str(made.cert)),
            ("key", str(made.key)),
            ("SHA-256", made.fingerprint),
            ("valid until", f"{made.expires_at:%Y-%m-%d}"),
        ]
    )
    click.echo(
        f"\nServe with it:  tabagent serve --tls-cert {made.cert} --tls-key {made.key}\n"
        f"Clients trust it with  SSL_CERT_FILE={made.cert} (Python),\n"
        f"NODE_EXTRA_CA_CERTS={made.cert} (Node), or in the browser's settings.",
        err=True,
    )


def _name(given: str) -> str:
    try:
        return parse_host(given)
    except ValueError as error:
        raise RequestError("invalid_parameter", f"{given!r}: {error}") from None
