"""`tabagent stop`: ends the running server."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Final

import click

from tabagent.config import Paths
from tabagent.core.errors import RequestError

if TYPE_CHECKING:
    from tabagent.core.transport import RunningServer

__all__ = ["find_process", "stop"]

STOP_TIMEOUT: Final = 15.0
"""Seconds that a server may take to end its streams."""

POLL_INTERVAL: Final = 0.05


@click.command()
def stop() -> None:
    """End the running server; exit with 1 when none runs."""
    paths = Paths.locate(os.environ)
    server = find_process(paths)
    if server is None:
        click.echo("no server is running")
        raise SystemExit(1)
    os.kill(server.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT
    while find_process(paths) == server:
        if time.monotonic() > deadline:
            text = f"the server, process {server.pid}, has not ended within {STOP_TIMEOUT:.0f} s"
            raise RequestError("shutting_down", text)
        time.sleep(POLL_INTERVAL)


def find_process(paths: Paths) -> RunningServer | None:
    """Return this user's server, whether or not it has an address."""
    from tabagent.registry import Registry

    for listener in Registry().listeners().values():
        if server := listener.find_server(paths.run):
            return server
    return None
