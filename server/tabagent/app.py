"""The composition root: settings become backends, an engine, listeners and a running server."""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from .connections import Connections
from .core.access import AccessPolicy
from .core.backend import BackendConfig, ModelSpec
from .core.engine import Engine, EngineLimits
from .core.errors import BackendError, RequestError, TabagentError
from .core.ice import IceConfig, parse_ice_server
from .core.recorder import Recorder, RecorderLimits
from .core.session import Session
from .core.transport import ListenerContext
from .credentials import server_token
from .http import build_app
from .model_folder import ModelFolder
from .models import configured_models, installed_models, models_folder
from .origins import OriginStore
from .registry import Registry
from .serving import Server, server_config
from .sockets import listen, url_of
from .system import system_info
from .tls import server_context

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

    from starlette.applications import Starlette

    from .config import Config, Paths
    from .core.library import ModelLibrary
    from .core.requests import Principal
    from .core.transport import Listener, Transport
    from .models import NamedModel

__all__ = ["Application", "backend_config", "model_spec"]

log = logging.getLogger("tabagent.app")

CLOSE_TIMEOUT: Final = 2.0
"""Seconds that a stop waits for peers to take their last events."""


class Application:
    """One server process: what it was told, and the plugins it found."""

    def __init__(
        self,
        config: Config,
        paths: Paths,
        registry: Registry | None = None,
        *,
        daemon: bool = False,
    ) -> None:
        """Resolve everything that can be wrong before anything runs.

        A `daemon` was started by nobody who could mend its settings: it does without a port that
        is taken and without a model that cannot be loaded.

        :raises TabagentError: for settings that do not fit, or that are not supported yet.
        """
        self.config = config
        self.daemon = daemon
        self.paths = paths
        self.registry = registry or Registry()
        self.backend_config = backend_config(config)
        self.tls = server_context(config)
        self.ice = ice_config(config)
        self.origins = OriginStore(paths, config.allow_origin)
        self.access = AccessPolicy(
            hosts=[*config.allow_host, *([config.host] if config.host else [])],
            registry=self.origins,
            token=server_token(config, paths),
            require_token=config.token_required,
        )
        self.models = [
            model_spec(model, self.registry) for model in configured_models(config, paths)
        ]
        self._folder = models_folder(config, paths).absolute()
        self._known = installed_models(self._folder)
        self._system_info = partial(system_info, self.registry, self.backend_config)
        self._failure: TabagentError | None = None
        self._connections = Connections(self.access)
        self.origins.on_change = self._connections.close_revoked
        self._server: Server | None = None

    def listen(self) -> list[socket.socket]:
        """Take the address; before `run`, so that a taken port costs no model load.

        :raises OSError: when it cannot be had.
        """
        try:
            return listen(self.config.host, self.config.port)
        except OSError as error:
            if not self.daemon:
                raise
            log.warning("no HTTP: %s", error.strerror or error)
            return []

    async def run(self, sockets: list[socket.socket], ready: Callable[[str | None], None]) -> None:
        """Serve until a signal, `stop`, the idle time-out or a failed start.

        `ready` gets the address, if any, once the first model is loaded.

        :raises TabagentError: when a model named at start-up cannot be loaded.
        """
        limits = RecorderLimits(resume_ttl=self.config.resume_ttl)
        async with (
            self.engine() as engine,
            Recorder(engine, limits=limits) as recorder,
            anyio.create_task_group() as tasks,
        ):
            library = ModelFolder(self._folder, engine, partial(model_spec, registry=self.registry))
            listeners = self.listeners(engine, recorder, library)
            uvicorn_config = server_config(
                self.asgi(engine, listeners, library),
                max_message_size=self.config.max_message_size,
                trusted_proxies=self.config.trusted_proxy,
                tls=self.tls,
            )
            self._server = server = Server(uvicorn_config, engine.aclose)
            tasks.start_soon(self.origins.serve)
            for listener in listeners:
                tasks.start_soon(listener.serve)
            url = url_of(sockets[0], "https" if self.tls else "http") if sockets else None
            tasks.start_soon(self._load_models, engine, server, partial(ready, url))
            if self.config.idle_exit is not None:
                tasks.start_soon(self._stop_when_idle, server, recorder, self.config.idle_exit)
            await server.serve(sockets)
            tasks.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End `run` soon, as a signal does."""
        if self._server is not None:
            self._server.should_exit = True

    def engine(self) -> Engine:
        """Return an engine that loads the configured models; call it on the event loop."""
        backends = {
            name: cls(self.backend_config) for name, cls in self.registry.backends().items()
        }
        engine = Engine(backends, self.models, limits=EngineLimits(close_timeout=CLOSE_TIMEOUT))
        taken = {spec.id for spec in self.models}
        for model in self._known:
            if model.id not in taken:
                with suppress(BackendError):  # kept for a backend that is not installed
                    engine.register(model_spec(model, self.registry))
        return engine

    def listeners(
        self, engine: Engine, recorder: Recorder, library: ModelLibrary | None = None
    ) -> list[Listener]:
        """Return a listener of every transport, whose connections `engine` serves."""

        protocols = self.registry.protocols()

        async def handle(transport: Transport, protocol: str, principal: Principal) -> None:
            if protocol not in protocols:
                text = f"no protocol {protocol!r} is installed"
                raise RequestError("not_supported", text)
            with self._connections.open(principal):
                spoken = protocols[protocol](principal)
                info = self._system_info
                await Session(transport, spoken, engine, recorder, info, library).run()

        context = ListenerContext(
            self.access,
            handle,
            self.config.max_message_size,
            run=self.paths.run,
            ice=self.ice,
            max_peers=self.config.max_peers,
        )
        return [cls(context) for cls in self.registry.listeners().values()]

    def asgi(
        self, engine: Engine, listeners: Iterable[Listener], library: ModelLibrary | None = None
    ) -> Starlette:
        """Return the ASGI application."""
        return build_app(
            engine,
            access=self.access,
            origins=self.origins,
            library=library,
            listener_routes=[route for listener in listeners for route in listener.routes()],
            system_info=self._system_info,
            max_body_size=self.config.max_message_size,
            absent_transports={
                each.name: each.reason for each in self.registry.broken("tabagent.transports")
            },
        )

    async def _load_models(self, engine: Engine, server: Server, ready: Callable[[], None]) -> None:
        """Say `ready` with the first model; stop the server when one cannot be loaded."""
        await server.accepting.wait()
        if not self.models:
            ready()
        for spec in self.models:
            log.info("loading %s with the backend %s", spec.source, spec.backend)
            try:
                await engine.load(spec.id)
            except TabagentError as error:
                if self.daemon:
                    log.error("%s is not loaded: %s: %s", spec.id, error.code, error)
                    continue
                if not server.should_exit:
                    self._failure = error
                    self.stop()
                return
            if spec is self.models[0]:
                ready()

    async def _stop_when_idle(self, server: Server, recorder: Recorder, seconds: float) -> None:
        """Stop once nothing has been connected, or recorded for its return, for `seconds`."""
        await server.accepting.wait()
        served, idle_since = (0, 0), anyio.current_time()
        while anyio.current_time() - idle_since < seconds:
            await anyio.sleep(min(1.0, seconds / 4))
            state = server.server_state
            so_far = (state.total_requests, self._connections.opened)
            busy = state.connections or self._connections or recorder.running
            if busy or so_far != served:
                served, idle_since = so_far, anyio.current_time()
        log.info("idle for %g s", seconds)
        self.stop()


def backend_config(config: Config) -> BackendConfig:
    """Return what of the settings concerns backends.

    :raises RequestError: `not_supported`.
    """
    if config.cache_disk is not None:
        raise RequestError("not_supported", "--cache-disk: caches stay in memory")
    return BackendConfig(
        runtime=config.runtime,
        ctx_size=config.ctx_size,
        parallel=config.parallel,
        threads=config.threads,
        gpu_layers=config.gpu_layers,
        mmap=not config.no_mmap,
    )


def ice_config(config: Config) -> IceConfig:
    """Return what of the settings concerns peers on other networks.

    :raises RequestError: `invalid_parameter` for servers that cannot work.
    """
    servers = tuple(parse_ice_server(server) for server in config.ice_server)
    try:
        return IceConfig(servers, config.ice_transport_policy, config.turn_secret)
    except ValueError as error:
        raise RequestError("invalid_parameter", str(error), param="ice_server") from None


def model_spec(model: NamedModel, registry: Registry) -> ModelSpec:
    """Find the backend that runs a model.

    :raises BackendError: `model_load_failed` when none does.
    """
    for name, backend in registry.backends().items():
        if backend.claims(model.source):
            return ModelSpec(model.id, model.source, name)
    raise BackendError("model_load_failed", f"no backend runs {model.source}")
