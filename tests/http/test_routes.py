"""Models, health, metrics, system, the page, and what is not there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from starlette.routing import Route
from tabagent.core.access import AccessPolicy
from tabagent.core.backend import ModelSpec
from tabagent.core.engine import Engine
from tabagent.core.errors import BackendError
from tabagent.http import build_app
from tabagent.http.page import FILES

from tests.http.client import Client
from tests.http.conftest import serve, submitted

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from tabagent.testing import ScriptedBackend

pytestmark = pytest.mark.anyio

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}


def shown(client_answer: Any) -> dict[str, Any]:
    """A model's object without what differs from run to run."""
    return {key: value for key, value in client_answer.items() if key != "created"}


READY = {
    "id": "m",
    "object": "model",
    "owned_by": "tabagent",
    "backend": "scripted",
    "state": "ready",
    "progress": 1.0,
    "error": None,
    "context_length": 64,
    "size_bytes": 1,
}
UNLOADED = READY | {
    "state": "unloaded",
    "progress": 0.0,
    "context_length": None,
    "size_bytes": None,
}


class TestModels:
    async def test_they_are_listed(self, client: Client) -> None:
        answer = (await client.get("/v1/models")).json
        assert answer["object"] == "list"
        assert [shown(model) for model in answer["data"]] == [READY]

    async def test_one_is_shown(self, client: Client) -> None:
        assert shown((await client.get("/v1/models/m")).json) == READY

    async def test_ids_may_have_slashes(self, backend: ScriptedBackend) -> None:
        async with Engine({"scripted": backend}) as engine:
            engine.register(ModelSpec("org/m", "scripted:m", "scripted"))
            assert (await serve(engine).get("/v1/models/org/m")).json["id"] == "org/m"

    async def test_an_unknown_one_is_not_found(self, client: Client) -> None:
        not_found = (404, "model_not_found", "model")
        assert (await client.get("/v1/models/nope")).error == not_found
        assert (await client.post("/v1/models/load", {"model": "nope"})).error == not_found
        assert (await client.post("/v1/models/unload", {"model": "nope"})).error == not_found

    async def test_they_are_unloaded_and_loaded(
        self, client: Client, backend: ScriptedBackend
    ) -> None:
        answer = await client.post("/v1/models/unload", {"model": "m"})
        assert (answer.status, shown(answer.json)) == (200, UNLOADED)
        assert backend.unloads == ["m"]
        answer = await client.post("/v1/models/load", {"model": "m"})
        assert (answer.status, shown(answer.json)) == (200, READY)
        assert backend.loads == ["m", "m"]

    async def test_a_failed_load_says_why(self, client: Client, backend: ScriptedBackend) -> None:
        await client.post("/v1/models/unload", {"model": "m"})
        backend.load_error = BackendError("gguf_invalid", "not a model")
        answer = await client.post("/v1/models/load", {"model": "m"})
        assert answer.error == (400, "gguf_invalid", None)
        model = (await client.get("/v1/models/m")).json
        assert (model["state"], model["error"]["code"]) == ("failed", "gguf_invalid")

    @pytest.mark.parametrize("body", [{}, {"model": 5}])
    async def test_a_model_must_be_named(self, client: Client, body: dict[str, Any]) -> None:
        answer = await client.post("/v1/models/load", body)
        assert answer.error == (400, "invalid_parameter", "model")


class TestHealthAtStart:
    @pytest.fixture
    def backend(self, backend: ScriptedBackend) -> ScriptedBackend:
        backend.may_load = anyio.Event()
        return backend

    async def test_it_is_loading_until_the_first_model_is_ready(
        self, engine: Engine, backend: ScriptedBackend
    ) -> None:
        client = serve(engine)
        answer = await client.get("/health")
        assert (answer.status, answer.json) == (503, {"status": "loading"})
        backend.may_load.set()
        await engine.load("m")
        answer = await client.get("/health")
        assert (answer.status, answer.json) == (200, {"status": "ok"})


class TestHealth:
    async def test_it_stays_well_while_another_model_loads(
        self, client: Client, engine: Engine, backend: ScriptedBackend
    ) -> None:
        backend.may_load = anyio.Event()
        engine.register(ModelSpec("other", "scripted:other", "scripted"))
        async with client.stream("POST", "/v1/models/load", {"model": "other"}):
            await anyio.wait_all_tasks_blocked()
            assert engine.model("other").state == "loading"
            assert (await client.get("/health")).status == 200
            backend.may_load.set()

    async def test_without_models_there_is_nothing_to_wait_for(
        self, backend: ScriptedBackend
    ) -> None:
        async with Engine({"scripted": backend}) as engine:
            assert (await serve(engine).get("/health")).status == 200


class TestMetrics:
    async def test_they_are_in_prometheus_text_format(self, client: Client) -> None:
        answer = await client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        sample = re.compile(r'tabagent_\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? \d+')
        described = re.compile(r"# (HELP|TYPE) tabagent_\w+ .+")
        for line in answer.text.splitlines():
            assert sample.fullmatch(line) or described.fullmatch(line), line
        assert answer.text.endswith("\n")

    async def test_they_tell_what_runs_and_what_waits(
        self, client: Client, backend: ScriptedBackend
    ) -> None:
        body = CHAT | {"stream": True}
        async with (
            client.stream("POST", "/v1/chat/completions", body) as first,
            client.stream("POST", "/v1/chat/completions", body) as second,
        ):
            await submitted(backend, 2)
            text = (await client.get("/metrics")).text
            first.leave()
            second.leave()
        assert 'tabagent_requests_running{model="m"} 1\n' in text
        assert 'tabagent_requests_queued{model="m"} 1\n' in text
        assert 'tabagent_model_state{model="m",state="ready"} 1\n' in text
        assert 'tabagent_model_state{model="m",state="loading"} 0\n' in text

    async def test_model_ids_are_escaped(self, backend: ScriptedBackend) -> None:
        async with Engine({"scripted": backend}) as engine:
            engine.register(ModelSpec('a"b\\c\nd', "scripted:m", "scripted"))
            text = (await serve(engine).get("/metrics")).text
        assert 'tabagent_requests_running{model="a\\"b\\\\c\\nd"} 0\n' in text


async def test_the_system_is_described(client: Client) -> None:
    assert (await client.get("/v1/system")).json == {"version": "1"}


class TestPage:
    async def test_it_loads_only_from_this_server(self, client: Client) -> None:
        page = await client.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "://" not in page.text
        assert " style=" not in page.text
        assert not re.search(r"<script>|\son\w+=", page.text)

    async def test_what_it_refers_to_is_there(self, client: Client) -> None:
        page = await client.get("/")
        paths = set(re.findall(r'(?:src|href)="([^"]+)"', page.text))
        assert paths == {"/playground.js", "/playground.css", "/icon.svg"}
        kinds = {path: (await client.get(path)).headers["content-type"] for path in paths}
        assert kinds == {
            "/playground.js": "text/javascript; charset=utf-8",
            "/playground.css": "text/css; charset=utf-8",
            "/icon.svg": "image/svg+xml",
        }

    async def test_its_style_fetches_nothing(self, client: Client) -> None:
        style = (await client.get("/playground.css")).text
        assert "url(" not in style
        assert "@import" not in style

    async def test_no_text_can_become_a_script(self, client: Client) -> None:
        policy = (await client.get("/")).headers["content-security-policy"]
        assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy

    async def test_it_is_sent_again_only_when_it_has_changed(self, client: Client) -> None:
        first = await client.get("/playground.js")
        assert first.headers["cache-control"] == "no-cache"
        again = await client.get("/playground.js", {"if-none-match": first.headers["etag"]})
        assert (again.status, again.text) == (304, "")
        assert "content-security-policy" in again.headers
        other = await client.get("/playground.js", {"if-none-match": '"another"'})
        assert (other.status, other.text) == (200, first.text)

    async def test_it_stays_small(self, client: Client) -> None:
        sizes = [len((await client.get(path)).text.encode()) for path in FILES]
        assert sum(sizes) <= 150_000


class TestWhatIsNotThere:
    @pytest.mark.parametrize(
        "path",
        [
            "/v1/embeddings",
            "/v1/rerank",
            "/v1/realtime/calls",
        ],
    )
    async def test_not_supported_is_said(self, client: Client, path: str) -> None:
        assert (await client.post(path, {})).error == (501, "not_supported", None)

    async def test_an_unknown_path_is_not_found(self, client: Client) -> None:
        assert (await client.get("/v1/nothing")).error == (404, "unknown_type", None)

    async def test_a_wrong_method_names_the_right_one(self, client: Client) -> None:
        answer = await client.get("/v1/chat/completions")
        assert answer.error == (405, "unknown_type", None)
        assert answer.headers["allow"] == "POST"


async def test_routes_of_listeners_are_mounted_and_a_bug_in_one_is_an_error(
    engine: Engine,
) -> None:
    async def broken(request: Request) -> Response:
        raise ZeroDivisionError

    app = build_app(
        engine,
        access=AccessPolicy(),
        system_info=dict,
        listener_routes=[Route("/broken", broken)],
    )
    client = Client(app)
    with pytest.raises(ExceptionGroup) as caught:  # the server logs it
        async with client.stream("GET", "/broken") as answer:
            pass
    assert caught.group_contains(ZeroDivisionError)
    assert answer.error == (500, "decode_failed", None)
