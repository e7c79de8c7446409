"""Every built-in backend keeps the contract."""

from __future__ import annotations

import pytest
from tabagent.core.backend import BackendConfig
from tabagent.testing import BackendContract, BackendSubject
from tabagent_backends.echo import EchoBackend
from tabagent_backends.gguf import GgufBackend

from tests.gguf_fixtures import numbered_pieces, write_chain


class TestBackends(BackendContract):
    @pytest.fixture(params=["echo", "gguf"])
    def subject(
        self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> BackendSubject:
        if request.param == "echo":
            words = " ".join(f"word-{number}" for number in range(40))
            return BackendSubject(EchoBackend, "echo:demo", words)
        path = tmp_path_factory.mktemp("contract") / "chain.gguf"
        write_chain(path, numbered_pieces(60))
        # One thread: waiting for another one costs more than a model of this size computes.
        return BackendSubject(GgufBackend, str(path), "Count!", BackendConfig(threads=1))
