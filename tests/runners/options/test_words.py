from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from runners.options.ask import AskConfig
from runners.options.bench import BenchProgramConfig
from runners.options.benchmark_options import kind_of_benchmark_option
from runners.options.eval import EvalConfig
from runners.options.kinds import Kind
from runners.options.leaderboard import LeaderboardConfig
from runners.options.regress import RegressConfig
from runners.options.report import ReportConfig
from runners.options.score import ScoreConfig
from runners.options.watch import WatchConfig
from runners.options.words import imply_checkpoint, quote_free_text, quote_literally

CHECKOUT = Path(__file__).parents[3]
SPECIAL = st.sampled_from("\\'\"${}[]()=,:~@+-#% \n\tabc")
TEXT = st.text(st.one_of(SPECIAL, st.characters(codec="utf-8", exclude_characters="\x00")))


BY_PROGRAM: list[tuple[type, tuple[str, ...]]] = [
    (AskConfig, ("prompt", "image")),
    (ScoreConfig, ("predictions", "merge")),
    (ReportConfig, ("runs",)),
    (LeaderboardConfig, ("models",)),
    (RegressConfig, ("baseline", "candidate")),
    (WatchConfig, ("dir",)),
    (BenchProgramConfig, ("bench",)),
]


def quoted(words: list[str]) -> list[str]:
    """The command line of the first program that has all its options, else of `runners.eval`."""
    first = words[-1].partition("=")[0].lstrip("+").partition(".")[0]
    schema = next((kind for kind, names in BY_PROGRAM if first in names), EvalConfig)
    return quote_free_text(words, schema)


def value_of(word: str) -> object:
    """What a program sees of an option: parsed by Hydra, resolved by OmegaConf."""
    [override] = OverridesParser.create().parse_overrides([word])
    return OmegaConf.create({"value": override.value()})["value"]


def test_a_pattern_stands_for_folders_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("out/checkpoint-1000", "out/checkpoint-500"):
        Path(name).mkdir(parents=True)
    for name in ("out/checkpoint.log", "out/trainer_state.json"):
        Path(name).touch()
    for pattern in ("out/*", "out/checkpoint*"):
        found = "'out/checkpoint-500','out/checkpoint-1000'"
        assert quoted(["-m", f"model.path={pattern}"])[-1] == f"model.path={found}"
    assert quoted(["-m", "model.path=out/*.json"])[-1] == "model.path='out/*.json'"


@given(TEXT)
def test_any_prompt_arrives_as_typed(text: str) -> None:
    assert value_of(quoted([f"prompt={text}"])[0]) == text


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
        ("dir=/runs/a=1", "/runs/a=1"),
        ("baseline=2026_11_27", "2026_11_27"),
        ("bench.questions=a=b.jsonl", "a=b.jsonl"),
        ("data.root=/data/a=1", "/data/a=1"),
        ("manifest=results/a=1", "results/a=1"),
        ("tasks.custom.images=/images,1", "/images,1"),
        ("tasks.mmvet.replies=a=1.jsonl", "a=1.jsonl"),
        ("tasks.mmvet.replies=[a=1.jsonl, b.jsonl]", ["a=1.jsonl", "b.jsonl"]),
        ("tasks.mmbench_cn.data_dir=/d=1", "/d=1"),
        ("tasks.pope.data_dir=/d=1", "/d=1"),
        ("tasks.pope.questions=9000", 9000),
        ("tasks.gqa.prompt_suffix= It's ${this}, really?", " It's ${this}, really?"),
        ("tasks.textvqa.ocr_tokens=false", False),
        ("tasks.mmbench.prompt_suffix=null", None),
        ("tasks.mmbench.prompt_suffix=nullify, a", "nullify, a"),
        ("tasks.textvqa.ocr_tokens=off", False),
        ("tasks.custom.ignore_case=No", False),
        ("tasks.custom.ignore_case='false'", False),
        ("tasks.custom.ignore_case=yes", True),
        ("tasks.custom.ignore_case=none", "none"),
        ("tasks.scienceqa.max_new_tokens=8", 8),
    ],
)
def test_free_text_is_what_was_typed(word: str, value: object) -> None:
    assert value_of(quoted([word])[0]) == value


@given(TEXT)
def test_text_quoted_by_a_program_arrives_as_it_is(text: str) -> None:
    word = f"run={quote_literally(text)}"
    assert quoted([word]) == [word]
    assert value_of(word) == text


@pytest.mark.parametrize("word", ["run=s${seed}", "run='s${seed}'", "data.root=s${seed}"])
def test_names_and_paths_may_hold_other_options(word: str) -> None:
    [override] = OverridesParser.create().parse_overrides(quoted([word]))
    assert OmegaConf.create({"seed": 3, "value": override.value()}).value == "s3"


def test_benchmark_beside_those_of_conf_is_known_by_its_constructor() -> None:
    words = ["+tasks.other._target_=evals.tasks.gqa.GQA", "+tasks.other.data_dir=/d=1"]
    assert quoted(words) == [words[0], "+tasks.other.data_dir='/d=1'"]


@pytest.mark.parametrize("flag", ["--config-dir={}", "--config-dir {}", "-cd {}"])
def test_benchmark_of_an_own_folder_is_known_by_its_constructor(flag: str, tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "task/mine.yaml").write_text("_target_: evals.tasks.custom.Custom\n")
    words = [*flag.format(tmp_path).split(), "tasks.mine.questions=a=b.jsonl"]
    assert quoted(words) == [*words[:-1], "tasks.mine.questions='a=b.jsonl'"]


@pytest.mark.parametrize(
    "word",
    [
        "+tasks.other.data_dir=5",
        "+tasks.other._target_=os.system",
        "tasks.gqa=5",
        "tasks.gqa.data_dirr=5",
        "tasks.gqa.split=test2015",
        "model=5",
        "model.nme=5",
        "engine.max_tokens=5",
        "data=5",
        "data.split=5",
        "rnu=5",
    ],
)
def test_what_is_no_free_text_is_left_to_hydra(word: str) -> None:
    assert quoted([word]) == [word]


def test_every_benchmark_says_what_its_folder_is() -> None:
    names = [path.stem for path in (CHECKOUT / "conf/task").glob("*.yaml")]
    told = {name: kind_of_benchmark_option(f"{name}.data_dir", []) for name in names}
    suites = {"demo", "llava-1.5", "llava-next", "onevision"}
    assert {name for name, kind in told.items() if kind is None} == {"custom", *suites}
    assert {kind for kind in told.values() if kind is not None} == {Kind.PATH}


@pytest.mark.parametrize(
    "word",
    ["task=[gqa,vqav2]", "limit=3", "-m", "--config-dir=/a", "data=demo", "tasks.gqa.name=5", "x"],
)
def test_other_words_are_left_to_hydra(word: str) -> None:
    assert quoted([word]) == [word]


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
    [override] = OverridesParser.create().parse_overrides(quoted(["-m", word])[1:])
    assert override.is_sweep_override()
    assert [value.strip("'") for value in override.sweep_string_iterator()] == values


@pytest.mark.parametrize("word", ["prompt=Red, or blue?", "image=a.jpg,b.jpg"])
def test_comma_in_prose_never_sweeps(word: str) -> None:
    [override] = OverridesParser.create().parse_overrides(quoted(["-m", word])[1:])
    assert not override.is_sweep_override()


def test_home_folder_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert quoted(["model.path=~/llava"]) == ["model.path='/home/me/llava'"]


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
