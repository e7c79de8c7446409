"""`tabagent models`: the models that are there, and what a file is worth."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from tabagent.config import Paths, load_config

from .absent import refusing
from .output import as_json, pairs, show_json, size, table
from .runtime import engine_errors

if TYPE_CHECKING:
    from tabagent_engine.types import GgufSummary

__all__ = ["models"]

DEFAULT_CONTEXT = 8192


@click.group(commands=[refusing("models", "pull"), refusing("models", "rm")])
def models() -> None:
    """The models that are there."""


@models.command("list")
@as_json
def list_models(as_json: bool) -> None:
    """List what the running server has, or what a server started now would have."""
    from .client import find_server

    paths = Paths.locate(os.environ)
    config = load_config({}, os.environ, paths.config_file)
    server = find_server(config, paths)
    if server is not None:
        found = server.get("/v1/models")["data"]
    else:
        from tabagent.models import configured_models, installed_models, models_folder

        known = [*configured_models(config, paths), *installed_models(models_folder(config, paths))]
        found = [{"id": model.id, "source": model.source} for model in known]
    if as_json:
        show_json(found)
        return
    columns = ("id", "state", "source")
    rows = [tuple(str(each.get(column, "")) for column in columns) for each in found]
    table(columns, rows, "there are no models")


@models.command()
@click.argument("model", metavar="FILE|ID")
@as_json
def inspect(model: str, as_json: bool) -> None:
    """Judge a GGUF file without loading it: verdict, memory, quantisation mix, metadata."""
    from tabagent.models import find_model

    paths = Paths.locate(os.environ)
    config = load_config({}, os.environ, paths.config_file)
    source = find_model(model, config, paths).source
    with engine_errors():
        import tabagent_engine

        found = tabagent_engine.inspect_gguf(source)
    context = config.ctx_size or min(found["context_length"], DEFAULT_CONTEXT)
    estimate = {
        "context_length": context,
        "weight_bytes": found["weight_bytes"],
        "cache_bytes": found["kv_bytes_per_token"] * context,
    }
    verdict = "gguf_unsupported" if found["problem"] else "runs"
    if as_json:
        show_json({"path": source, "verdict": verdict, "estimate": estimate, **found})
    else:
        _show(source, verdict, estimate, found)


def _show(source: str, verdict: str, estimate: dict[str, int], found: GgufSummary) -> None:
    memory = estimate["weight_bytes"] + estimate["cache_bytes"]
    weights, cache = size(estimate["weight_bytes"]), size(estimate["cache_bytes"])
    context = estimate["context_length"]
    pairs(
        [
            ("file", source),
            ("verdict", f"{verdict}: {found['problem']}" if found["problem"] else verdict),
            ("name", found["name"] or "none"),
            ("architecture", f"{found['architecture']}, GGUF version {found['version']}"),
            ("parameters", f"{found['parameters']:,}"),
            ("context", f"{found['context_length']} tokens trained"),
            ("memory", f"{size(memory)}: weights {weights}, cache of {context} tokens {cache}"),
        ]
    )
    click.echo()
    total = max(1, found["weight_bytes"])
    table(
        ("type", "tensors", "size", "share"),
        [
            (
                each["name"],
                str(each["tensors"]),
                size(each["bytes"]),
                f"{each['bytes'] / total:.1%}",
            )
            for each in found["tensor_types"]
        ],
        "the file has no tensors",
    )
    click.echo()
    table(
        ("key", "value"),
        [(key, _short(value)) for key, value in sorted(found["metadata"].items())],
        "the file has no metadata",
    )


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else f"{text[:79]}…"
