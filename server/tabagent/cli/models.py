"""`tabagent models`: the models that are there, and what a file is worth."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from tabagent.config import Paths, load_config

from .output import as_json, download_bar, pairs, show_json, size, table
from .runtime import engine_errors

if TYPE_CHECKING:
    from tabagent_engine.types import GgufSummary, Ternary

__all__ = ["models"]

DEFAULT_CONTEXT = 8192


@click.group()
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
    """Judge a GGUF file without loading it: verdict, memory, quantisation mix, metadata.

    Of a split model, name the first file. One that cannot run ends with exit code 1.
    """
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
    if found["problem"]:
        sys.exit(1)


@models.command()
@click.argument("reference", metavar="hf:OWNER/REPO[:FILE|:QUANT]")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def pull(reference: str, quiet: bool) -> None:
    """Download a model from the Hugging Face Hub; what is there already is not fetched again.

    Without FILE or QUANT: the only model of the repository, else its Q4_K_M. HF_TOKEN opens gated
    repositories. A running server does the work and knows the model at once.
    """
    from tabagent.hub import parse_reference

    from .client import find_server

    wanted = parse_reference(reference)
    paths = Paths.locate(os.environ)
    config = load_config({}, os.environ, paths.config_file)
    server = find_server(config, paths)
    with download_bar(quiet) as progress:
        if server is not None:
            model_id = server.pull(str(wanted), progress)
        else:
            from tabagent.hub.download import pull_model
            from tabagent.models import model_id_of, models_folder

            model_id = model_id_of(pull_model(wanted, models_folder(config, paths), progress))
    click.echo(model_id)


@models.command()
@click.argument("model", metavar="ID")
def rm(model: str) -> None:
    """Delete a model from the models folder; a running server unloads it first."""
    from .client import find_server

    paths = Paths.locate(os.environ)
    config = load_config({}, os.environ, paths.config_file)
    server = find_server(config, paths)
    if server is not None:
        server.delete_model(model)
    else:
        from tabagent.models import delete_model, models_folder

        delete_model(model, models_folder(config, paths))


def _show(source: str, verdict: str, estimate: dict[str, int], found: GgufSummary) -> None:
    context = f"{estimate['context_length']:,} tokens"
    memory = estimate["weight_bytes"] + estimate["cache_bytes"]
    weights, cache = size(estimate["weight_bytes"]), size(estimate["cache_bytes"])
    files = f"{found['parts']} files, " if found["parts"] > 1 else ""
    facts = [
        ("file", source),
        ("verdict", f"{verdict}: {found['problem']}" if found["problem"] else verdict),
        ("name", found["name"] or "none"),
        ("size", f"{files}{size(found['file_bytes'])}, {found['parameters']:,} parameters"),
        ("architecture", f"{found['architecture']}, GGUF version {found['version']}"),
    ]
    # Where the file is refused these may be unknown.
    if found["context_length"]:
        facts += [
            ("trained on", f"{found['context_length']:,} tokens"),
            ("layers", f"{found['block_count']} of width {found['embedding_length']:,}"),
        ]
    if found["vocab_size"]:
        facts.append(("vocabulary", f"{found['vocab_size']:,} tokens"))
    if found["ternary"]:
        facts.append(("ternary", _ternary(found["ternary"])))
    facts.append(("memory", f"{size(memory)}: weights {weights}, cache of {context} {cache}"))
    pairs(facts)
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


def _ternary(found: Ternary) -> str:
    """How ternary weights are stored and how they run."""
    stored = f"{found['tensors']} tensors of {found['encoding']}" if found["tensors"] else "none"
    runs = f", computed as {' and '.join(found['runs_as'])}" if found["runs_as"] else ""
    rewritten = "; rewritten into the cache at its first load" if found["needs_transcoding"] else ""
    squared = "; feed-forward with squared ReLU" if found["squared_relu"] else ""
    return stored + runs + rewritten + squared


def _short(value: Any) -> str:
    """A value in one line; floats as their 32 bits mean them."""
    text = f"{value:.7g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= 80 else f"{text[:79]}…"
