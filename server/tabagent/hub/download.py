"""Downloads a model from the Hub into the models folder: all of it, checked, or nothing.

What is under way lies in a hidden folder beside the models and is taken up again by the next pull
of the same content, also after a kill. A model appears under its name by one rename.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from tabagent.core.errors import BackendError, RequestError

from .reference import HubFile, choose_model, models_in
from .staging import staging_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from huggingface_hub.hf_api import RepoSibling

    from .reference import HubModel, Reference

    Progress = Callable[[str, int, int], object]
    """Told the file, how many of the model's bytes are there, and how many it has."""

__all__ = ["pull_model"]

HUB_PATIENCE: Final = 30.0
"""Seconds in which the Hub has to list a repository."""

LOCK_PATIENCE: Final = 2.0
"""Seconds in which a pull that was just ended lets go of its files."""


def pull_model(reference: Reference, folder: Path, progress: Progress) -> Path:
    """Bring a model into `folder`; return its file, of a split one the first.

    A model that is there already is checked and left alone. Blocks; imports `huggingface_hub`,
    which takes the address of the Hub and the token from where it always does.

    :raises TabagentError: `invalid_parameter` for a reference with several meanings and for a
        name that another model has; `model_not_found`; `overloaded` while another process pulls
        the same; `out_of_memory` when the disk is too small; `upstream_failed` for a Hub that
        refuses or cannot be reached, and for bytes that are not the announced ones.
    """
    with _hub_errors(reference):
        commit, model = _find(reference)
    try:
        return _Pull(reference, commit, model, folder).run(progress)
    except OSError as error:
        code = "out_of_memory" if error.errno == errno.ENOSPC else "model_load_failed"
        raise BackendError(code, f"{folder}: {error.strerror or error}") from None


def _find(reference: Reference) -> tuple[str, HubModel]:
    from huggingface_hub import HfApi

    info = HfApi().model_info(
        reference.repo, revision=reference.revision, files_metadata=True, timeout=HUB_PATIENCE
    )
    files = [_hub_file(sibling) for sibling in info.siblings or ()]
    return info.sha or reference.revision or "main", choose_model(models_in(files), reference)


def _hub_file(sibling: RepoSibling) -> HubFile:
    digest = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
    return HubFile(sibling.rfilename, sibling.size or 0, digest or "")


class _Pull:
    """One model of one commit on its way into a folder."""

    def __init__(self, reference: Reference, commit: str, model: HubModel, folder: Path) -> None:
        self._reference = reference
        self._commit = commit
        self._model = model
        digests = [f"{file.name} {file.digest}" for file in model.files]
        self._staging = staging_folder(folder, model.name, digests)
        self._whole = self._staging / "whole"  # the files that have been checked
        self._target = folder / (model.name if model.split else model.files[0].name)

    def run(self, progress: Progress) -> Path:
        from filelock import FileLock, Timeout

        self._staging.parent.mkdir(parents=True, exist_ok=True)
        lock = self._staging.with_name(f"{self._staging.name}.lock")
        try:
            with FileLock(lock, timeout=LOCK_PATIENCE):
                if not self._is_installed():
                    self._require_space()
                    self._download(progress)
                    self._install()
                progress(self._model.files[-1].name, self._model.size, self._model.size)
                lock.unlink(missing_ok=True)
        except Timeout:
            message = f"{self._model.name} is being pulled already"
            raise RequestError("overloaded", message, retry_after=LOCK_PATIENCE) from None
        with suppress(OSError):
            self._staging.parent.rmdir()  # unless another pull is under way
        return self._target / self._model.files[0].name if self._model.split else self._target

    def _is_installed(self) -> bool:
        if not self._target.exists():
            return False
        for file in self._model.files:
            place = self._target / file.name if self._model.split else self._target
            if not place.is_file() or not _is(place, file):
                message = f"{self._target} is another model; `tabagent models rm` deletes it"
                raise RequestError("invalid_parameter", message, param="model")
        return True

    def _require_space(self) -> None:
        self._whole.mkdir(parents=True, exist_ok=True)
        there = sum(file.stat().st_size for file in self._staging.glob("**/*") if file.is_file())
        needed, free = self._model.size - there, shutil.disk_usage(self._staging).free
        if needed > free:
            message = f"{self._model.name} needs {needed:,} bytes more, the disk has {free:,} free"
            raise BackendError("out_of_memory", message)

    def _download(self, progress: Progress) -> None:
        before = 0
        for file in self._model.files:
            whole = self._whole / file.name
            if not whole.exists():
                partial = self._staging / f"{file.name}.partial"
                with _Partial(partial, file.name, before, self._model.size, progress) as stream:
                    with _hub_errors(self._reference):
                        self._fetch(file, stream)
                    stream.flush()
                    os.fsync(stream.fileno())
                _require_checksum(partial, file)
                partial.rename(whole)
            before += file.size

    def _fetch(self, file: HubFile, stream: _Partial) -> None:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers, disable_progress_bars

        disable_progress_bars()
        start = stream.tell()
        if start > file.size:
            start = stream.seek(0)
            stream.truncate()
        http_get(
            hf_hub_url(self._reference.repo, file.path, revision=self._commit),
            stream,
            resume_size=start,
            headers=build_hf_headers(),
            expected_size=file.size,
            displayed_filename=file.name,
        )

    def _install(self) -> None:
        if self._model.split:
            self._whole.rename(self._target)
        else:
            (self._whole / self._target.name).rename(self._target)
        shutil.rmtree(self._staging)


class _Partial(io.BufferedWriter):
    """A file that grows at its end and tells how far the model has come."""

    def __init__(self, path: Path, name: str, before: int, total: int, progress: Progress) -> None:
        super().__init__(io.FileIO(path, "a"))
        self._name, self._before, self._total = name, before, total
        self._progress = progress
        self._report()

    def write(self, data: object) -> int:
        """Append a piece that has arrived."""
        written = super().write(data)  # type: ignore[arg-type]
        self._report()
        return written

    def _report(self) -> None:
        self._progress(self._name, self._before + self.tell(), self._total)


def _is(place: Path, file: HubFile) -> bool:
    """Whether a file has the bytes that the Hub has announced."""
    if place.stat().st_size != file.size:
        return False
    is_sha256 = len(file.digest) == 64
    digest = hashlib.sha256() if is_sha256 else hashlib.sha1(b"blob %d\0" % file.size)
    with place.open("rb") as stream:
        while data := stream.read(1 << 20):
            digest.update(data)
    return digest.hexdigest() == file.digest


def _require_checksum(partial: Path, file: HubFile) -> None:
    if not _is(partial, file):
        partial.unlink()
        message = f"{file.name} arrived with another checksum than announced and was deleted"
        raise BackendError("upstream_failed", message)


@contextmanager
def _hub_errors(reference: Reference) -> Iterator[None]:
    """Give the errors of `huggingface_hub` their place among ours."""
    from httpx2 import HTTPError
    from huggingface_hub import errors

    repo = reference.repo
    try:
        yield
    except errors.GatedRepoError:
        message = (
            f"{repo} is gated: accept its terms at its page on the Hub, "
            "then set HF_TOKEN to a token of yours"
        )
        raise BackendError("upstream_failed", message) from None
    except errors.RepositoryNotFoundError:
        message = f"the Hub has no {repo}, or it is private and HF_TOKEN is not set to a token"
        raise RequestError("model_not_found", message, param="model") from None
    except errors.RevisionNotFoundError:
        message = f"{repo} has no revision {reference.revision!r}"
        raise RequestError("model_not_found", message, param="model") from None
    except errors.HFValidationError as error:
        raise RequestError("invalid_parameter", _first_line(error), param="model") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        message = f"the Hub answered {status}: {error.server_message or _first_line(error)}"
        raise BackendError("upstream_failed", message) from None
    except (HTTPError, errors.OfflineModeIsEnabled, ValueError) as error:
        message = f"the Hub cannot be reached or understood: {_first_line(error)}"
        raise BackendError("upstream_failed", message) from None
    except OSError as error:
        if error.errno is not None:
            raise
        # It ended early: the library has no class of its own for that.
        raise BackendError("upstream_failed", _first_line(error)) from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
