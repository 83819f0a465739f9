"""SEED-Bench figures and upload agree with LLaVA's script."""

import json
from pathlib import Path

import pytest

from evals.reading.answers import read_answers
from evals.reading.questions import read_questions
from evals.submission import build_submission
from evals.tasks.seedbench import SeedBench

SCORING = Path(__file__).parents[2] / "../shared/scoring/seedbench"
pytestmark = pytest.mark.skipif(not SCORING.is_dir(), reason="the recorded cases are not here")


def score(name, order=list):
    task = SeedBench(data_dir=SCORING)
    scores = task.score(task.match(order(read_answers(SCORING / name).answers)))
    return scores, task.aggregate(scores)


@pytest.mark.parametrize("order", [list, reversed])
def test_every_question_and_figure_is_the_official_one(order):
    expected = json.loads((SCORING / "expected.json").read_text())
    scores, figures = score("answers.jsonl", order)
    values = {str(s.question_id): s.value for s in scores}
    assert values == {key: float(right) for key, right in expected["per_question"].items()}
    want = expected["accuracy"]
    got = {name: value * 100 for name, value in figures.metrics.items()}
    assert got == {
        "accuracy": pytest.approx(want["total"], abs=1e-9),
        "accuracy_image": pytest.approx(want["image"], abs=1e-9),
        "accuracy_video": pytest.approx(want["video"], abs=1e-9),
    }
    types = {k: v["accuracy"] * 100 for k, v in figures.breakdowns["question_type"].items()}
    assert types == pytest.approx(want["per_type"], abs=1e-9)


def test_missing_answers_are_wrong_as_officially():
    printed = json.loads((SCORING / "expected.json").read_text())["missing_run"]["printed"]
    scores, figures = score("answers_missing.jsonl")
    assert sum(not s.answered for s in scores) == 5
    got = {k: v["accuracy"] for k, v in figures.breakdowns["question_type"].items()}
    got |= {
        "Total accuracy": figures.metrics["accuracy"],
        "image accuracy": figures.metrics["accuracy_image"],
        "video accuracy": figures.metrics["accuracy_video"],
    }
    assert {name: f"{100 * value:.2f}%" for name, value in got.items()} == printed


def test_upload_equals_that_of_the_official_converter():
    task = SeedBench(data_dir=SCORING)
    upload = build_submission(task, read_answers(SCORING / "answers.jsonl"), allow_missing=True)
    expected = (SCORING / "expected_upload.jsonl").read_text().splitlines()
    assert list(map(json.loads, upload.content.splitlines())) == list(map(json.loads, expected))


def test_question_file_and_rebuilt_prompts_agree(tmp_path):
    (tmp_path / "SEED-Bench.json").symlink_to((SCORING / "SEED-Bench.json").resolve())
    rebuilt = {s.key: s.text for s in SeedBench(data_dir=tmp_path).samples()}
    lines = list(read_questions(SCORING / "llava-seed-bench.jsonl"))
    assert rebuilt == {line.key: line.text for line in lines}
