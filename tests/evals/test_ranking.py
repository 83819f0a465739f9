"""Ranked letters: another definition of the same questions, for the tasks that have the option."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals.benchmark import GENERATE, RANK, Benchmark
from evals.errors import DataError
from evals.figures.summary import summarize
from evals.ranking import is_ranked
from evals.tasks.scienceqa import ScienceQA
from tests.evals.small_data import SMALL_DATA, mmbench_rows, write_tsv
from tests.evals.small_files import SmallData, put_json

PROBLEM = {
    "question": "Which?",
    "choices": ["a", "b", "c"],
    "answer": 2,
    "hint": "",
    "image": None,
    "split": "test",
}


def write_scienceqa(folder: Path) -> None:
    problems = {"4": PROBLEM, "9": {**PROBLEM, "choices": ["a", "b"], "answer": 0}}
    put_json(folder / "problems.json", problems)
    put_json(folder / "pid_splits.json", {"test": ["4", "9"]})


CASES = {name: SMALL_DATA[name] for name in ("seedbench", "ai2d", "mmbench", "mmbench_cn")}
CASES["scienceqa"] = SmallData(ScienceQA, write_scienceqa, ["C", "A"], 1.0)
LETTERS = {
    "seedbench": ["ABCD", "ABCD", "ABCD"],
    "ai2d": ["AB", "ABCDE", "ABC"],
    "mmbench": ["ABC", "ABC", "ABC", "AB", "AB"],
    "mmbench_cn": ["ABC", "ABC", "ABC", "AB", "AB"],
    "scienceqa": ["ABC", "AB"],
}


@pytest.fixture(params=sorted(CASES))
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[SmallData, Benchmark, Benchmark]:
    """A benchmark whose answers are generated, and the same with ranked ones."""
    small = CASES[request.param]
    small.write(tmp_path)
    options: dict[str, Any] = {"data_dir": tmp_path, **small.options}
    return small, small.build(**options), small.build(**options, answer=RANK)


def lines_of(task: Benchmark, texts: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"question_id": sample.question_id, "prompt": sample.prompt, "text": text}
        for sample, text in zip(task.samples(), texts, strict=True)
    ]


def test_definition_is_another_one_and_the_prompts_are_the_same(pair: Any) -> None:
    _, usual, ranked = pair
    assert (usual.answer, ranked.answer) == (GENERATE, RANK)
    name, version = usual.definition.split("/")
    assert ranked.definition == f"{name}_rank/{version}"
    assert (is_ranked(usual.definition), is_ranked(ranked.definition)) == (False, True)
    assert (ranked.max_new_tokens, usual.max_new_tokens > 1) == (1, True)
    asked = [(one.key, one.text, one.prompt, one.image_keys) for one in usual.samples()]
    assert [(o.key, o.text, o.prompt, o.image_keys) for o in ranked.samples()] == asked
    assert all(one.choices == () for one in usual.samples())


def test_choices_are_the_letters_of_the_options_in_the_prompt(pair: Any) -> None:
    _, _, ranked = pair
    samples = ranked.samples()
    assert ["".join(one.choices) for one in samples] == LETTERS[ranked.name]
    for one in samples:
        shown = [line[0] for line in one.text.split("\n") if line[1:3] == ". "]
        assert list(one.choices) == shown


def test_letters_are_read_by_the_judge_of_the_benchmark(pair: Any) -> None:
    small, usual, ranked = pair
    right = [next(c for c in text if c.isalpha()).upper() for text in small.right]
    for texts in (right, [sample.choices[-1] for sample in ranked.samples()]):
        scores, expected = (t.score(t.match(lines_of(t, texts))) for t in (ranked, usual))
        assert scores == expected
        summary = summarize(ranked, scores, {})
        assert summary.definition == ranked.definition
        assert summary.num_unparsed == 0
    scores = ranked.score(ranked.match(lines_of(ranked, right)))
    assert summarize(ranked, scores, {}).metrics[ranked.primary_metric] == 1.0


def test_other_ways_to_answer_are_refused_by_name(tmp_path: Path) -> None:
    for small in CASES.values():
        options: dict[str, Any] = {"data_dir": tmp_path, **small.options}
        with pytest.raises(ValueError, match=r"`answer` of \w+ must be one of .*, but is likely"):
            small.build(**options, answer="likely")


def test_question_without_options_is_refused(tmp_path: Path) -> None:
    rows = [mmbench_rows()[0], {**mmbench_rows()[1], "A": ""}]
    write_tsv(tmp_path / "mmbench_dev_20230712.tsv", rows)
    task = SMALL_DATA["mmbench"].build(data_dir=tmp_path, answer=RANK)
    message = rf"mmbench dev_20230712: question {rows[1]['index']} has no option that could be"
    with pytest.raises(DataError, match=message):
        task.samples()
    assert len(SMALL_DATA["mmbench"].build(data_dir=tmp_path).samples()) == 2


def test_suffix_and_choices_go_together(tmp_path: Path) -> None:
    write_scienceqa(tmp_path)
    task = ScienceQA(data_dir=tmp_path, answer=RANK, prompt_suffix="\nLetter:")
    assert [one.text[-8:] for one in task.samples()] == ["\nLetter:"] * 2
    assert task.samples()[1].choices == ("A", "B")
    assert replace(task, letters=None).samples()[1].choices == ()


def test_drawn_choices_have_a_ranked_definition_too(tmp_path: Path) -> None:
    task = ScienceQA(data_dir=tmp_path, unparsed="random", answer=RANK)
    assert task.definition == "scienceqa_random_rank/1"
