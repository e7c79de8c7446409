"""The playground in a real browser, where the test says what the model does, piece by piece.

What it does with real models is tested in `playground/test`.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from tabagent.core.access import AccessPolicy
from tabagent.core.errors import BackendError
from tabagent.core.events import (
    Failed,
    Finished,
    FinishReason,
    Started,
    TextDelta,
    Timings,
    Usage,
)
from tabagent.http import build_app

from tests.http.browser import CHROMIUM, Page, open_page
from tests.http.conftest import submitted
from tests.servers import http_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tabagent.core.engine import Engine
    from tabagent.origins import OriginStore
    from tabagent.testing import ScriptedBackend

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]

READY = "document.querySelector('#transport:not([data-connected=none])') !== null"
BODY = ":scope > .markdown:not(:empty), :scope > .failure > p"
SHOWN = f"""[...document.querySelectorAll('.turn')].map((turn) =>
    (turn.querySelector('{BODY}') ?? turn).innerText.trim())"""
NOTE = "([...document.querySelectorAll('.note')].at(-1)?.textContent ?? '')"


@asynccontextmanager
async def served(
    engine: Engine, access: AccessPolicy, origins: OriginStore | None = None
) -> AsyncIterator[str]:
    """Serve over a real socket; gives the address of the page."""
    system: dict[str, Any] = {"transports": []}
    app = build_app(engine, access=access, system_info=lambda: system, origins=origins)
    async with http_server(app) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
async def page(engine: Engine, tmp_path: Path) -> AsyncIterator[Page]:
    async with (
        served(engine, AccessPolicy()) as url,
        open_page(url, tmp_path) as page,
    ):
        await page.until(READY)
        yield page


async def ask(page: Page, text: str) -> None:
    await page.type(text)
    await page.press("Enter", 13, "\r")


async def test_a_question_is_answered_piece_by_piece(page: Page, backend: ScriptedBackend) -> None:
    await ask(page, "Who are <b>you</b>?")
    id_ = await submitted(backend)
    backend.emit(id_, Started(id_, "m", 5), TextDelta(id_, "I am ", (1,)))
    await page.until(f"{SHOWN}[1] === 'I am'")
    assert await page.evaluate(SHOWN) == ["Who are <b>you</b>?", "I am"]
    end = Finished(id_, FinishReason.STOP, Usage(5, 2), Timings(0, 1, 100))
    backend.emit(id_, TextDelta(id_, "<i>here</i>.", (2,)), end)
    await page.until(f"{NOTE} === 'm · 5 tokens read · 2 written · 20.0 tokens/s'")
    assert (await page.evaluate(SHOWN))[1] == "I am <i>here</i>."


async def test_the_next_question_comes_with_the_conversation(
    page: Page, backend: ScriptedBackend
) -> None:
    await ask(page, "one")
    id_ = await submitted(backend)
    backend.emit(id_, Started(id_, "m", 5), TextDelta(id_, "two", (1,)))
    backend.emit(id_, Finished(id_, FinishReason.STOP))
    await page.until(f"/written/.test({NOTE})")
    await ask(page, "three")
    messages = backend.running[await submitted(backend, 2)].request.messages
    assert messages is not None
    said = [(message.role, message.content) for message in messages]
    assert said == [("user", "one"), ("assistant", "two"), ("user", "three")]


async def test_escape_stops_the_answer(page: Page, backend: ScriptedBackend) -> None:
    await ask(page, "hi")
    id_ = await submitted(backend)
    backend.emit(id_, Started(id_, "m", 5), TextDelta(id_, "half", (1,)))
    await page.until(f"{SHOWN}[1] === 'half'")
    await page.press("Escape", 27)
    await page.until(f"/stopped/.test({NOTE})")
    with anyio.fail_after(10):
        while backend.cancelled != [id_]:
            await anyio.lowlevel.checkpoint()


async def test_a_failure_is_shown(page: Page, backend: ScriptedBackend) -> None:
    await ask(page, "hi")
    id_ = await submitted(backend)
    backend.emit(id_, Failed(id_, BackendError("decode_failed", "out of luck")))
    await page.until("document.querySelector('[role=alert]') !== null")
    assert await page.evaluate(SHOWN) == ["hi", "out of luck"]


async def test_the_token_is_asked_for_where_one_is_needed(engine: Engine, tmp_path: Path) -> None:
    access = AccessPolicy(token="secret", require_token=True)
    async with served(engine, access) as url, open_page(url, tmp_path) as page:
        await page.until("document.activeElement?.id === 'token'")
        await page.type("secret")
        await page.press("Enter", 13, "\r")
        await page.until(READY)


PAIRING = "[...document.querySelectorAll('.pairing')].map((element) => element.innerText)"


async def test_an_extension_that_asks_is_approved_with_a_click(
    engine: Engine, origins: OriginStore, tmp_path: Path
) -> None:
    extensions = [f"chrome-extension://{letter * 32}" for letter in "ab"]
    codes = [origins.ask(extension) for extension in extensions]
    access = AccessPolicy(registry=origins)
    async with served(engine, access, origins) as url, open_page(url, tmp_path) as page:
        await page.until(f"{PAIRING}.length === 2")
        shown = await page.evaluate(PAIRING)
        for extension, code, text in zip(extensions, codes, shown, strict=True):
            assert extension in text
            assert code in text
        await page.evaluate("document.querySelector('.pairing button').click()")
        await page.until(f"{PAIRING}.length === 1")
        assert origins.is_approved(extensions[0])
        await page.evaluate("document.querySelectorAll('.pairing button')[1].click()")
        await page.until(f"{PAIRING}.length === 0")
        assert not origins.is_approved(extensions[1])
        assert origins.list().pending == []
