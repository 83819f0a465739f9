"""VizWiz scores and uploads agree with the official evaluator and with LLaVA's converter."""

import json
import re
from pathlib import Path

import pytest

from evals.reading.answers import read_answers
from evals.reading.questions import read_questions
from evals.scorers.answerability import score_answerability
from evals.submission import build_submission
from evals.tasks.vizwiz import VizWiz

SHARED = Path(__file__).parents[2] / "../shared"
SCORING = SHARED / "scoring/vizwiz"
LLAVA = SHARED / "data/llava_eval/vizwiz/llava_test.jsonl.gz"
pytestmark = pytest.mark.skipif(not SCORING.is_dir(), reason="the recorded cases are not here")


def read(name):
    return json.loads((SCORING / name).read_text())


def number(image):
    return int(re.search(r"(\d+)\.", image)[1])


def raw_answers():
    found = read_answers(SCORING / "answers.jsonl")
    assert len(found.unreadable) == 1
    return found.answers


def m4c_answers():
    rows = read("expected_upload.json")
    return [{"question_id": number(row["image"]), "text": row["answer"]} for row in rows]


@pytest.mark.parametrize(
    ("case", "answers_of"),
    [("official_on_raw_text", raw_answers), ("official_on_m4c_text", m4c_answers)],
)
@pytest.mark.parametrize("order", [list, reversed])
def test_every_image_scores_as_officially(case, answers_of, order):
    expected = read("expected.json")[case]
    task = VizWiz(data_dir=SCORING, split="val")

    scores = task.score(task.match(order(answers_of())))
    figures = task.aggregate(scores)

    wanted = {number(row["image"]): row for row in expected["per_image"]}
    assert [score.question_id for score in scores] == list(wanted)
    for score in scores:
        row = wanted[score.question_id]
        assert score.value * 100 == pytest.approx(row["accuracy"], abs=5e-3)
        assert score.answer == row["prediction"]
    assert figures.metrics["vqa_accuracy"] * 100 == pytest.approx(expected["overall"], abs=5e-3)
    table = {
        group: row["vqa_accuracy"] * 100 for group, row in figures.breakdowns["answer_type"].items()
    }
    assert table == pytest.approx(expected["perAnswerType"], abs=5e-3 + 1e-7)


def test_answerability_is_the_official_one():
    labels = {row["image"]: row["answerable"] for row in read("val.json")}
    results = read("results_answerability.json")
    precision, f1 = score_answerability(
        [labels[row["image"]] for row in results], [row["answerable"] for row in results]
    )
    expected = read("expected.json")["answerability"]
    assert precision * 100 == pytest.approx(expected["average_precision"], abs=5e-3)
    assert f1 * 100 == pytest.approx(expected["f1_score"], abs=5e-3)


def test_upload_equals_that_of_the_official_converter():
    task = VizWiz(data_dir=SCORING, split="test")
    upload = build_submission(task, read_answers(SCORING / "answers.jsonl"))
    assert json.loads(upload.content) == read("expected_upload.json")
    assert (upload.suffix, upload.num_unreadable) == (".json", 1)


def test_real_prompts_are_rebuilt_from_the_questions(tmp_path):
    if not LLAVA.is_file():
        pytest.skip("the real question file is not here")
    lines = list(read_questions(LLAVA))
    entries = [
        {"image": line.image_names[0], "question": line.text.split("\n")[0].lower()}
        for line in lines
    ]
    (tmp_path / "test.json").write_text(json.dumps(entries))
    task = VizWiz(data_dir=tmp_path)
    samples = task.samples()
    assert [(s.question_id, s.text) for s in samples] == [(x.question_id, x.text) for x in lines]
    assert len(samples) == task.releases["test"].num_questions
