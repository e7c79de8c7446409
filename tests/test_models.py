"""Model ids and the files behind them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tabagent.config import Config, ConfigError, Paths
from tabagent.core.errors import RequestError
from tabagent.models import GUIDE, configured_models, delete_model, find_model, installed_models


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    found = Paths.locate({"TABAGENT_HOME": str(tmp_path / "home")})
    found.models.mkdir(parents=True)
    return found


def test_the_embedded_guide_is_the_default(paths: Paths) -> None:
    (model,) = configured_models(Config(), paths)
    assert model.id == GUIDE
    assert model.source.endswith("tabagent_backends/guide/tabagent-guide.gguf")


def test_no_model_means_none(paths: Paths) -> None:
    assert configured_models(Config(no_model=True), paths) == []


def test_an_id_is_the_files_stem_or_the_one_given(paths: Paths, tmp_path: Path) -> None:
    config = Config(
        model=(f"{tmp_path}/Qwen-0.5B.Q4_0.gguf", f"small={tmp_path}/b=c.gguf", "echo:x")
    )
    assert [(model.id, model.source) for model in configured_models(config, paths)] == [
        ("Qwen-0.5B.Q4_0", f"{tmp_path}/Qwen-0.5B.Q4_0.gguf"),
        ("small", f"{tmp_path}/b=c.gguf"),
        ("echo:x", "echo:x"),
    ]


def test_a_path_with_an_equals_sign_is_still_a_path(paths: Paths, tmp_path: Path) -> None:
    file = tmp_path / "a=b.gguf"
    file.touch()
    (model,) = configured_models(Config(model=(str(file),)), paths)
    assert (model.id, model.source) == ("a=b", str(file))


def test_two_models_with_one_id_are_a_start_up_error(paths: Paths) -> None:
    with pytest.raises(ConfigError, match="two models have the id 'm'"):
        configured_models(Config(model=("a/m.gguf", "b/m.gguf")), paths)


def test_a_bare_name_is_looked_up_in_the_models_folder(paths: Paths) -> None:
    (paths.models / "kept.gguf").touch()
    (model,) = configured_models(Config(model=("kept.gguf",)), paths)
    assert Path(model.source) == paths.models / "kept.gguf"


def test_the_models_folder_lists_its_gguf_files(paths: Paths) -> None:
    for name in ("b.gguf", "a.gguf", "notes.txt"):
        (paths.models / name).touch()
    assert [model.id for model in installed_models(paths.models)] == ["a", "b"]
    assert installed_models(paths.models / "absent") == []


def test_a_split_model_is_listed_once_by_its_first_part(paths: Paths) -> None:
    own = paths.models / "big"
    own.mkdir()
    for folder, name in ((paths.models, "flat"), (own, "big"), (paths.models, ".hidden")):
        for part in (1, 2):
            (folder / f"{name}-0000{part}-of-00002.gguf").touch()
    found = installed_models(paths.models)
    assert [model.id for model in found] == ["big", "flat"]
    assert found[0].source == str(own / "big-00001-of-00002.gguf")


@pytest.mark.parametrize("model", ["big", "flat", "one"])
def test_a_deleted_model_goes_with_all_its_files(paths: Paths, model: str) -> None:
    (paths.models / "big").mkdir()
    for name in ("big/big-00001-of-00002", "big/big-00002-of-00002", "one"):
        (paths.models / f"{name}.gguf").touch()
    for part in (1, 2):
        (paths.models / f"flat-0000{part}-of-00002.gguf").touch()
    delete_model(model, paths.models)
    left = {"big", "flat", "one"} - {model}
    assert {found.id for found in installed_models(paths.models)} == left
    assert {
        path.name.split("-0")[0].removesuffix(".gguf") for path in paths.models.iterdir()
    } == left


def test_deleting_a_model_that_is_not_in_the_folder_is_refused(paths: Paths) -> None:
    with pytest.raises(RequestError, match="no model 'x'"):
        delete_model("x", paths.models)


def test_deleting_also_takes_what_an_interrupted_pull_has_left(paths: Paths) -> None:
    staged = paths.models / ".pulling" / "half-0123456789ab"
    staged.mkdir(parents=True)
    (staged / "half.gguf.partial").write_bytes(b"GG")
    delete_model("half", paths.models)
    assert not staged.exists()


def test_a_model_is_found_by_id_and_by_path(paths: Paths, tmp_path: Path) -> None:
    (paths.models / "kept.gguf").touch()
    assert find_model("kept", Config(), paths).source == str(paths.models / "kept.gguf")
    assert find_model(GUIDE, Config(no_model=True), paths).id == GUIDE
    assert find_model(f"{tmp_path}/x.gguf", Config(), paths).id == "x"
