"""Which model files the server knows, and by which ids."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from .config import ConfigError
from .core.errors import RequestError
from .hub.reference import PART
from .hub.staging import remove_staged

if TYPE_CHECKING:
    from .config import Config, Paths

__all__ = [
    "GUIDE",
    "NamedModel",
    "configured_models",
    "delete_model",
    "find_model",
    "installed_models",
    "model_id_of",
    "models_folder",
]

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
    """Return the models in a folder; it need not exist.

    Each is a file, or the first part of a split one, there or in a folder of its own.
    """
    models = []
    for file in sorted([*folder.glob("*.gguf"), *folder.glob("*/*-00001-of-*.gguf")]):
        part = PART.fullmatch(file.stem)
        hidden = any(name.startswith(".") for name in file.relative_to(folder).parts)
        if not hidden and (part is None or int(part["number"]) == 1):
            models.append(NamedModel(model_id_of(file), str(file)))
    return models


def model_id_of(file: Path) -> str:
    """Return the id that a model has from its file, or from any part of it."""
    part = PART.fullmatch(file.stem)
    return part["base"] if part else file.stem


def model_files(model: NamedModel) -> list[Path]:
    """Return the files of an installed model: all parts of a split one."""
    file = Path(model.source)
    part = PART.fullmatch(file.stem)
    if part is None:
        return [file]
    last = f"-of-{part['count']}.gguf"
    return [
        file.with_name(f"{part['base']}-{number:05}{last}")
        for number in range(1, int(part["count"]) + 1)
    ]


def delete_model(model_id: str, folder: Path) -> None:
    """Delete an installed model, and what an interrupted pull has left of it.

    :raises RequestError: `model_not_found` when the folder has none of that name.
    """
    model = next((each for each in installed_models(folder) if each.id == model_id), None)
    if not remove_staged(model_id, folder) and model is None:
        text = f"there is no model {model_id!r} in {folder}"
        raise RequestError("model_not_found", text, param="model")
    if model is not None:
        for file in model_files(model):  # the first part first: without it there is no model
            file.unlink(missing_ok=True)
        own_folder = Path(model.source).parent
        if own_folder != folder:
            with suppress(OSError):
                own_folder.rmdir()


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
    return NamedModel(name or model_id_of(Path(source)), source)


def _is_path(text: str) -> bool:
    return any(separator in text for separator in {"/", os.sep})
