"""Commands of the public contract whose part is not there yet: each says so and exits with 2."""

from __future__ import annotations

import click

from tabagent.core.errors import RequestError

__all__ = ["bench"]


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    help="Not supported yet.",
)
def bench() -> None:
    """Say that it is not supported."""
    raise RequestError("not_supported", "`tabagent bench` is not supported yet")
