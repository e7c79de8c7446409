"""Every error that TabAgent raises or puts on a wire.

* `TabagentError`: has a stable `code`; texts are for people and may change.

  * `ProtocolError`: the peer's message is not understood.
  * `RequestError`: the request is understood and refused.
  * `AccessError`: the caller may not do this.
  * `BackendError`: a runtime, a model or an upstream failed.

* `TransportClosed`: the connection is gone; control flow, never put on a wire.
"""

from __future__ import annotations

from typing import ClassVar, Final

__all__ = [
    "HTTP_STATUS",
    "AccessError",
    "BackendError",
    "ProtocolError",
    "RequestError",
    "TabagentError",
    "TransportClosed",
    "error_from_code",
]

HTTP_STATUS: Final[dict[str, int]] = {
    "invalid_message": 400,
    "unknown_type": 400,
    "invalid_parameter": 400,
    "context_length_exceeded": 400,
    "gguf_invalid": 400,
    "gguf_unsupported": 400,
    "token_required": 401,
    "origin_not_allowed": 403,
    "scope_required": 403,
    "model_not_found": 404,
    "response_not_found": 404,
    "resume_expired": 410,
    "message_too_big": 413,
    "host_not_allowed": 421,
    "overloaded": 429,
    "library_not_found": 500,
    "abi_unsupported": 500,
    "runtime_conflict": 500,
    "model_load_failed": 500,
    "decode_failed": 500,
    "not_supported": 501,
    "upstream_failed": 502,
    "shutting_down": 503,
    "out_of_memory": 507,
}
"""Every code of the public contract and the HTTP status that carries it."""


class TabagentError(Exception):
    """Base of all errors that have a code.

    Attributes:
        code: A key of `HTTP_STATUS`; part of the public API.
        message: One sentence for people.
        param: The request field to blame, if one is.
        retry_after: Seconds to wait before the next try, where known.
    """

    codes: ClassVar[frozenset[str]] = frozenset(HTTP_STATUS)

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        if code not in self.codes:
            raise ValueError(f"{type(self).__name__} has no code {code!r}")
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.retry_after = retry_after

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.code in {"overloaded", "shutting_down"}

    @property
    def status(self) -> int:
        """The HTTP status that carries this error."""
        return HTTP_STATUS[self.code]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code!r}, {self.message!r})"


class ProtocolError(TabagentError):
    """The peer's message is not understood."""

    codes = frozenset({"invalid_message", "unknown_type", "message_too_big"})


class RequestError(TabagentError):
    """The request is understood and refused."""

    codes = frozenset(
        {
            "invalid_parameter",
            "context_length_exceeded",
            "model_not_found",
            "response_not_found",
            "resume_expired",
            "overloaded",
            "not_supported",
            "shutting_down",
        }
    )


class AccessError(TabagentError):
    """The caller may not do this."""

    codes = frozenset(
        {"token_required", "origin_not_allowed", "scope_required", "host_not_allowed"}
    )

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        pairing_code: str | None = None,
    ) -> None:
        """Refuse; `pairing_code` is what the caller and whoever may approve it are shown."""
        super().__init__(code, message, param=param, retry_after=retry_after)
        self.pairing_code = pairing_code


class BackendError(TabagentError):
    """A runtime, a model or an upstream failed."""

    codes = frozenset(
        {
            "gguf_invalid",
            "gguf_unsupported",
            "library_not_found",
            "abi_unsupported",
            "runtime_conflict",
            "model_load_failed",
            "decode_failed",
            "out_of_memory",
            "upstream_failed",
        }
    )


class TransportClosed(Exception):
    """The connection is gone. Control flow; never put on a wire."""


def error_from_code(code: str, message: str, *, param: str | None = None) -> TabagentError:
    """Return an error of the class that owns `code`; raise `ValueError` for an unknown one."""
    for cls in (ProtocolError, RequestError, AccessError, BackendError):
        if code in cls.codes:
            return cls(code, message, param=param)
    raise ValueError(f"unknown code {code!r}")
