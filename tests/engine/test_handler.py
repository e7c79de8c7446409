"""`GGUFHandler`: text in, text out, on every runtime there is."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tabagent_engine import EngineError, GGUFHandler, load_model

from tests.gguf_fixtures import KNOWN_ANSWER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.gguf_fixtures import ChainModel

ANSWER_ONCE = """
import json, sys
from tabagent_engine import GGUFHandler
with GGUFHandler(sys.argv[1], sys.argv[2], threads=1) as handler:
    print(json.dumps([handler.generate("Hello!", temperature=0), handler.tokenize("Hello!")]))
"""

TWO_RUNTIMES = """
import sys
from tabagent_engine import EngineError, GGUFHandler
with GGUFHandler(sys.argv[1], sys.argv[3]), GGUFHandler(None, sys.argv[3]) as unnamed:
    assert unnamed.generate("Hello!", temperature=0)
    try:
        GGUFHandler(sys.argv[2], sys.argv[3])
    except EngineError as refusal:
        print(refusal.code)
"""


def run_python(script: str, *arguments: str) -> str:
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def handler(chain_model: ChainModel) -> Iterator[GGUFHandler]:
    # One thread: on a busy machine, threads that wait for each other crawl.
    with GGUFHandler(None, chain_model.path, threads=1) as handler:
        yield handler


def test_generate_gives_the_whole_answer(handler: GGUFHandler) -> None:
    assert handler.generate("What flows?", temperature=0) == KNOWN_ANSWER


def test_generate_keeps_its_limits(handler: GGUFHandler) -> None:
    assert handler.generate("What flows?", max_tokens=2, temperature=0) == "Tokens flow"
    assert handler.generate("What flows?", stop=[" like"], temperature=0) == "Tokens flow"


def test_stream_gives_the_answer_in_whole_pieces(handler: GGUFHandler) -> None:
    pieces = list(handler.stream("What flows?", temperature=0))
    assert all(pieces)
    assert "".join(pieces) == KNOWN_ANSWER


def test_closing_a_stream_frees_the_slot(handler: GGUFHandler) -> None:
    with_rest = handler.stream("What flows?", temperature=0)
    assert next(with_rest)
    with_rest.close()
    assert handler.generate("What flows?", temperature=0) == KNOWN_ANSWER


def test_two_streams_may_be_read_in_turns(handler: GGUFHandler) -> None:
    first, second = (handler.stream("What flows?", temperature=0) for _ in range(2))
    texts = [next(first)]
    rest = "".join(second)
    texts += first
    assert "".join(texts) == rest == KNOWN_ANSWER


def test_threads_may_share_a_model(handler: GGUFHandler) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: handler.generate("Hi!", temperature=0), range(12)))
    assert answers == [KNOWN_ANSWER] * 12


def test_a_refused_request_raises_while_iterating(handler: GGUFHandler) -> None:
    with pytest.raises(EngineError) as refusal:
        handler.generate("x" * 5000)
    assert refusal.value.code == "context_length_exceeded"
    with pytest.raises(EngineError) as refusal:
        handler.generate("Hello!", temperature=-1)
    assert refusal.value.param == "temperature"
    assert handler.generate("What flows?", temperature=0) == KNOWN_ANSWER


def test_text_survives_tokens_and_back(handler: GGUFHandler) -> None:
    tokens = handler.tokenize("Hello!")
    assert tokens[1:] == handler.tokenize("Hello!", add_special=False)
    assert handler.detokenize(tokens[1:]).strip() == "Hello!"


def test_embeddings_are_not_supported(handler: GGUFHandler) -> None:
    with pytest.raises(EngineError) as refusal:
        handler.embed(["Hello!"])
    assert refusal.value.code == "not_supported"


def test_unloading_ends_streams_and_refuses_requests(chain_model: ChainModel) -> None:
    handler = load_model(chain_model.path)
    stream = handler.stream("What flows?", temperature=0)
    begun = next(stream)
    handler.unload()
    handler.unload_model()
    assert KNOWN_ANSWER.startswith(begun + "".join(stream))
    with pytest.raises(EngineError) as refusal:
        handler.generate("Hello!")
    assert refusal.value.code == "shutting_down"


def test_unloading_wakes_threads_that_wait(long_chain_model: ChainModel) -> None:
    handler = GGUFHandler(None, long_chain_model.path, threads=1)
    with ThreadPoolExecutor(3) as pool:
        streams = [handler.stream("Count!", max_tokens=None, temperature=0) for _ in range(3)]
        begun = next(streams[0])
        rests = [pool.submit("".join, stream) for stream in streams]
        handler.unload()
        texts = [
            rest.result(20) for rest in rests if not isinstance(rest.exception(20), EngineError)
        ]
    for text in texts:
        assert long_chain_model.answer.startswith((text, begun + text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"absent\.gguf") as refusal:
        load_model(tmp_path / "absent.gguf")
    assert refusal.value.code == "model_not_found"


def test_the_wheel_and_the_npm_runtime_give_the_same_answer(
    chain_model: ChainModel, npm_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABAGENT_HOME", str(npm_home))
    (installed,) = (npm_home / "runtimes").iterdir()
    answers = [
        json.loads(run_python(ANSWER_ONCE, runtime, str(chain_model.path)))
        for runtime in ("mineru", installed.name, str(installed))
    ]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0] == KNOWN_ANSWER


def test_a_process_keeps_the_runtime_it_began_with(
    chain_model: ChainModel, npm_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABAGENT_HOME", str(npm_home))
    (installed,) = (npm_home / "runtimes").iterdir()
    code = run_python(TWO_RUNTIMES, "mineru", installed.name, str(chain_model.path))
    assert code.strip() == "runtime_conflict"
