"""The models folder of a running server: downloads into it and deletions from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import msgspec
from anyio import to_thread
from anyio.streams.buffered import BufferedByteReceiveStream

from .core.errors import BackendError, RequestError, error_from_code
from .core.library import ModelLibrary
from .hub import parse_reference
from .hub.report import ErrorReport, ProgressReport, PulledReport, Report
from .models import NamedModel, delete_model, installed_models, model_id_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import Process

    from .core.backend import ModelSpec
    from .core.engine import Engine
    from .core.events import ModelStatus

__all__ = ["ModelFolder"]

MAX_PULLS: Final = 4
"""Downloads at a time."""

MAX_REPORT_SIZE: Final = 64 * 1024
"""Bytes of one line that a download says."""

_REPORTS: msgspec.json.Decoder[Report] = msgspec.json.Decoder(Report)


class ModelFolder(ModelLibrary):
    """The folder, and the engine that knows what is in it.

    Each download is a process of its own, so that a server which pulls nothing pays nothing for it,
    and a cancelled one ends at once.
    """

    def __init__(
        self, folder: Path, engine: Engine, spec_of: Callable[[NamedModel], ModelSpec]
    ) -> None:
        """`spec_of` finds the backend of a model."""
        self._folder = folder
        self._engine = engine
        self._spec_of = spec_of
        self._pulls = 0

    async def pull(
        self, reference: str, progress: Callable[[str, int, int], object]
    ) -> ModelStatus:
        """Download a model and make it known; cancelling kills the download."""
        wanted = str(parse_reference(reference))
        if self._pulls >= MAX_PULLS:
            raise RequestError("overloaded", f"{MAX_PULLS} downloads are under way")
        self._pulls += 1
        try:
            file = await self._download(wanted, progress)
        finally:
            self._pulls -= 1
        return self._make_known(NamedModel(model_id_of(Path(file)), file))

    async def delete(self, model_id: str) -> None:
        """Unload a model, forget it and delete its files."""
        known = next((each for each in self._engine.specs() if each.id == model_id), None)
        if known is not None:
            installed = await to_thread.run_sync(installed_models, self._folder)
            if not any(_is_same(model, known) for model in installed):
                text = f"{model_id!r} is not kept in {self._folder}"
                raise RequestError("invalid_parameter", text, param="model")
            await self._engine.forget(model_id)
        await to_thread.run_sync(delete_model, model_id, self._folder)

    async def _download(self, wanted: str, progress: Callable[[str, int, int], object]) -> str:
        command = [sys.executable, "-P", "-m", "tabagent.hub", wanted, str(self._folder)]
        async with await anyio.open_process(
            command, stdin=subprocess.DEVNULL, stderr=None
        ) as process:
            return await _follow(process, progress)

    def _make_known(self, model: NamedModel) -> ModelStatus:
        known = next((each for each in self._engine.specs() if each.id == model.id), None)
        if known is None:
            self._engine.register(self._spec_of(model))
        elif not _is_same(model, known):
            text = f"{model.source} is there, but this server has another model {model.id!r}"
            raise RequestError("invalid_parameter", text, param="model")
        return self._engine.model(model.id)


async def _follow(process: Process, progress: Callable[[str, int, int], object]) -> str:
    """Pass on what a download says; return the file that it ends with."""
    assert process.stdout is not None
    lines = BufferedByteReceiveStream(process.stdout)
    while True:
        try:
            line = await lines.receive_until(b"\n", MAX_REPORT_SIZE)
        except (anyio.EndOfStream, anyio.IncompleteRead):
            text = "the download ended without a word; the server's log may say why"
            raise BackendError("upstream_failed", text) from None
        match _REPORTS.decode(line):
            case ProgressReport(file, done, total):
                progress(file, done, total)
            case PulledReport(file):
                return file
            case ErrorReport(code, message, param):
                raise error_from_code(code, message, param=param)


def _is_same(model: NamedModel, spec: ModelSpec) -> bool:
    return model.id == spec.id and Path(model.source).absolute() == Path(spec.source).absolute()
