"""`tabagent status`: whether a server runs, and what it does."""

from __future__ import annotations

import os
from typing import Any

import click

from tabagent.config import Paths, load_config

from .output import as_json, pairs, server_url, show_json

__all__ = ["status"]


@click.command()
@as_json
@server_url
def status(as_json: bool, url: str | None) -> None:
    """Say whether a server runs; exit with 1 when none does."""
    from .client import find_server

    paths = Paths.locate(os.environ)
    config = load_config({}, os.environ, paths.config_file)
    server = find_server(config, paths, url)
    found: dict[str, Any] = {"running": server is not None}
    if server is not None:
        system = server.get("/v1/system")
        found |= {
            "url": server.url,
            "health": server.health(),
            "version": system["version"],
            "runtime": system["runtime"],
            "models": server.get("/v1/models")["data"],
        }
    if as_json:
        show_json(found)
    elif server is None:
        click.echo("no server is running")
    else:
        _show(found)
    if server is None:
        raise SystemExit(1)


def _show(found: dict[str, Any]) -> None:
    runtime = found["runtime"]
    pairs(
        [
            ("server", f"TabAgent {found['version']} at {found['url']}"),
            ("health", found["health"]),
            ("runtime", f"{runtime['id']} ({runtime['variant']})" if runtime else "none"),
            ("models", ", ".join(model["id"] for model in found["models"]) or "none"),
        ]
    )
