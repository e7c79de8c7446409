"""The smallest dialect that reaches everything a session does: one JSON object per message."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, ClassVar

from tabagent.core.events import Event, Failed, Finished, ModelsListed, ModelStateChanged, TextDelta
from tabagent.core.protocol import Protocol
from tabagent.core.requests import (
    CancelRequest,
    GenerateRequest,
    ListModels,
    LoadModel,
    Principal,
    Request,
    UnloadModel,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_serial = itertools.count()


class LineProtocol(Protocol):
    """In: `{"do", "id", "model"?}`; out: `{"id", what happened}`, model changes without an id.

    A peer that asks for something when it connects is told so at once.

    A request with `after` is handed out when the request of that id has finished. Ids
    are the peer's; the requests' own ids start with a number per connection.
    """

    name: ClassVar[str] = "line"

    def __init__(self, principal: Principal) -> None:
        super().__init__(principal)
        self.prefix = f"{next(_serial)}/"
        self._waiting: dict[str, Request] = {}

    def open(self, opening: Mapping[str, Any]) -> None:
        if opening:
            self._say(opening=opening)

    def receive_message(self, message: str | bytes) -> None:
        try:
            body = json.loads(message)
            request = self._make[body["do"]](self, body)
        except (ValueError, LookupError) as error:
            self._say(error=type(error).__name__)
            return
        if "after" in body:
            self._waiting[body["after"]] = request
        else:
            self._requests.append(request)

    def request_accepted(self, request_id: str, model: str) -> None:
        self._say(id=self._theirs(request_id), accepted=model)

    def send_event(self, event: Event) -> None:
        match event:
            case TextDelta():
                self._say(id=self._theirs(event.request_id), text=event.text)
            case Finished():
                name = self._theirs(event.request_id)
                self._say(id=name, finished=event.reason)
                if name in self._waiting:
                    self._requests.append(self._waiting.pop(name))
            case Failed():
                self._say(id=self._theirs(event.request_id), failed=event.error.code)
            case ModelsListed():
                states = {model.id: model.state for model in event.models}
                self._say(id=self._theirs(event.request_id), models=states)
            case ModelStateChanged():
                self._say(model=event.model, state=event.state)

    def _say(self, **fields: Any) -> None:
        self._messages.append(json.dumps(fields))

    def _theirs(self, request_id: str) -> str:
        return request_id.removeprefix(self.prefix)

    def _generate(self, body: dict[str, Any]) -> Request:
        return GenerateRequest(request_id=self.prefix + body["id"], prompt="hello")

    def _cancel(self, body: dict[str, Any]) -> Request:
        # Unlike a real dialect it passes ids of other connections on, marked by a slash.
        target = body["id"]
        return CancelRequest(target if "/" in target else self.prefix + target)

    def _list(self, body: dict[str, Any]) -> Request:
        return ListModels(self.prefix + body["id"])

    def _load(self, body: dict[str, Any]) -> Request:
        return LoadModel(self.prefix + body["id"], body["model"])

    def _unload(self, body: dict[str, Any]) -> Request:
        return UnloadModel(self.prefix + body["id"], body["model"])

    _make: ClassVar[dict[str, Callable[[LineProtocol, dict[str, Any]], Request]]] = {
        "generate": _generate,
        "cancel": _cancel,
        "list": _list,
        "load": _load,
        "unload": _unload,
    }
