from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from runners.options.words import imply_checkpoint, quote_free_text, quote_literally

SPECIAL = st.sampled_from("\\'\"${}[]()=,:~@+-#% \n\tabc")
TEXT = st.text(st.one_of(SPECIAL, st.characters(codec="utf-8", exclude_characters="\x00")))


def value_of(word: str) -> object:
    """What a program sees of an option: parsed by Hydra, resolved by OmegaConf."""
    [override] = OverridesParser.create().parse_overrides([word])
    return OmegaConf.create({"value": override.value()})["value"]


@given(TEXT)
def test_any_prompt_arrives_as_typed(text: str) -> None:
    assert value_of(quote_free_text([f"prompt={text}"])[0]) == text


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("prompt=What is <image>, really?", "What is <image>, really?"),
        ("prompt='quoted'", "'quoted'"),
        ("prompt=null", "null"),
        ("image=a.jpg,b.jpg", "a.jpg,b.jpg"),
        ("image=https://host/a.jpg?x=1&y=[2]", "https://host/a.jpg?x=1&y=[2]"),
        ("model.path=/a/b=c", "/a/b=c"),
        ("model.path=/models/it's {here}", "/models/it's {here}"),
        ("model.path='/a,b'", "/a,b"),
        ('model.path="/a b"', "/a b"),
        ("model.base=/a=b", "/a=b"),
        ("tasks.gqa.data_dir=/data/x=1,2", "/data/x=1,2"),
        ("+tasks.gqa.data_dir=/d=1", "/d=1"),
        ("tasks.custom.questions=my questions (2).jsonl", "my questions (2).jsonl"),
        ("results_dir=", ""),
        ("predictions=12", "12"),
        ("model.base=null", None),
        (r"model.path='it\'s'", "it's"),
        ("run=2026_11_27", "2026_11_27"),
        ("run=1e3", "1e3"),
        ("run=1.50", "1.50"),
        ("run=true", "true"),
        ("run=ünï", "ünï"),
        ("run=a#b", "a#b"),
        ("run=it's", "it's"),
        ("run=a=b", "a=b"),
        ("run=a[1]", "a[1]"),
        ("run='mine'", "mine"),
        ("run=null", None),
        ("model.name=007", "007"),
        ("model.revision=1e7", "1e7"),
        ("tasks.custom.name=2024", "2024"),
        ("runs=2026_11_27", "2026_11_27"),
        ("runs=a[1]", "a[1]"),
        ("runs=[12,-x]", ["12", "-x"]),
        ("runs=[2026_11_27, './a,b',it's]", ["2026_11_27", "./a,b", "it's"]),
        ("runs=[]", []),
        ("merge=[1_0,1_1]", ["1_0", "1_1"]),
        ("merge=3", 3),
        ("models=[llava-*,12]", ["llava-*", "12"]),
    ],
)
def test_free_text_is_what_was_typed(word: str, value: object) -> None:
    assert value_of(quote_free_text([word])[0]) == value


@given(TEXT)
def test_text_quoted_by_a_program_arrives_as_it_is(text: str) -> None:
    word = f"run={quote_literally(text)}"
    assert quote_free_text([word]) == [word]
    assert value_of(word) == text


@pytest.mark.parametrize("word", ["run=s${seed}", "run='s${seed}'", "data.root=s${seed}"])
def test_names_and_paths_may_hold_other_options(word: str) -> None:
    [override] = OverridesParser.create().parse_overrides(quote_free_text([word]))
    assert OmegaConf.create({"seed": 3, "value": override.value()}).value == "s3"


@pytest.mark.parametrize(
    "word",
    ["task=[gqa,vqav2]", "limit=3", "-m", "--config-dir=/a", "data=demo", "tasks.gqa.name=5", "x"],
)
def test_other_words_are_left_to_hydra(word: str) -> None:
    assert quote_free_text([word]) == [word]


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("model.path=/a/b=c,/d", ["/a/b=c", "/d"]),
        ("output='a,b',c", ["a,b", "c"]),
        ("run=2026_11_27,1e3", ["2026_11_27", "1e3"]),
        ("model.name=a,b", ["a", "b"]),
    ],
)
def test_comma_sweeps_over_paths_and_names(word: str, values: list[str]) -> None:
    [override] = OverridesParser.create().parse_overrides(quote_free_text(["-m", word])[1:])
    assert override.is_sweep_override()
    assert [value.strip("'") for value in override.sweep_string_iterator()] == values


@pytest.mark.parametrize("word", ["prompt=Red, or blue?", "image=a.jpg,b.jpg"])
def test_comma_in_prose_never_sweeps(word: str) -> None:
    [override] = OverridesParser.create().parse_overrides(quote_free_text(["-m", word])[1:])
    assert not override.is_sweep_override()


def test_home_folder_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert quote_free_text(["model.path=~/llava"]) == ["model.path='/home/me/llava'"]


@pytest.mark.parametrize(
    ("argv", "implied"),
    [
        (["model.path=a"], True),
        (["-m", "model.path=a,b", "task=gqa"], True),
        (["model=llava-v1.5-7b", "model.path=a"], False),
        (["task=gqa"], False),
    ],
)
def test_a_path_alone_means_any_checkpoint(argv: list[str], implied: bool) -> None:
    assert imply_checkpoint(argv) == (["model=checkpoint", *argv] if implied else argv)
