"""The command line. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

import click

from tabagent import __version__
from tabagent.config import Paths
from tabagent.core.errors import TabagentError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

USAGE: Final = 2
"""Exit code for wrong usage, a wrong setting, and what is not supported."""

INTERRUPTED: Final = 130

EPILOG: Final = (
    "Results go to stdout, all else to stderr. Exit codes: 0 done; 1 failed, with the code of the "
    "failure on stderr; 2 wrong usage or setting, or not supported; 130 interrupted."
)

COMMANDS: Final = {
    "serve": "serve",
    "chat": "chat",
    "doctor": "doctor",
    "models": "models",
    "runtime": "runtime",
    "origins": "origins",
    "cert": "cert",
    "status": "status",
    "bench": "absent",
    "cache": "cache",
    "stop": "stop",
}
"""The module that has each command, under the command's name."""

PLUGINS: Final = "tabagent.commands"
"""The entry-point group of commands that come with transports and backends."""


class Commands(click.Group):
    """Imports the module of a command when it is wanted: `serve` starts without the others.

    Commands of plugins find the application's folders in their context.
    """

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names, in the order of the help."""
        return [*COMMANDS, *sorted(entry_points(group=PLUGINS).names)]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Return a command, or None when there is none of that name."""
        if name in COMMANDS:
            command = getattr(importlib.import_module(f"{__name__}.{COMMANDS[name]}"), name)
        else:
            found = list(entry_points(group=PLUGINS, name=name))
            if not found:
                return None
            command = found[0].load()
            context.obj = Paths.locate(os.environ)
        assert isinstance(command, click.Command)
        return command


@click.command("tabagent", cls=Commands, epilog=EPILOG)
@click.version_option(__version__, message="%(version)s")
def cli() -> None:
    """The local inference server for browsers."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    try:
        cli(arguments, prog_name="tabagent")
    except TabagentError as error:
        click.echo(f"tabagent: {error.code}: {error.message}", err=True)
        sys.exit(USAGE if error.code in {"invalid_parameter", "not_supported"} else 1)
    except BrokenPipeError:
        # Who reads our output has left; what is still buffered must not be complained about.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        click.echo(f"tabagent: {error.strerror or error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
