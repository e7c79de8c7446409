"""`tabagent runtime`: the builds of libllama on this machine."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from tabagent.core.errors import BackendError, error_from_code

from .output import as_json, show_json, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tabagent_engine.runtimes import Gpu

__all__ = ["candidates_table", "engine_errors", "runtime"]


@click.group()
def runtime() -> None:
    """The builds of libllama on this machine."""


@runtime.command("list")
@as_json
def list_runtimes(as_json: bool) -> None:
    """List every build found, best first, and why it may or may not run."""
    with engine_errors():
        import tabagent_engine

        found = tabagent_engine.list_runtimes()
    if as_json:
        show_json(found)
    else:
        candidates_table(found, next((each for each in found if each["chosen"]), None))


@runtime.command()
@click.option("--gpu", type=click.Choice(["vulkan", "cuda"]), help="With a module for such GPUs.")
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
def install(gpu: Gpu | None, quiet: bool) -> None:
    """Fetch the runtime with a build for every kind of CPU; needs npm.

    One with --gpu serves `--gpu-layers`; vulkan is for the GPUs of all makers, cuda for NVIDIA's.
    """
    with engine_errors():
        from tabagent_engine import runtimes

        tell = None if quiet else lambda text: click.echo(text, err=True)
        folder = runtimes.install(tell, gpu=gpu)
    if not quiet:
        click.echo(folder)


@runtime.command()
@click.argument("wanted", metavar="[PATH|ID]", required=False)
def path(wanted: str | None) -> None:
    """Print the folder of the runtime that would be used."""
    with engine_errors():
        from tabagent_engine import runtimes

        folder = runtimes.path(wanted)
    click.echo(folder)


def candidates_table(found: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any] | None) -> None:
    """Print candidates as a table; the arrow is at the chosen one."""
    place = None if chosen is None else (chosen["path"], chosen["variant"])
    rows = [
        (
            "→" if (each["path"], each["variant"]) == place else "",
            each["id"],
            each["variant"],
            each["version"],
            str(each["score"]) if each["allowed"] else "refused",
            each["reason"],
        )
        for each in found
    ]
    table(
        ("", "runtime", "variant", "version", "score", "reason"),
        rows,
        "no runtime was found; `tabagent runtime install` fetches one",
    )


@contextmanager
def engine_errors() -> Iterator[None]:
    """Give the engine's errors, and its absence, their place among ours."""
    try:
        import tabagent_engine
    except ImportError as error:
        raise BackendError("library_not_found", f"tabagent-engine is not usable: {error}") from None
    try:
        yield
    except tabagent_engine.EngineError as error:
        raise error_from_code(error.code, str(error)) from None
