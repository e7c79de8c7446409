"""Runs the server in this process until it ends."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING

from .app import Application
from .log import configure_logging

if TYPE_CHECKING:
    from collections.abc import Callable

    from .config import Config, Paths

__all__ = ["run_server"]

log = logging.getLogger("tabagent.app")


def run_server(config: Config, paths: Paths) -> None:
    """Serve; returns after a signal or the idle time-out.

    :raises TabagentError: for wrong settings, and when a model cannot be loaded.
    :raises OSError: when the address cannot be had.
    """
    configure_logging(config.log_level, config.log_format)
    application = Application(config, paths)
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


def _announce(config: Config) -> Callable[[str], None]:
    def announce(url: str) -> None:
        message = f"TabAgent is ready at {url}"
        if config.log_format == "json":
            log.info(message)
        else:
            # Not a log line: it is what a person who starts the server waits for.
            sys.stderr.write(f"{message}\n")
            sys.stderr.flush()

    return announce
