"""The one error of the engine, raised by its compiled and its Python part alike."""

from __future__ import annotations

__all__ = ["EngineError"]


class EngineError(Exception):
    """A refusal or failure of the engine.

    `code` is the stable word of the public contract; the message is not stable. `param` names the
    request field that is to blame, if one is.
    """

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(code, message, param)
        self.code = code
        self.param = param

    def __str__(self) -> str:
        return str(self.args[1])
