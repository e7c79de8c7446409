"""`tabagent host`: installs, removes and examines the native host."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click
import msgspec

from .install import Host, HostFolders
from .manifest import BROWSERS, Extensions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .install import Change, Finding, Registry
    from .manifest import Platform

__all__ = ["host"]

extension_ids = click.argument("ids", metavar="[EXTENSION_ID]...", nargs=-1)
dry_run_flag = click.option("--dry-run", is_flag=True, help="Change nothing, only say what would.")


class Folders(Protocol):
    """The folders of the application, which the command line hands to its commands."""

    @property
    def data(self) -> Path:
        """Where the host's folder is."""

    @property
    def state(self) -> Path:
        """Where the server's log is."""


@click.group()
def host() -> None:
    """The native host, through which browsers reach the server."""


@host.command()
@extension_ids
@click.option(
    "--browser",
    "names",
    multiple=True,
    type=click.Choice([browser.name for browser in BROWSERS]),
    help="Repeatable; by default all of them.",
)
@dry_run_flag
@click.pass_obj
def install(folders: Folders, ids: Sequence[str], names: Sequence[str], dry_run: bool) -> None:
    """Let extensions start the server; without ids, renew what is installed.

    An id is 32 letters, or for Firefox name@domain or {UUID}.
    """
    browsers = [browser for browser in BROWSERS if not names or browser.name in names]
    try:
        changes = _host(folders).install(Extensions.parse(ids), browsers, dry_run=dry_run)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    _show_changes(changes, dry_run)


@host.command()
@extension_ids
@dry_run_flag
@click.pass_obj
def uninstall(folders: Folders, ids: Sequence[str], dry_run: bool) -> None:
    """Let extensions in no longer; without ids, remove the host."""
    try:
        removed = Extensions.parse(ids) if ids else None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    _show_changes(_host(folders).uninstall(removed, dry_run=dry_run), dry_run)


@host.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def status(folders: Folders, as_json: bool) -> None:
    """Show what is installed and how to mend what is not right; exit with 1 then."""
    installed = _host(folders)
    findings = installed.status()
    extensions = installed.extensions()
    if as_json:
        found = {
            "extensions": sorted(extensions.chromium | extensions.firefox),
            "launcher": str(installed.launcher),
            "parts": findings,
        }
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        for finding in findings:
            _show_finding(finding)
    healthy = extensions and all(finding.problem is None for finding in findings)
    sys.exit(0 if healthy else 1)


def _host(folders: Folders) -> Host:
    registry: Registry | None = None
    platform: Platform = "linux"
    if sys.platform == "win32":
        from .windows_registry import WindowsRegistry

        platform, registry = "win32", WindowsRegistry()
    elif sys.platform == "darwin":
        platform = "darwin"
    home = Path.home()
    config_home = os.environ.get("XDG_CONFIG_HOME")
    places = HostFolders(
        host=folders.data / "host",
        state=folders.state,
        home=home,
        config_home=Path(config_home) if config_home else home / ".config",
        tabagent_home=os.environ.get("TABAGENT_HOME"),
    )
    return Host(places, platform, sys.executable, registry)


def _show_changes(changes: Sequence[Change], dry_run: bool) -> None:
    for change in changes:
        click.echo(f"{change.action:9}  {change.target}")
    if dry_run:
        click.echo("dry run: nothing was changed", err=True)


def _show_finding(finding: Finding) -> None:
    browser = f"  ({finding.browser})" if finding.browser else ""
    click.echo(f"{finding.state:6}  {finding.target}{browser}")
    if finding.problem:
        click.echo(f"        {finding.problem}; run: {finding.remedy}")
