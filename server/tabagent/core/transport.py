"""What carries messages: one connection, and what accepts connections."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from msgspec import Struct

from .access import AccessPolicy
from .ice import IceConfig

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from .requests import Principal

__all__ = ["ConnectionHandler", "Listener", "ListenerContext", "RunningServer", "Transport"]


class Transport(ABC):
    """One connection that moves whole JSON text messages.

    `receive` and `send` may run at the same time, each in one task only.
    """

    max_message_size: int | None = None
    """Most bytes of one outgoing message; None when the transport has no bound."""

    opening: Mapping[str, Any] = {}
    """What the peer asked for when it connected, in the words of its protocol."""

    @abstractmethod
    async def receive(self) -> str | bytes:
        """Return the next whole message; bytes only for a binary frame.

        :raises TransportClosed: when the peer is gone or `aclose` was called.
        """

    @abstractmethod
    async def send(self, message: str) -> None:
        """Hand one message to the peer; waits while the peer takes nothing.

        :raises TransportClosed: when the peer is gone, or took nothing for too long.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connection; a second call does nothing."""


ConnectionHandler: TypeAlias = "Callable[[Transport, str, Principal], Awaitable[None]]"
"""Runs one accepted connection to its end: transport, protocol name, who it is."""


class ListenerContext(Struct, frozen=True):
    """What every listener needs from the server.

    Attributes:
        access: Judges each caller before anything is accepted.
        handle: Runs an accepted connection.
        max_message_size: Most bytes of one incoming message.
        ping_interval: Seconds between pings on an idle connection.
        run: Folder for sockets of this user's programs; None where none shall be made.
        ice: How peers on other networks are found.
        max_peers: Most peers that a transport without connections of the server's own may hold.
    """

    access: AccessPolicy
    handle: ConnectionHandler
    max_message_size: int = 1024 * 1024
    ping_interval: float = 20.0
    run: Path | None = None
    ice: IceConfig = IceConfig()
    max_peers: int = 128


class RunningServer(Struct, frozen=True):
    """A server process that has answered."""

    pid: int
    version: str


class Listener(ABC):
    """Accepts connections and hands each to `context.handle`.

    An entry point of the group `tabagent.transports` names a subclass.
    """

    name: ClassVar[str]

    def __init__(self, context: ListenerContext) -> None:
        self.context = context

    @classmethod
    def find_server(cls, run: Path) -> RunningServer | None:
        """Return the server that listens in the folder `run`; None where there is no telling."""
        del run
        return None

    def routes(self) -> Sequence[Any]:
        """Return ASGI (Starlette) routes to mount; empty when it listens by itself."""
        return ()

    async def serve(self) -> None:
        """Accept connections until cancelled; returns at once when `routes` does it all."""
        return
