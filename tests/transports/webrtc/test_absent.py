"""A server without the extra, and one whose extra is not used."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

import pytest
from tabagent.app import Application
from tabagent.config import Config, Paths
from tabagent.core.recorder import Recorder
from tabagent.registry import Registry

from tests.http.client import Client

if TYPE_CHECKING:
    from pathlib import Path

ECHO = EntryPoint("echo", "tabagent_backends.echo:EchoBackend", "tabagent.backends")

WITHOUT_AIORTC = """
import importlib.util
from importlib.util import find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "aiortc" else find_spec(name, *rest)
from tabagent.registry import Registry
registry = Registry()
print("webrtc" in registry.listeners(), [each.reason for each in registry.broken(
    "tabagent.transports") if each.name == "webrtc"])
"""

LOADED = """
import sys
from tabagent.registry import Registry
print("webrtc" in Registry().listeners(), "aiortc" in sys.modules, "av" in sys.modules)
"""


def printed(script: str) -> str:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_listener_costs_nothing_before_the_first_offer() -> None:
    assert printed(LOADED) == "True False False"


def test_without_aiortc_the_transport_is_absent_and_says_what_to_install() -> None:
    reason = "needs aiortc: pip install 'tabagent[webrtc]'"
    assert printed(WITHOUT_AIORTC) == f'False ["{reason}"]'


@pytest.fixture
def application(tmp_path: Path) -> Application:
    """One whose transport cannot be imported."""
    broken = EntryPoint("webrtc", "no_such_module:Listener [webrtc]", "tabagent.transports")
    paths = Paths.locate({"TABAGENT_HOME": str(tmp_path)})
    return Application(Config(model=("m=echo:m",)), paths, Registry([ECHO, broken]))


@pytest.mark.anyio
async def test_an_offer_without_the_transport_is_told_why(application: Application) -> None:
    async with application.engine() as engine, Recorder(engine) as recorder:
        client = Client(application.asgi(engine, application.listeners(engine, recorder)))
        answer = await client.post("/v1/realtime/calls", b"v=0")
        assert answer.error == (501, "not_supported", None)
        assert "pip install 'tabagent[webrtc]'" in answer.json["error"]["message"]
        (transport,) = (await client.get("/v1/system")).json["transports"]
        assert (transport["name"], transport["works"]) == ("webrtc", False)
        assert "pip install" in transport["reason"]
