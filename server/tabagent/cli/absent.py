"""Commands of the public contract whose part is not there yet: each says so and exits with 2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from tabagent.core.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["bench", "refusing"]

ANY_ARGUMENTS: Final = {"ignore_unknown_options": True, "allow_extra_args": True}


def refusing(group: str, name: str) -> click.Command:
    """Return a command that is not supported."""
    full = f"{group} {name}".strip()
    return click.Command(
        name, callback=_refusal(full), context_settings=ANY_ARGUMENTS, help="Not supported yet."
    )


def _refusal(command: str) -> Callable[[], None]:
    def refuse() -> None:
        raise RequestError("not_supported", f"`tabagent {command}` is not supported yet")

    return refuse


bench = refusing("", "bench")
