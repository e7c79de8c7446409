"""What all dialects share: strict decoding, encoding, ids and error objects."""

from __future__ import annotations

import re
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from tabagent.core.errors import AccessError, ProtocolError, RequestError, TabagentError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "ErrorBody",
    "ErrorObject",
    "convert",
    "decode",
    "encode",
    "error_object",
    "invalid",
    "new_id",
    "not_supported",
    "renamed",
]

T = TypeVar("T")

MAX_ERROR_CHARS = 1000
"""Errors quote what a peer sent; a longer text would only echo it."""

_encoder = msgspec.json.Encoder()
_decoders: dict[type, msgspec.json.Decoder[Any]] = {}

_PLACE = re.compile(r"^(?P<text>.*?)(?: - at (?:`key` in )?`\$\.?(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(\w+)`$")


def encode(value: object) -> str:
    """Return `value` as JSON text."""
    return _encoder.encode(value).decode()


def decode(message: str | bytes, kind: type[T]) -> T:
    """Return `message` as a `kind`.

    :raises ProtocolError: `invalid_message` when it is no JSON object.
    :raises RequestError: `invalid_parameter` when a field has the wrong type; it is in `param`.
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        value: T = decoder.decode(message)
    except msgspec.ValidationError as error:
        raise _misfit(str(error)) from None
    except (ValueError, RecursionError) as error:
        raise ProtocolError("invalid_message", f"this is not valid JSON: {error}") from None
    return value


def convert(value: object, kind: type[T]) -> T:
    """Return decoded JSON as a `kind`; errors are those of `decode`."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _misfit(str(error)) from None


def _misfit(description: str) -> TabagentError:
    place = _PLACE.match(description)
    assert place is not None
    text, path = place["text"], place["path"]
    missing = _MISSING.match(text)
    if missing:
        path = f"{path}.{missing[1]}" if path else missing[1]
        return invalid(path, "this field is required")
    if not path:
        return ProtocolError("invalid_message", f"a message is one JSON object: {text}")
    return invalid(path, text[0].lower() + text[1:])


def invalid(param: str, message: str) -> RequestError:
    """Return the error for a field with a wrong value."""
    return RequestError("invalid_parameter", f"{param}: {message}", param=param)


def not_supported(param: str, message: str) -> RequestError:
    """Return the error for a field that asks for a feature which is not there."""
    return RequestError("not_supported", f"{param}: {message}", param=param)


@contextmanager
def renamed(**names: str) -> Iterator[None]:
    """Let errors of the domain blame the field by the name it has in a dialect."""
    try:
        yield
    except RequestError as error:
        name = names.get(error.param or "")
        if name is None:
            raise
        text = error.message.removeprefix(f"{error.param}: ")
        raise RequestError(error.code, f"{name}: {text}", param=name) from None


def new_id(prefix: str) -> str:
    """Return an id that nobody can guess, as `prefix` and 32 hex digits."""
    return f"{prefix}{uuid.uuid4().hex}"


class ErrorObject(Struct):
    """What went wrong; `code` is stable, `message` is for people.

    An extension that has not been approved is told so by `reason`, with its `pairing_code`.
    """

    message: str
    type: str
    code: str
    param: str | None = None
    reason: str | UnsetType = UNSET
    pairing_code: str | UnsetType = UNSET


class ErrorBody(Struct):
    """The body of a refused HTTP request, and the last event of a failed stream."""

    error: ErrorObject


_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    501: "not_supported_error",
}


def error_object(error: TabagentError) -> ErrorObject:
    """Return `error` as all dialects write it."""
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    kind = _ERROR_TYPES.get(error.status, kind)
    written = ErrorObject(error.message[:MAX_ERROR_CHARS], kind, error.code, error.param)
    if isinstance(error, AccessError) and error.pairing_code is not None:
        written.reason, written.pairing_code = "approval_pending", error.pairing_code
    return written
