"""`tabagent doctor`: what this machine can run, and why."""

from __future__ import annotations

import os
from typing import Any

import click

from tabagent.config import Paths, load_config

from .hardware import hardware_pairs
from .output import as_json, pairs, show_json, size, table
from .runtime import candidates_table

__all__ = ["doctor"]


@click.command()
@as_json
@click.option("--runtime", metavar="PATH|ID", help="Judge this runtime only.")
def doctor(as_json: bool, runtime: str | None) -> None:
    """Show the hardware, every runtime considered, the one chosen and why."""
    from tabagent.app import backend_config
    from tabagent.registry import Registry
    from tabagent.system import system_info

    paths = Paths.locate(os.environ)
    config = load_config({"runtime": runtime}, os.environ, paths.config_file)
    found = system_info(Registry(), backend_config(config))
    if as_json:
        show_json(found)
    else:
        _show(found, paths)


def _show(found: dict[str, Any], paths: Paths) -> None:
    chosen = found["runtime"]
    pairs(
        [
            ("TabAgent", found["version"]),
            *hardware_pairs(found),
            ("runtime", _runtime(chosen) if chosen else "none: see the reasons below"),
            *[("GPU runtime", _gpu_runtime(each)) for each in found["gpu_runtimes"]],
            ("settings", str(paths.config_file)),
            ("models", str(paths.models)),
        ]
    )
    click.echo()
    candidates_table(found["candidates"], chosen)
    for advice in found["advice"]:
        click.echo()
        pairs([("better", advice["text"]), ("measured", ", ".join(map(_gain, advice["gains"])))])
    click.echo()
    plugins = [("backend", each) for each in found["backends"]]
    plugins += [("transport", each) for each in found["transports"]]
    table(
        ("plugin", "name", "works", "reason"),
        [
            (kind, each["name"], "yes" if each["works"] else "no", each["reason"])
            for kind, each in plugins
        ],
        "no plugins are installed",
    )


def _gpu_runtime(found: dict[str, Any]) -> str:
    devices = [
        f"{each['name']} {each['description']}, {size(each['memory'])}" for each in found["devices"]
    ]
    return f"{found['id']} {found['version']}: {'; '.join(devices) or found['reason']}"


def _runtime(chosen: dict[str, Any]) -> str:
    return f"{chosen['id']} {chosen['version']}, {chosen['variant']}: {chosen['reason']}"


def _gain(gain: dict[str, Any]) -> str:
    told = f"{gain['weights']} prompts {gain['prompt']:g}×"
    return told if gain["generation"] is None else f"{told} and generation {gain['generation']:g}×"
