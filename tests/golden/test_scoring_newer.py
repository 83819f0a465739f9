"""The recorded cases of the newer benchmarks: every question, figure and prompt."""

import json
from pathlib import Path

import pytest

from evals.reading.answers import read_answers
from tests.evals.small_data import SMALL_DATA
from tests.evals.small_files import cell, put_parquet

SCORING = Path(__file__).parents[2] / "../shared/scoring_next"
pytestmark = pytest.mark.skipif(not SCORING.is_dir(), reason="the recorded cases are not here")
NAMES = ["ai2d", "chartqa", "docvqa", "infovqa", "realworldqa", "okvqa"]


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def build(name, folder):
    """The benchmark on the recorded rows, as a table; an image column is a number in them."""
    for table in json.loads((SCORING / name / "columns.json").read_text()):
        rows = lines_of(SCORING / name / table["rows"])
        rows = [{**row, "image": cell(row["image"])} for row in rows]
        put_parquet(folder / table["target"].format(0, 1), rows)
    return SMALL_DATA[name].build(data_dir=folder)


@pytest.mark.parametrize("name", NAMES)
def test_every_question_and_figure_is_the_official_one(name, tmp_path):
    expected = json.loads((SCORING / name / "expected.json").read_text())["default"]
    task = build(name, tmp_path)
    scores = task.score(task.match(read_answers(SCORING / name / "answers.jsonl").answers))
    near = 5.01e-5 if name == "okvqa" else 1e-9  # its official script rounds
    values = {str(s.question_id): s.value for s in scores}
    assert values == pytest.approx(
        {key: score for key, (score, _) in expected["per_question"].items()}, abs=near
    )
    answers = {str(s.question_id): s.answer for s in scores}
    assert answers == {key: answer for key, (_, answer) in expected["per_question"].items()}
    figures = task.aggregate(scores)
    assert figures.metrics == pytest.approx(expected["metrics"], abs=near)
    if expected["num_unparsed"] is not None:
        assert figures.num_unparsed == expected["num_unparsed"]
    for field, groups in figures.breakdowns.items():
        metric = task.primary_metric
        got = {group: figure[metric] for group, figure in groups.items()}
        want = {group: figure[metric] for group, figure in expected["breakdowns"][field].items()}
        assert got == pytest.approx(want, abs=near)


@pytest.mark.parametrize("name", NAMES)
def test_prompts_are_those_of_the_published_figures(name, tmp_path):
    samples = build(name, tmp_path).samples()
    wanted = {
        str(one["question_id"]): one["text"] for one in lines_of(SCORING / name / "prompts.jsonl")
    }
    assert {sample.key: sample.text for sample in samples} == wanted
