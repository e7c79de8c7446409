"""`tabagent cache`: what TabAgent keeps on disk to start faster."""

from __future__ import annotations

import re
from typing import Final

import click

from .output import size
from .runtime import engine_errors

__all__ = ["cache"]

UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


class Size(click.ParamType[int]):
    """A number of bytes with an optional decimal unit: `500M`, `2.5 GB`."""

    name = "size"

    def convert(
        self, value: object, parameter: click.Parameter | None, context: click.Context | None
    ) -> int:
        """Return the bytes."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", str(value).strip().lower())
        if found is None:
            self.fail(f"{value!r} is not a size, such as 500M or 10G", parameter, context)
        return int(float(found[1]) * UNITS[found[2]])


@click.group()
def cache() -> None:
    """Caches on disk."""


@cache.command()
@click.option("--keep", type=Size(), default=0, metavar="SIZE", help="Keep this much, such as 10G.")
def clear(keep: int) -> None:
    """Remove transcoded models, those first that were not used for longest.

    They come back when their model is loaded again. Running models are not disturbed.
    """
    with engine_errors():
        import tabagent_engine

        files, freed = tabagent_engine.prune_transcoded(keep)
    click.echo(f"removed {files} transcoded {'model' if files == 1 else 'models'}, {size(freed)}")
