"""The extension's `pull_model`: a download, told as the loading of a model is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from tabagent.core.events import DownloadProgress, Failed, Finished, ModelsListed

from .extension_replies import Call
from .wire import invalid

if TYPE_CHECKING:
    from tabagent.core.events import RequestEvent


__all__ = ["Pull", "PullMessage"]


class PullMessage(Struct):
    """`pull_model`: a reference to a model of the Hub; a file or quantisation may stand apart."""

    model: str
    variant: str | None = None

    def reference(self) -> str:
        """Return both in one."""
        if self.variant is None:
            return self.model
        if ":" in self.model.removeprefix("hf:"):
            raise invalid("variant", "the model names a file or quantisation already")
        return f"{self.model}:{self.variant}"


class Pull(Struct):
    """A download that is under way; a `quiet` one gets its reply only."""

    call: Call
    quiet: bool
    file: str | None = None

    def send_event(self, event: RequestEvent) -> bool:
        """Tell what happens; return whether that was the end."""
        match event:
            case DownloadProgress(_, file, done, total):
                self._tell("initiate" if self.file is None else "progress", file, done, total)
                return False
            case ModelsListed(_, (model,)):
                self._tell("done", self.file or model.id, 1, 1)
                self.call.succeed({"modelPath": model.id, "backend": model.backend})
            case Finished():
                self.call.succeed({"cancelled": True})
            case Failed(_, error):
                if self.file is not None and not self.quiet:
                    reason = {"code": error.code, "error": error.message}
                    told = {"status": "error", "file": self.file, "progress": 0.0, **reason}
                    self.call.tell("modelWorkerLoadingProgress", told)
                self.call.fail(error)
        return True

    def _tell(self, status: str, file: str, done: int, total: int) -> None:
        self.file = file
        if not self.quiet:
            percent = round(100 * done / total, 1) if total else 100.0
            told = {"status": status, "file": file, "progress": percent}
            if status != "done":
                told |= {"loaded": done, "total": total}
            self.call.tell("modelWorkerLoadingProgress", told)
