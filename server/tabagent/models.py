"""Which model files the server knows, and by which ids."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from .config import ConfigError

if TYPE_CHECKING:
    from .config import Config, Paths

__all__ = ["GUIDE", "NamedModel", "configured_models", "find_model", "installed_models"]

GUIDE: Final = "tabagent-guide"
"""The id of the embedded model, which is served when no other is named."""


class NamedModel(Struct, frozen=True):
    """A model's public id, and the path or other source that its backend loads."""

    id: str
    source: str


def configured_models(config: Config, paths: Paths) -> list[NamedModel]:
    """Return the models to load at start-up, in their order.

    :raises ConfigError: when two have the same id.
    """
    if config.no_model:
        return []
    if not config.model:
        return [guide()]
    models = [_named(text, models_folder(config, paths)) for text in config.model]
    seen: set[str] = set()
    for model in models:
        if model.id in seen:
            raise ConfigError(
                "model", "--model", f"two models have the id {model.id!r}; ID=PATH names one"
            )
        seen.add(model.id)
    return models


def installed_models(folder: Path) -> list[NamedModel]:
    """Return the model files in a folder; it need not exist."""
    return [NamedModel(file.stem, str(file)) for file in sorted(folder.glob("*.gguf"))]


def find_model(text: str, config: Config, paths: Paths) -> NamedModel:
    """Return the model that a person means by a path, `ID=PATH`, or the id of a known one."""
    folder = models_folder(config, paths)
    known = [*configured_models(config, paths), *installed_models(folder), guide()]
    return next((model for model in known if model.id == text), _named(text, folder))


def models_folder(config: Config, paths: Paths) -> Path:
    """Return the folder in which models are kept."""
    return Path(config.models_dir).expanduser() if config.models_dir else paths.models


def guide() -> NamedModel:
    """Return the embedded model."""
    # Package data of the built-in backends, named and not imported: they come in as plugins.
    return NamedModel(GUIDE, str(files("tabagent_backends") / "guide" / f"{GUIDE}.gguf"))


def _named(text: str, folder: Path) -> NamedModel:
    name, separator, source = text.partition("=")
    named = separator and name and source and not _is_path(name) and not os.path.exists(text)
    if not named:
        name, source = "", text
    path = Path(source).expanduser()
    if not path.exists() and (folder / path).exists():
        path = folder / path
    if path.exists():
        source = str(path.absolute())
    return NamedModel(name or Path(source).stem, source)


def _is_path(text: str) -> bool:
    return any(separator in text for separator in {"/", os.sep})
