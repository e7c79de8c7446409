"""Runs one duplex connection: a transport, a protocol and the engine, joined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
from anyio import to_thread

from .bridge import Notify
from .errors import RequestError, TabagentError, TransportClosed
from .events import (
    DownloadProgress,
    Failed,
    Finished,
    FinishReason,
    ModelsListed,
    Recorded,
    SystemDescribed,
)
from .requests import (
    CancelRecorded,
    CancelRequest,
    DeleteModel,
    DescribeSystem,
    GenerateRequest,
    ListModels,
    LoadModel,
    PullModel,
    RecordRequest,
    ResumeRequest,
    UnloadModel,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anyio.abc import TaskGroup

    from .engine import Engine
    from .events import ModelStatus
    from .library import ModelLibrary
    from .protocol import Protocol
    from .recorder import Recorder, Recording
    from .requests import Request
    from .stream import EventStream
    from .transport import Transport

__all__ = ["Session"]

MAX_UNANSWERED = 64
"""Messages read ahead of a peer that takes no answers."""

MESSAGES_PER_TURN = 32
"""Messages sent before other connections get their turn: a send need not yield."""


class Session:
    """One connection from its acceptance to its end.

    A reader always runs, so closes and cancels are seen while answers stream. Each request is a
    task of its own; answers of all are sent one message at a time. While the peer takes nothing,
    events gather and go out as fewer, larger messages. The end of the connection cancels its
    requests, but for recorded ones, which run on in the recorder; the end of the engine closes the
    connection once their last events are sent.
    """

    def __init__(
        self,
        transport: Transport,
        protocol: Protocol,
        engine: Engine,
        recorder: Recorder,
        system_info: Callable[[], Mapping[str, Any]] = dict,
        library: ModelLibrary | None = None,
    ) -> None:
        """Join them; `system_info` says what the server runs on, and may block.

        Without a `library` models can be neither pulled nor deleted.
        """
        self._transport = transport
        self._protocol = protocol
        self._engine = engine
        self._recorder = recorder
        self._system_info = system_info
        self._library = library
        self._running: dict[
            str, EventStream | Recording | anyio.CancelScope
        ] = {}  # requests of this connection
        self._sending = anyio.Lock()
        self._sent = 0
        self._unanswered = 0
        self._answered = Notify()
        self._requests: TaskGroup

    async def run(self) -> None:
        """Run until the peer leaves, the engine closes or the caller cancels; close then."""
        try:
            async with anyio.create_task_group() as self._requests:
                self._protocol.open(self._transport.opening)
                self._answered.notify()
                self._requests.start_soon(self._send_answers)
                self._requests.start_soon(self._relay_model_changes)
                await self._read()
                self._requests.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._transport.aclose()

    async def _read(self) -> None:
        while True:
            try:
                message = await self._transport.receive()
            except TransportClosed:
                return
            self._protocol.receive_message(message)
            self._start_requests()
            self._unanswered += 1
            if self._unanswered < MAX_UNANSWERED:
                self._answered.notify()
            else:
                await self._flush()

    def _start_requests(self) -> None:
        while requests := self._protocol.requests_received():
            for request in requests:
                self._start(request)

    def _start(self, request: Request) -> None:
        match request:
            case GenerateRequest():
                # Known before its task runs, so that a cancel right behind it finds it.
                stream = self._running[request.request_id] = self._engine.generate(request)
                self._requests.start_soon(self._generate, stream)
            case RecordRequest():
                recording = self._recorder.prepare(request)
                self._running[recording.response_id] = recording
                self._requests.start_soon(self._record, recording)
            case ResumeRequest() | CancelRecorded():
                self._start_recorded(request)
            case CancelRequest():
                if request.request_id in self._running:
                    self._running[request.request_id].cancel()
            case ListModels():
                models = tuple(self._engine.models())
                self._protocol.send_event(ModelsListed(request.request_id, models))
            case DescribeSystem():
                self._requests.start_soon(self._describe_system, request)
            case PullModel():
                scope = self._running[request.request_id] = anyio.CancelScope()
                self._requests.start_soon(self._pull, request, scope)
            case LoadModel() | UnloadModel() | DeleteModel():
                self._requests.start_soon(self._change_model, request)

    async def _generate(self, stream: EventStream) -> None:
        try:
            async with stream:
                if stream.refusal is None:
                    self._protocol.request_accepted(stream.request.request_id, stream.model)
                    await self._flush()
                async for events in stream:
                    for event in events:
                        self._protocol.send_event(event)
                    self._start_requests()  # the end of one may be the turn of the next
                    await self._flush()
        finally:
            del self._running[stream.request.request_id]

    def _start_recorded(self, request: ResumeRequest | CancelRecorded) -> None:
        """Do something with a response that this connection did not ask for."""
        try:
            recording = self._recorder.find(request.request_id, self._protocol.principal)
        except TabagentError as error:
            self._protocol.send_event(Failed(request.request_id, error))
            return
        if isinstance(request, ResumeRequest):
            self._running[request.request_id] = recording
            self._requests.start_soon(self._follow, recording, request.after)
        else:
            recording.cancel()
            self._protocol.send_event(Recorded(request.request_id, (), ended=True))

    async def _record(self, recording: Recording) -> None:
        try:
            await self._recorder.start(recording)
        except TabagentError as error:
            del self._running[recording.response_id]
            self._protocol.send_event(Failed(recording.response_id, error))
            self._start_requests()
            await self._flush()
        else:
            await self._follow(recording, -1)

    async def _follow(self, recording: Recording, number: int) -> None:
        try:
            with recording.follow(number) as follower:
                async for messages in follower:
                    self._protocol.send_event(messages)
                    self._start_requests()
                    await self._flush()
        except TabagentError as error:
            self._protocol.send_event(Failed(recording.response_id, error))
            await self._flush()
        finally:
            # By now an ended response may have been resumed again, under the same id.
            self._running.pop(recording.response_id, None)

    async def _describe_system(self, request: DescribeSystem) -> None:
        system = await to_thread.run_sync(self._system_info)
        self._protocol.send_event(SystemDescribed(request.request_id, system))
        await self._flush()

    async def _change_model(self, request: LoadModel | UnloadModel | DeleteModel) -> None:
        event: ModelsListed | Failed
        models: tuple[ModelStatus, ...] = ()
        try:
            self._protocol.principal.require("manage")
            match request:
                case LoadModel():
                    models = (await self._engine.load(request.model),)
                case UnloadModel():
                    models = (await self._engine.unload(request.model),)
                case DeleteModel():
                    await self._kept_models().delete(request.model)
            event = ModelsListed(request.request_id, models)
        except TabagentError as error:
            event = Failed(request.request_id, error)
        self._protocol.send_event(event)
        await self._flush()

    async def _pull(self, request: PullModel, scope: anyio.CancelScope) -> None:
        def tell(file: str, done: int, total: int) -> None:
            self._protocol.send_event(DownloadProgress(request.request_id, file, done, total))
            self._answered.notify()

        event: ModelsListed | Failed | Finished
        event = Finished(request.request_id, FinishReason.CANCELLED)
        try:
            with scope:
                self._protocol.principal.require("manage")
                model = await self._kept_models().pull(request.reference, tell)
                event = ModelsListed(request.request_id, (model,))
        except TabagentError as error:
            event = Failed(request.request_id, error)
        finally:
            del self._running[request.request_id]
        self._protocol.send_event(event)
        await self._flush()

    def _kept_models(self) -> ModelLibrary:
        if self._library is None:
            raise RequestError("not_supported", "this server keeps no models")
        return self._library

    async def _send_answers(self) -> None:
        while True:
            await self._answered.wait()
            await self._flush()

    async def _relay_model_changes(self) -> None:
        with self._engine.subscribe() as changes:
            async for batch in changes:
                for change in batch:
                    self._protocol.send_event(change)
                await self._flush()
        await self._transport.aclose()

    async def _flush(self) -> None:
        """Send all that the protocol has to send; returns when everything before is sent too."""
        try:
            self._sending.acquire_nowait()  # `acquire` looks for a cancellation, at a price
        except anyio.WouldBlock:
            await self._sending.acquire()
        try:
            self._unanswered = 0
            for message in self._protocol.messages_to_send():
                try:
                    await self._transport.send(message)
                except TransportClosed:
                    self._requests.cancel_scope.cancel()
                    await anyio.lowlevel.checkpoint()
                self._sent += 1
                if self._sent % MESSAGES_PER_TURN == 0:
                    await anyio.lowlevel.checkpoint()
        finally:
            self._sending.release()
