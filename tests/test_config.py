"""Settings: their precedence, their errors, the folders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tabagent.config import Config, ConfigError, Paths, load_config

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def refusal(
    flags: dict[str, Any], environ: dict[str, str], file: Path, text: str = ""
) -> tuple[str | None, str]:
    if text:
        file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(flags, environ, file)
    assert caught.value.code == "invalid_parameter"
    return caught.value.param, caught.value.message


def test_without_any_source_the_defaults_hold(file: Path) -> None:
    config = load_config({}, {}, file)
    assert config == Config()
    assert (config.port, config.host, config.parallel, config.gpu_layers) == (8484, None, 4, 0)


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(file: Path) -> None:
    file.write_text("port = 1\nparallel = 1\nthreads = 1\n")
    environ = {"TABAGENT_PORT": "2", "TABAGENT_PARALLEL": "2"}
    config = load_config({"port": 3}, environ, file)
    assert (config.port, config.parallel, config.threads, config.log_level) == (3, 2, 1, "info")


def test_lists_come_with_commas_from_the_environment_and_replace_each_other(file: Path) -> None:
    file.write_text('model = ["a.gguf"]\nallow_host = "one.lan"\n')
    config = load_config({}, {"TABAGENT_MODEL": "b.gguf, c=d.gguf"}, file)
    assert (config.model, config.allow_host) == (("b.gguf", "c=d.gguf"), ("one.lan",))


@pytest.mark.parametrize(("text", "value"), [("true", True), ("0", False), ("", False)])
def test_switches_come_as_words_from_the_environment(file: Path, text: str, value: bool) -> None:
    assert load_config({}, {"TABAGENT_NO_MMAP": text}, file).no_mmap is value


@pytest.mark.parametrize(("given", "layers"), [("auto", "auto"), ("12", 12), (12, 12)])
def test_gpu_layers_are_a_number_or_auto(file: Path, given: object, layers: object) -> None:
    assert load_config({"gpu_layers": given}, {}, file).gpu_layers == layers


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("port", "many", "expected `int`"),
        ("port", "65536", "<= 65535"),
        ("port", "-1", ">= 0"),
        ("ctx_size", "0", ">= 1"),
        ("idle_exit", "nan", "> 0"),
        ("idle_exit", "0", "> 0"),
        ("no_mmap", "perhaps", "expected `bool`"),
        ("gpu_layers", "some", "a number or auto"),
        ("log_format", "xml", "one of text, json"),
        ("ice_server", "http://turn.test", "expected stun:HOST"),
        ("ice_transport_policy", "none", "one of all, relay"),
        ("max_peers", "0", ">= 1"),
        ("log_level", "loud", "one of debug, info, warning, error"),
        ("host", "127.0.0.1:80", "the port has a setting of its own"),
        ("host", "a b", "no host name"),
        ("allow_host", "http://a", "no host name"),
        ("allow_origin", "*", "no origin"),
        ("allow_origin", "chrome-extension://*", "no origin"),
        ("allow_origin", "null", "no origin"),
        ("token", "two words", "printable ASCII"),
    ],
)
def test_a_wrong_value_is_told_with_its_key_and_its_source(
    file: Path, key: str, value: str, expected: str
) -> None:
    name = f"TABAGENT_{key.upper()}"
    param, message = refusal({}, {name: value}, file)
    assert param == key
    assert message.startswith(f"{name}: ")
    assert expected in message
    assert refusal({key: value}, {}, file)[1].startswith(f"--{key.replace('_', '-')}: ")
    assert refusal({}, {}, file, f'{key} = "{value}"')[1].startswith(f"{key} in {file}: ")


def test_a_wrong_token_is_not_repeated(file: Path) -> None:
    assert "hush hush" not in refusal({"token": "hush hush"}, {}, file)[1]


def test_an_unknown_key_of_the_file_is_an_error(file: Path) -> None:
    param, message = refusal({}, {}, file, "prot = 1\n")
    assert param == "prot"
    assert str(file) in message


@pytest.mark.parametrize("text", ["port = ", "port = 1\nport = 2", "[serve]\nport = 1", "\0"])
def test_a_file_that_is_no_flat_toml_is_an_error(file: Path, text: str) -> None:
    assert str(file) in refusal({}, {}, file, text)[1]


def test_unknown_variables_are_somebody_elses(file: Path) -> None:
    assert load_config({}, {"TABAGENT_HOME": "/x", "TABAGENT_OTHER": "1"}, file) == Config()


def test_no_model_excludes_a_model(file: Path) -> None:
    assert refusal({"no_model": True, "model": ["a.gguf"]}, {}, file)[0] == "no_model"


def test_origins_and_hosts_are_kept_as_browsers_send_them(file: Path) -> None:
    config = load_config(
        {"allow_origin": ["https://A.example:443/"], "allow_host": ["BOX", "fd00::1"]}, {}, file
    )
    assert (config.allow_origin, config.allow_host) == (
        ("https://a.example",),
        ("box", "[fd00::1]"),
    )


@pytest.mark.parametrize(
    ("flags", "loopback", "required"),
    [
        ({}, True, False),
        ({"host": "127.0.0.1"}, True, False),
        ({"host": "localhost"}, True, False),
        ({"host": "::1"}, True, False),
        ({"host": "[::1]"}, True, False),
        ({"require_token": True}, True, True),
        ({"trusted_proxy": ["127.0.0.1"]}, True, True),
        ({"host": "0.0.0.0"}, False, True),
        ({"host": "::"}, False, True),
        ({"host": "192.168.1.5"}, False, True),
    ],
)
def test_a_token_is_required_wherever_others_can_reach(
    file: Path, flags: dict[str, Any], loopback: bool, required: bool
) -> None:
    config = load_config(flags, {}, file)
    assert (config.loopback, config.token_required) == (loopback, required)


def test_tabagent_home_holds_every_folder(tmp_path: Path) -> None:
    paths = Paths.locate({"TABAGENT_HOME": str(tmp_path)})
    assert paths.config_file == tmp_path / "config.toml"
    assert paths.models == tmp_path / "models"
    assert paths.token == tmp_path / "token"
    assert paths.cache.is_relative_to(tmp_path)


def test_without_it_the_folders_are_the_platforms() -> None:
    paths = Paths.locate({})
    assert {paths.config.name, paths.data.name, paths.cache.name} == {"tabagent"}
