"""Which files of a Hub repository a reference means: `hf:owner/repo[@revision][:file or quant]`."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from tabagent.core.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["HubFile", "HubModel", "Reference", "choose_model", "models_in", "parse_reference"]

DEFAULT_QUANT: Final = "Q4_K_M"
"""Taken when nothing is named and there is a choice: what the field takes."""

REFERENCE: Final = re.compile(
    r"(?:hf:)?(?P<repo>[\w.-]{1,96}/[\w.-]{1,96})(?:@(?P<revision>[^:@]+))?(?::(?P<selector>.+))?",
    re.ASCII,
)
PART: Final = re.compile(r"(?P<base>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})", re.ASCII)
QUANT: Final = re.compile(
    r"(?:^|[-._])(?P<label>(?:UD-)?(?:I?Q|TQ)\d\w*|BF16|F16|F32|FP16|FP32|MXFP4\w*|I2_S)$",
    re.ASCII | re.IGNORECASE,
)
FORBIDDEN: Final = frozenset('\\/:*?"<>|')


class Reference(Struct, frozen=True):
    """A repository and what is wanted of it; a selector is a file's name or a quantisation."""

    repo: str
    selector: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        selector = f":{self.selector}" if self.selector else ""
        return f"hf:{self.repo}{revision}{selector}"


class HubFile(Struct, frozen=True):
    """A file of a repository: its bytes, and the SHA-256 or (short files) Git hash of them."""

    path: str
    size: int
    digest: str

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.path).name


class HubModel(Struct, frozen=True):
    """A GGUF model of a repository: one file, or the parts of a split one in their order."""

    name: str
    files: tuple[HubFile, ...]
    parts: int = 0

    @property
    def split(self) -> bool:
        """Whether it comes in parts, be it a single one."""
        return self.parts > 0

    @property
    def quant(self) -> str | None:
        """The quantisation that its name ends with, in capitals."""
        found = QUANT.search(self.name)
        return found["label"].upper() if found else None

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)


def parse_reference(text: str) -> Reference:
    """Read a reference; `hf:` may be absent.

    :raises RequestError: `invalid_parameter`.
    """
    found = REFERENCE.fullmatch(text)
    if found is None:
        message = f"{text!r} is not hf:owner/repo, hf:owner/repo:file.gguf or hf:owner/repo:quant"
        raise RequestError("invalid_parameter", message, param="model")
    return Reference(found["repo"], found["selector"], found["revision"])


def models_in(files: Iterable[HubFile]) -> list[HubModel]:
    """Return the models among the files of a repository, the parts of each split one together.

    Projectors (`mmproj`) and importance matrices are no models of their own.
    """
    groups: dict[str, list[HubFile]] = {}
    for file in sorted(files, key=lambda file: file.path):
        path = PurePosixPath(file.path)
        if path.suffix != ".gguf" or path.name.lower().startswith(("mmproj", "imatrix")):
            continue
        split = PART.fullmatch(path.stem)
        groups.setdefault(str(path.with_name(split["base"] if split else path.stem)), []).append(
            file
        )
    return [_model(base, group) for base, group in groups.items()]


def choose_model(models: Sequence[HubModel], reference: Reference) -> HubModel:
    """Return the model that a reference means.

    Without a selector that is the only one, else the one of `Q4_K_M`.

    :raises RequestError: `model_not_found` or, where several fit, `invalid_parameter`; both list
        what there is.
    """
    if not models:
        raise RequestError("model_not_found", f"{reference.repo} has no GGUF file", param="model")
    found = _matching(models, reference.selector)
    if len(found) == 1:
        _require_usable(found[0])
        return found[0]
    listing = ", ".join(_shown(model, models) for model in found or models)
    if not found:
        message = f"{reference.repo} has no {reference.selector!r}; it has {listing}"
        raise RequestError("model_not_found", message, param="model")
    message = f"{reference} may mean several; add one of these after a colon: {listing}"
    raise RequestError("invalid_parameter", message, param="model")


def _matching(models: Sequence[HubModel], selector: str | None) -> Sequence[HubModel]:
    if selector is None:
        usual = [model for model in models if model.quant == DEFAULT_QUANT]
        return usual if len(models) > 1 and len(usual) == 1 else models
    if selector.lower().endswith(".gguf"):
        exact = [model for model in models if any(file.path == selector for file in model.files)]
        return exact or [
            model for model in models if any(file.name == selector for file in model.files)
        ]
    exact = [model for model in models if model.quant == selector.upper()]
    within = re.compile(rf"(?:^|[-.]){re.escape(selector)}(?:$|[-.])", re.IGNORECASE)
    return exact or [model for model in models if within.search(model.name)]


def _model(base: str, files: list[HubFile]) -> HubModel:
    split = PART.fullmatch(PurePosixPath(files[0].path).stem)
    return HubModel(PurePosixPath(base).name, tuple(files), int(split["count"]) if split else 0)


def _require_usable(model: HubModel) -> None:
    """Refuse what is not whole, and names that would leave the models folder or be hidden in it."""
    width = f"-of-{model.parts:05}.gguf"
    wanted = [f"{model.name}-{number:05}{width}" for number in range(1, model.parts + 1)]
    if model.split and [file.name for file in model.files] != wanted:
        message = f"{model.name} is not whole: it has {len(model.files)} of {model.parts} parts"
        raise RequestError("model_not_found", message, param="model")
    for file in model.files:
        name = file.name
        if name.startswith(".") or not name.isprintable() or FORBIDDEN.intersection(name):
            message = f"{file.path!r} is not a name for a file here"
            raise RequestError("invalid_parameter", message, param="model")


def _shown(model: HubModel, models: Sequence[HubModel]) -> str:
    """The shortest selector that means this model alone."""
    if model.quant and sum(other.quant == model.quant for other in models) == 1:
        return model.quant
    return model.files[0].path
