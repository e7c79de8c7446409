"""Plugins are found, and broken ones do no harm."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

import pytest
from tabagent.protocols.responses import ResponsesProtocol
from tabagent.registry import Registry
from tabagent_backends.echo import EchoBackend
from tabagent_ws import WebSocketListener

if TYPE_CHECKING:
    from pathlib import Path

ECHO = EntryPoint("echo", "tabagent_backends.echo:EchoBackend", "tabagent.backends")


def backend(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, "tabagent.backends")


def test_the_built_ins_come_through_entry_points() -> None:
    registry = Registry()
    assert registry.backends()["echo"] is EchoBackend
    assert set(registry.backends()) >= {"echo", "gguf"}
    assert registry.listeners()["ws"] is WebSocketListener
    assert registry.protocols()["responses"] is ResponsesProtocol


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no_such_module:Backend", "no_such_module"),
        ("tabagent_backends.echo:NoSuchName", "AttributeError"),
        ("tabagent_ws:WebSocketListener", "is no Backend"),
        ("tabagent:__version__", "is no Backend"),
    ],
)
def test_a_broken_plugin_is_logged_and_left_out(
    value: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry([ECHO, backend("broken", value)])
    assert registry.backends() == {"echo": EchoBackend}
    (broken,) = registry.broken("tabagent.backends")
    assert broken.name == "broken"
    assert reason in broken.reason
    assert "'broken' is left out" in caplog.text


def test_a_plugin_that_fails_at_import_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing_plugin.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry([ECHO, backend("broken", "failing_plugin:Backend")])
    assert registry.backends() == {"echo": EchoBackend}
    assert "ZeroDivisionError" in registry.broken("tabagent.backends")[0].reason


def test_a_missing_extra_says_what_to_install() -> None:
    registry = Registry([backend("extra", "no_such_module:Backend [onnx]")])
    assert registry.backends() == {}
    reason = registry.broken("tabagent.backends")[0].reason
    assert "pip install 'tabagent[onnx]'" in reason


def test_a_group_is_looked_up_once() -> None:
    registry = Registry([ECHO])
    assert registry.backends() is registry.backends()
