"""`tabagent serve`."""

from __future__ import annotations

import os
from typing import Any

import click

from tabagent.config import Paths, load_config

__all__ = ["serve"]


def _run(*, daemon: bool, **flags: Any) -> None:
    paths = Paths.locate(os.environ)
    given = {key: value for key, value in flags.items() if value not in (None, ())}
    config = load_config(given, os.environ, paths.config_file)

    from tabagent.run import run_server

    run_server(config, paths, daemon=daemon)


def _option(name: str, metavar: str, text: str) -> click.Option:
    return click.Option([name], metavar=metavar, help=text)


def _repeatable(name: str, metavar: str, text: str) -> click.Option:
    return click.Option([name], metavar=metavar, help=f"{text} Repeatable.", multiple=True)


def _switch(name: str, text: str) -> click.Option:
    return click.Option([name], is_flag=True, default=None, help=text)


# Values are text here: settings are converted and judged in one place, whatever their source.
serve = click.Command(
    "serve",
    callback=_run,
    help="Run the server.",
    epilog="Each --a-b is also TABAGENT_A_B (lists with commas) and a_b in config.toml.",
    params=[
        _repeatable("--model", "PATH|ID=PATH", "A model to load; by default the embedded guide."),
        _switch("--no-model", "Load no model."),
        _option(
            "--host", "ADDRESS", "Where to listen; by default 127.0.0.1, and ::1 if it exists."
        ),
        _option("--port", "N", "By default 8484; 0 picks a free one."),
        _option("--runtime", "PATH|ID", "The libllama to use; by default the best one here."),
        _option("--models-dir", "FOLDER", "Where models are kept."),
        _option("--ctx-size", "N", "Tokens per request; by default min(trained, 8192, what fits)."),
        _option("--parallel", "N", "Requests decoded together; by default 4."),
        _option("--threads", "N", "Compute threads; by default one per core."),
        _option("--gpu-layers", "auto|N", "Layers on the GPU; by default 0. auto: as many as fit."),
        _switch("--no-mmap", "Read model files instead of mapping them."),
        _option("--cache-disk", "SIZE", "Keep prefixes on disk; off by default."),
        _option("--token", "TOKEN", "What callers may show as Bearer token."),
        _option("--token-file", "FILE", "Read the token from a file."),
        _switch("--require-token", "Refuse who shows no token; one is made where none is given."),
        _option("--tls-cert", "FILE", "Serve https and wss with this certificate."),
        _option("--tls-key", "FILE", "Its key, unless that is in the same file."),
        _repeatable("--allow-origin", "ORIGIN", "A page or extension that may infer."),
        _repeatable("--allow-host", "NAME", "One more name of this server."),
        _repeatable("--trusted-proxy", "ADDRESS", "A proxy whose X-Forwarded-* is believed."),
        _repeatable("--ice-server", "URL", "stun:HOST or turn:[USER:CREDENTIAL@]HOST for WebRTC."),
        _option("--ice-transport-policy", "all|relay", "What carries WebRTC; by default all."),
        _option("--turn-secret", "SECRET", "Shared with TURN, for short-lived credentials."),
        _option("--max-peers", "N", "WebRTC peers at the same time; by default 128."),
        _option("--idle-exit", "SECONDS", "End when nothing has been connected for so long."),
        _option("--resume-ttl", "SECONDS", "Keep resumable responses for so long; by default 60."),
        _option("--max-message-size", "BYTES", "Largest incoming message; by default 1048576."),
        _option("--log-format", "text|json", "By default text."),
        _option("--log-level", "debug|info|warning|error", "By default info."),
        click.Option(["--daemon"], is_flag=True, hidden=True),  # how the native host starts it
    ],
)
