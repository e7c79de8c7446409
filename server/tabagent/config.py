"""The server's settings: flag, then environment, then `config.toml`, then default.

Read once, at the composition root; no other module reads the environment.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Literal,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec
from msgspec import Meta, Struct, ValidationError

from .core.access import LOOPBACK_HOSTS, parse_host, parse_origin
from .core.errors import RequestError
from .core.ice import parse_ice_server

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Config", "ConfigError", "Paths", "load_config"]

ENV_PREFIX: Final = "TABAGENT_"
"""`--a-b` is also `TABAGENT_A_B`; lists are separated by commas there."""

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class ConfigError(RequestError):
    """A setting is wrong; the message names its key and where it comes from."""

    def __init__(self, key: str, source: str, message: str) -> None:
        super().__init__("invalid_parameter", f"{source}: {message}", param=key)


class Paths(Struct, frozen=True):
    """The folders of one installation; none of them need exist.

    Attributes:
        run: Where running servers have their sockets.
    """

    config: Path
    data: Path
    cache: Path
    state: Path
    run: Path

    @classmethod
    def locate(cls, environ: Mapping[str, str]) -> Paths:
        """Return the user's folders, or those under `TABAGENT_HOME` where it is set."""
        home = environ.get("TABAGENT_HOME")
        if home:
            root = Path(home).expanduser().absolute()
            return cls(root, root, root / "cache", root, root / "run")
        from platformdirs import PlatformDirs

        dirs = PlatformDirs("tabagent", appauthor=False)
        state = dirs.user_state_path
        runtime = environ.get("XDG_RUNTIME_DIR")
        return cls(
            dirs.user_config_path,
            dirs.user_data_path,
            dirs.user_cache_path,
            state,
            Path(runtime) / "tabagent" if runtime else state / "run",
        )

    @property
    def config_file(self) -> Path:
        """`config.toml`."""
        return self.config / "config.toml"

    @property
    def models(self) -> Path:
        """Where models are kept unless `--models-dir` says otherwise."""
        return self.data / "models"

    @property
    def origins(self) -> Path:
        """Approved and pending origins, readable by its user only."""
        return self.state / "origins.json"

    @property
    def tls(self) -> Path:
        """Where `tabagent cert` puts its certificate and key."""
        return self.state / "tls"

    @property
    def token(self) -> Path:
        """The token that `--require-token` makes, readable by its user only."""
        return self.state / "token"


class Config(Struct, frozen=True, kw_only=True):
    """Every setting of `serve`, under the names of the public contract.

    Attributes:
        model: Each `PATH` or `ID=PATH`.
        host: Address to bind; None is 127.0.0.1, and ::1 where it exists.
        ctx_size: Tokens per request.
        gpu_layers: Layers on the GPU; 0 is CPU only, auto as many as fit.
        tls_cert: File with the certificate to show; None is plain HTTP.
        tls_key: File with its key, unless that is in the same file.
        trusted_proxy: Addresses whose `X-Forwarded-*` headers are believed.
        idle_exit: Seconds without connections after which the server ends.
        max_message_size: Bytes of one incoming message or body.
        ice_server: STUN and TURN servers for WebRTC, as `parse_ice_server` reads them.
        ice_transport_policy: `relay` lets WebRTC peers reach each other through TURN only.
        turn_secret: Shared with the TURN servers, for short-lived credentials.
        max_peers: WebRTC peers at the same time.
        resume_ttl: Seconds that a resumable response runs on without a connection, and is kept.
    """

    model: tuple[str, ...] = ()
    no_model: bool = False
    host: str | None = None
    port: Annotated[int, Meta(ge=0, le=65535)] = 8484
    runtime: str | None = None
    models_dir: str | None = None
    ctx_size: Count | None = None
    parallel: Annotated[int, Meta(ge=1, le=256)] = 4
    threads: Annotated[int, Meta(ge=1, le=1024)] | None = None
    gpu_layers: Literal["auto"] | Annotated[int, Meta(ge=0, le=100_000)] = 0
    token: str | None = None
    token_file: str | None = None
    require_token: bool = False
    tls_cert: str | None = None
    tls_key: str | None = None
    allow_origin: tuple[str, ...] = ()
    allow_host: tuple[str, ...] = ()
    trusted_proxy: tuple[str, ...] = ()
    idle_exit: Annotated[float, Meta(gt=0)] | None = None
    resume_ttl: Annotated[float, Meta(gt=0)] = 60.0
    max_message_size: Annotated[int, Meta(ge=64 * 1024, le=64 * 1024 * 1024)] = 1024 * 1024
    ice_server: tuple[str, ...] = ()
    ice_transport_policy: Literal["all", "relay"] = "all"
    turn_secret: str | None = None
    max_peers: Annotated[int, Meta(ge=1, le=10_000)] = 128
    cache_disk: str | None = None
    no_mmap: bool = False
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host is None or parse_host(self.host) in LOOPBACK_HOSTS

    @property
    def token_required(self) -> bool:
        """Whether every caller must show the token; a proxy brings callers from elsewhere."""
        return self.require_token or not self.loopback or bool(self.trusted_proxy)


_TYPES: Final[dict[str, Any]] = {
    name: kind
    for name, kind in get_type_hints(Config, include_extras=True).items()
    if name in Config.__struct_fields__
}

_LISTS: Final = frozenset(name for name, kind in _TYPES.items() if get_origin(kind) is tuple)


def load_config(flags: Mapping[str, Any], environ: Mapping[str, str], file: Path) -> Config:
    """Merge the sources; a flag that is None was not given, nor was an empty variable.

    :raises ConfigError: for a value that does not fit and for an unknown key of the file.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for key, source, value in (
        *_from_file(file),
        *_from_environment(environ),
        *((key, _flag(key), value) for key, value in flags.items() if value is not None),
    ):
        if key not in _TYPES:
            raise ConfigError(key, source, f"there is no setting {key!r}")
        values[key] = _converted(key, source, value)
        sources[key] = source
    if values.get("no_model") and values.get("model"):
        raise ConfigError("no_model", sources["no_model"], "excludes --model")
    return Config(**values)


def _from_file(file: Path) -> list[tuple[str, str, Any]]:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise ConfigError("config", str(file), f"cannot be read: {error}") from None
    return [(key, f"{key} in {file}", value) for key, value in table.items()]


def _from_environment(environ: Mapping[str, str]) -> list[tuple[str, str, Any]]:
    found: list[tuple[str, str, Any]] = []
    for key in _TYPES:
        name = ENV_PREFIX + key.upper()
        if text := environ.get(name):
            value = [part.strip() for part in text.split(",")] if key in _LISTS else text
            found.append((key, name, value))
    return found


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _converted(key: str, source: str, value: Any) -> Any:
    if key in _LISTS and isinstance(value, str):
        value = [value]
    try:
        value = msgspec.convert(value, _TYPES[key], strict=False)
        check = _CHECKS.get(key)
        return check(value) if check and value is not None else value
    except ValidationError as error:
        raise ConfigError(key, source, _complaint(_TYPES[key], str(error))) from None
    except ValueError as error:
        raise ConfigError(key, source, str(error)) from None


def _complaint(kind: Any, text: str) -> str:
    """Say what was expected; never what was given, which may be a token."""
    if not text.startswith("Invalid enum"):
        return text[0].lower() + text[1:]
    if get_origin(kind) is Literal:
        return f"expected one of {', '.join(get_args(kind))}"
    return "expected a number or auto"


def _token(value: str) -> str:
    token = value.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("a token is printable ASCII without spaces")
    return token


def _host(value: str) -> str:
    host = parse_host(value).strip("[]")
    if host != value.strip().lower().strip("[]"):
        raise ValueError(f"{value!r} is more than an address; the port has a setting of its own")
    return host


def _ice_servers(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        parse_ice_server(value)
    return values


_CHECKS: Final[dict[str, Callable[[Any], Any]]] = {
    "host": _host,
    "tls_cert": lambda file: str(Path(file).expanduser()),
    "tls_key": lambda file: str(Path(file).expanduser()),
    "token": _token,
    "allow_host": lambda hosts: tuple(parse_host(host) for host in hosts),
    "ice_server": _ice_servers,
    "allow_origin": lambda origins: tuple(parse_origin(origin) for origin in origins),
}
