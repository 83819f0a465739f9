"""MMBench figures and workbook agree with VLMEvalKit's exact policy and LLaVA's converter."""

import csv
import io
import json
from pathlib import Path

import pytest

from evals.reading.answers import read_answers
from evals.submission import build_submission
from evals.tasks.mmbench import MMBench

SCORING = Path(__file__).parents[2] / "../shared/scoring/mmbench"
pytestmark = pytest.mark.skipif(not SCORING.is_dir(), reason="the recorded cases are not here")


@pytest.mark.parametrize("order", [list, reversed])
def test_every_row_and_figure_is_the_official_one(order):
    expected = json.loads((SCORING / "expected.json").read_text())
    task = MMBench(data_dir=SCORING)

    scores = task.score(task.match(order(read_answers(SCORING / "answers.jsonl").answers)))
    figures = task.aggregate(scores)

    wanted = {row["index"]: row for row in expected["per_row"]}
    assert len(scores) == len(wanted)
    for score in scores:
        row = wanted[score.question_id]
        assert (score.value, score.answer) == (float(row["correct"]), row["extracted"]), row
    assert figures.metrics["accuracy"] == pytest.approx(expected["circular"]["overall"], abs=1e-12)
    first = figures.metrics["accuracy_first_pass"]
    assert first == pytest.approx(expected["vanilla_first_pass"], abs=1e-12)
    report = {"Overall": figures.metrics["accuracy"]}
    for table in figures.breakdowns.values():
        report |= {group: row["accuracy"] for group, row in table.items()}
    assert report == pytest.approx(expected["circular"]["report"], abs=1e-12)


def test_prompts_of_the_answer_file_are_rebuilt():
    samples = {sample.question_id: sample for sample in small_task().samples()}
    for answer in read_answers(SCORING / "answers.jsonl").answers:
        sample = samples[answer["question_id"]]
        assert sample.prompt == answer["prompt"]
        suffix = "\nAnswer with the option's letter from the given choices directly."
        assert sample.text == answer["prompt"] + suffix
        assert sample.images[0].open().size == (1, 1)


def small_task():
    return MMBench(data_dir=SCORING)


def test_workbook_equals_that_of_the_official_converter():
    openpyxl = pytest.importorskip("openpyxl")
    answers = read_answers(SCORING / "answers.jsonl")
    upload = build_submission(MMBench(data_dir=SCORING), answers, allow_missing=True)
    sheet = openpyxl.load_workbook(io.BytesIO(upload.content)).active
    header, *rows = sheet.iter_rows(values_only=True)
    lines = [json.loads(x) for x in (SCORING / "expected_upload.jsonl").read_text().splitlines()]
    assert list(header) == lines[0]["columns"]
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    assert [dict(zip(header, row, strict=True)) for row in cells] == lines[1:]


def test_table_is_read_as_by_a_plain_reader():
    path = SCORING / "mmbench_dev_20230712.tsv"
    with path.open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file, delimiter="\t"))
    assert [sample.question_id for sample in small_task().samples()] == [
        int(row["index"]) for row in table
    ]
