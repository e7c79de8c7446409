"""Which of a repository's files a reference means."""

from __future__ import annotations

import pytest
from tabagent.core.errors import RequestError
from tabagent.hub.reference import (
    HubFile,
    HubModel,
    Reference,
    choose_model,
    models_in,
    parse_reference,
)

QUANTS = ["m-Q4_0.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf"]


def chosen(names: list[str], selector: str | None = None) -> str:
    return choose_model(models(names), Reference("o/r", selector)).files[0].path


def refusal(names: list[str], selector: str | None = None) -> tuple[str, str]:
    with pytest.raises(RequestError) as caught:
        chosen(names, selector)
    return caught.value.code, caught.value.message


def models(names: list[str]) -> list[HubModel]:
    return models_in(HubFile(name, 1, "") for name in names)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("hf:o/r", Reference("o/r")),
        ("o/r", Reference("o/r")),
        ("hf:o/r-GGUF:Q4_0", Reference("o/r-GGUF", "Q4_0")),
        ("hf:o/r@v1.0:sub/x.gguf", Reference("o/r", "sub/x.gguf", "v1.0")),
    ],
)
def test_a_reference_is_read_and_written(text: str, reference: Reference) -> None:
    assert parse_reference(text) == reference
    assert parse_reference(str(reference)) == reference


@pytest.mark.parametrize("text", ["", "o", "hf:o", "hf:o/r/x", "hf:o/r:", "hf:ö/r", "a b/c"])
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_reference(text)
    assert (caught.value.code, caught.value.param) == ("invalid_parameter", "model")


def test_the_only_model_is_taken_whatever_its_name() -> None:
    assert chosen(["README.md", "odd name.gguf", "mmproj-F16.gguf"]) == "odd name.gguf"


def test_among_several_the_usual_quantisation_is_taken() -> None:
    assert chosen(QUANTS) == "m-Q4_K_M.gguf"


def test_without_the_usual_one_the_choice_is_the_users() -> None:
    code, text = refusal(["m-Q4_0.gguf", "m-Q8_0.gguf"])
    assert code == "invalid_parameter"
    assert text.endswith("add one of these after a colon: Q4_0, Q8_0")


def test_two_models_of_the_usual_quantisation_are_a_choice_too() -> None:
    code, text = refusal(["a-Q4_K_M.gguf", "b-Q4_K_M.gguf"])
    assert code == "invalid_parameter"
    assert text.endswith(": a-Q4_K_M.gguf, b-Q4_K_M.gguf")


@pytest.mark.parametrize("selector", ["Q8_0", "q8_0", "m-Q8_0.gguf"])
def test_a_quantisation_or_a_file_is_taken_as_named(selector: str) -> None:
    assert chosen(QUANTS, selector) == "m-Q8_0.gguf"


def test_a_quantisation_is_never_just_the_start_of_another() -> None:
    assert refusal(QUANTS, "Q4_K") == (
        "model_not_found",
        "o/r has no 'Q4_K'; it has Q4_0, Q4_K_M, Q8_0",
    )


def test_a_plain_quantisation_goes_before_a_variant_of_it() -> None:
    assert chosen(["m-UD-Q4_K_M.gguf", "m-Q4_K_M.gguf"], "Q4_K_M") == "m-Q4_K_M.gguf"
    assert chosen(["m-UD-Q4_K_M.gguf", "m-Q4_K_M.gguf"], "UD-Q4_K_M") == "m-UD-Q4_K_M.gguf"


def test_a_file_in_a_folder_is_found_by_its_name_and_told_apart_by_its_path() -> None:
    assert chosen(["a/m-Q8_0.gguf", "b/n-Q8_0.gguf"], "n-Q8_0.gguf") == "b/n-Q8_0.gguf"
    assert chosen(["a/m-Q8_0.gguf", "b/m-Q8_0.gguf"], "b/m-Q8_0.gguf") == "b/m-Q8_0.gguf"
    assert refusal(["a/m-Q8_0.gguf", "b/m-Q8_0.gguf"], "m-Q8_0.gguf")[0] == "invalid_parameter"


def test_the_parts_of_a_split_model_are_one_model_and_any_part_names_it() -> None:
    names = [f"big-Q8_0-0000{n}-of-00003.gguf" for n in (2, 3, 1)]
    (model,) = models(names)
    assert (model.name, model.quant, len(model.files)) == ("big-Q8_0", "Q8_0", 3)
    assert chosen([*names, *QUANTS], "big-Q8_0-00002-of-00003.gguf") == names[2]


def test_a_split_model_that_is_not_whole_is_refused() -> None:
    code, text = refusal(["m-00001-of-00003.gguf", "m-00003-of-00003.gguf"])
    assert code == "model_not_found"
    assert "2 of 3 parts" in text


@pytest.mark.parametrize("name", [".hidden.gguf", "a\\b.gguf", "c:d.gguf", "e\x1b.gguf"])
def test_a_name_that_is_no_plain_file_name_is_refused(name: str) -> None:
    assert refusal([name])[0] == "invalid_parameter"
