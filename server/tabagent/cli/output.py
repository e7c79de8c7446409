"""How commands show what they found: a table for people, JSON for programs."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.table import Table

__all__ = [
    "as_json",
    "download_bar",
    "pairs",
    "printable",
    "server_url",
    "show_json",
    "size",
    "table",
]

PIPE_WIDTH: Final = 1000

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


server_url = click.option("--url", metavar="URL", help="By default where serve would listen.")


def show_json(value: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    """Print rows under their columns, or say that there are none."""
    from rich.table import Table
    from rich.text import Text

    if not rows:
        click.echo(empty)
        return
    grid = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(printable(cell)) for cell in row))
    _print(grid)


@contextmanager
def download_bar(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Show on stderr how far a download has come; yields what to tell it: file, bytes, of bytes."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet,
    )
    with bar:
        task = bar.add_task("looking", total=None)

        def tell(file: str, done: int, total: int) -> None:
            bar.update(task, description=printable(file), completed=done, total=total)

        yield tell


def pairs(values: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one per line."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for name, value in values:
        grid.add_row(Text(name, style="bold"), Text(printable(value)))
    _print(grid)


def _print(grid: Table) -> None:
    from rich.console import Console

    # Lines are wrapped for people only: what reads a pipe splits them itself.
    Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH).print(grid)


def printable(text: str) -> str:
    """Replace what would steer the terminal: models and their files come from strangers."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def size(count: int | None) -> str:
    """Return a number of bytes for people."""
    if count is None:
        return "unknown"
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
