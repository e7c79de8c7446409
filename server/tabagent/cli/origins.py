"""`tabagent origins`: which pages and extensions may call, and which ask to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio
import click
import msgspec

from tabagent.config import Paths, load_config
from tabagent.core.origins import OriginList

from .output import as_json, show_json, table

if TYPE_CHECKING:
    from .client import ServerClient

__all__ = ["origins"]


@click.group()
def origins() -> None:
    """Which pages and extensions may call, and which ask to."""


@origins.command("list")
@as_json
def list_origins(as_json: bool) -> None:
    """List approved origins, and pending ones with their pairing codes."""
    _show(_origins(None, None), as_json=as_json)


@origins.command()
@click.argument("origin", metavar="ORIGIN|CODE")
def approve(origin: str) -> None:
    """Let an origin infer: its name, or the pairing code that the extension shows."""
    _show(_origins("approve", origin))


@origins.command()
@click.argument("origin", metavar="ORIGIN|CODE")
def revoke(origin: str) -> None:
    """Let an origin in no longer, or refuse one that asks."""
    _show(_origins("revoke", origin))


def _origins(action: str | None, name: str | None) -> OriginList:
    """Do it through the running server where there is one; what it does holds at once."""
    from .client import find_server

    paths = Paths.locate(os.environ)
    config = load_config({}, os.environ, paths.config_file)
    server = find_server(config, paths)
    if server is not None:
        return _of_server(server, action, name)

    from tabagent.origins import OriginStore

    store = OriginStore(paths, config.allow_origin)
    if action is not None and name is not None:
        getattr(store, action)(name)
        anyio.run(store.save)
    return store.list()


def _of_server(server: ServerClient, action: str | None, name: str | None) -> OriginList:
    if action is None:
        found = server.get("/v1/origins")
    else:
        found = server.post(f"/v1/origins/{action}", {"origin": name})
    return msgspec.convert(found, OriginList)


def _show(found: OriginList, *, as_json: bool = False) -> None:
    if as_json:
        show_json(found)
        return
    rows = [(each.origin, f"approved by {each.by}", "") for each in found.approved]
    rows += [(each.origin, "pending", each.code) for each in found.pending]
    table(("origin", "state", "pairing code"), rows, "no origins are approved or pending")
