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
    from .stop import find_process

    paths = Paths.locate(os.environ)
    config = load_config({}, os.environ, paths.config_file)
    server = find_server(config, paths, url)
    process = find_process(paths) if url is None else None
    found: dict[str, Any] = {"running": server is not None or process is not None}
    if process is not None:
        found |= {"pid": process.pid, "version": process.version}
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
    elif found["running"]:
        _show(found)
    else:
        click.echo("no server is running")
    if not found["running"]:
        raise SystemExit(1)


def _show(found: dict[str, Any]) -> None:
    lines = [("server", f"TabAgent {found['version']} at {found.get('url', 'no address')}")]
    if "pid" in found:
        lines.append(("process", str(found["pid"])))
    if "url" in found:
        runtime = found["runtime"]
        lines += [
            ("health", found["health"]),
            ("runtime", f"{runtime['id']} ({runtime['variant']})" if runtime else "none"),
            ("models", ", ".join(model["id"] for model in found["models"]) or "none"),
        ]
    pairs(lines)
