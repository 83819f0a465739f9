"""MM-Vet and LLaVA-Bench: released replies of the judges give the released figures."""

import json
import math
from pathlib import Path

import pytest

from evals.reading.answers import read_answers
from evals.reading.questions import read_questions
from evals.scorers.judge import (
    LLAVABENCH_ROLE,
    LLAVABENCH_RULE,
    MMVET_PROMPT,
    build_mmvet_request,
    parse_grade,
    parse_score,
)
from evals.tasks.llavabench import LLaVABench
from evals.tasks.mmvet import MMVet

SHARED = Path(__file__).parents[2] / "../shared"
MMVET, BENCH = SHARED / "scoring/mmvet", SHARED / "scoring/llavabench"
LLAVA = SHARED / "data/llava_eval/mm-vet/llava-mm-vet.jsonl.gz"
ANSWERS = MMVET / "llava-v1.5-7b.answers.jsonl"
pytestmark = pytest.mark.skipif(not MMVET.is_dir(), reason="the recorded cases are not here")


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def percent(rows):
    return {name: round(100 * row["score"], 1) for name, row in rows.items()}


@pytest.mark.parametrize("num_runs", [1, 3])
def test_released_grades_give_the_released_tables(num_runs):
    replies = MMVET / f"llava-v1.5-7b_gpt-4-grade-{num_runs}runs.json"
    task = MMVet(data_dir=MMVET, judge="gpt-4", replies=replies)
    scores = task.score(task.match(read_answers(ANSWERS).answers))
    figures = task.aggregate(scores)
    expected = json.loads((MMVET / "expected.json").read_text())
    for field, name in (("capability", "cap-score"), ("capability_set", "cap-int-score")):
        table = expected[f"{name}-{num_runs}runs"]
        rows = {k: v for k, v in table.items() if k not in ("total", "std", "runs")}
        assert percent(figures.breakdowns[field]) == rows
        assert round(100 * figures.metrics["score"], 1) == table["total"]
        assert round(100 * figures.metrics["score_deviation"], 1) == table["std"]


def test_released_result_file_is_reproduced():
    task = MMVet(data_dir=MMVET)
    predictions = task.match(read_answers(ANSWERS).answers)
    results = {key: prediction.text for key, prediction in predictions.items()}
    assert results == json.loads((MMVET / "llava-v1.5-7b.results.json").read_text())


def test_prompts_equal_the_real_question_file():
    samples = MMVet(data_dir=MMVET).samples()
    lines = list(read_questions(LLAVA))
    assert [(s.text, s.image_keys) for s in samples] == [(x.text, x.image_names) for x in lines]


def test_official_prompts_are_kept_to_the_letter():
    assert (MMVET / "prompt.txt").read_text() == MMVET_PROMPT
    rules = json.loads((BENCH / "rule.json").read_text())
    wanted = {"role": LLAVABENCH_ROLE, "prompt": LLAVABENCH_RULE}
    assert all(rule == wanted for rule in rules.values())
    request = build_mmvet_request("What?", "1<AND>2<OR>3", "4")
    assert request.prompt == MMVET_PROMPT + "\nWhat? | 1 <AND> 2 <OR> 3 | 4 | "


def test_grades_are_read_as_officially():
    for row in read_lines(MMVET / "parse_grade.jsonl"):
        assert parse_grade(row["content"]) == row["score"], row


def test_reviews_are_read_as_officially():
    for row in read_lines(BENCH / "parse_score.jsonl"):
        wanted = [math.nan if x == "nan" else x for x in row["tuple"]]
        assert parse_score(row["review"]) == pytest.approx(tuple(wanted), nan_ok=True), row


@pytest.fixture
def bench_folder(tmp_path):
    """The question file with the categories that the reviews name."""
    lines = [
        {
            "question_id": review["question_id"],
            "image": f"{n // 3:03d}.jpg",
            "category": review["category"].removeprefix("llava_bench_"),
            "text": f"Question {n}?",
        }
        for n, review in enumerate(read_lines(BENCH / "llava-v1.5-7b-eval1.jsonl"))
    ]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path


def figures_of(folder, names):
    replies = [BENCH / f"{name}.jsonl" for name in names]
    task = LLaVABench(data_dir=folder, replies=replies)
    answers = [{"question_id": s.question_id, "text": "An answer."} for s in task.samples()]
    return task.aggregate(task.score(task.match(answers)))


@pytest.mark.parametrize("run", [1, 2, 3])
def test_released_reviews_give_the_released_scores(bench_folder, run):
    name = f"llava-v1.5-7b-eval{run}"
    figures = figures_of(bench_folder, [name])
    rows = {"all": figures.metrics}
    rows |= {f"llava_bench_{k}": v for k, v in figures.breakdowns["category"].items()}
    got = {
        group: {
            "relative_score": round(100 * row["score"], 1),
            "reference_mean_x10": round(10 * row["reference_mean"], 1),
            "model_mean_x10": round(10 * row["model_mean"], 1),
        }
        for group, row in rows.items()
    }
    assert got == json.loads((BENCH / "expected.json").read_text())[name]


def test_several_runs_are_averaged(bench_folder):
    figures = figures_of(bench_folder, [f"llava-v1.5-7b-eval{run}" for run in (1, 2, 3)])
    expected = json.loads((BENCH / "expected.json").read_text())["mean_of_three_all"]
    assert 100 * figures.metrics["score"] == pytest.approx(expected, abs=0.05)
