"""Runs the server in this process until it ends."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from .app import Application
from .log import configure_logging

if TYPE_CHECKING:
    from collections.abc import Callable

    from .config import Config, Paths

__all__ = ["run_server"]

log = logging.getLogger("tabagent.app")

DAEMON_IDLE_EXIT: Final = 600.0
"""Seconds that a server which nobody started by hand waits for the next connection."""


def run_server(config: Config, paths: Paths, *, daemon: bool = False) -> None:
    """Serve; returns after a signal or the idle time-out, which a daemon always has.

    :raises TabagentError: for wrong settings, and when a model cannot be loaded.
    :raises OSError: when the address cannot be had.
    """
    configure_logging(config.log_level, config.log_format)
    if daemon and config.idle_exit is None:
        config = replace(config, idle_exit=DAEMON_IDLE_EXIT)
    application = Application(config, paths, daemon=daemon)
    sockets = application.listen()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(application.run(sockets, _announce(config)))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory where there is one."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _announce(config: Config) -> Callable[[str | None], None]:
    def announce(url: str | None) -> None:
        message = f"TabAgent is ready at {url}" if url else "TabAgent is ready, without HTTP"
        if config.log_format == "json":
            log.info(message)
        else:
            # Not a log line: it is what a person who starts the server waits for.
            sys.stderr.write(f"{message}\n")
            sys.stderr.flush()

    return announce
