"""ScienceQA figures agree with LLaVA's and the official scripts, problem by problem."""

import gzip
import json
import re
import shutil
from pathlib import Path

import pytest

from evals.reading.answers import read_answers
from evals.tasks.scienceqa import ScienceQA

SHARED = Path(__file__).parents[2] / "../shared"
SCORING = SHARED / "scoring/scienceqa"
DATA = SHARED / "data/scienceqa"
LLAVA = SHARED / "data/llava_eval/scienceqa/llava_test_CQM-A.json.gz"
pytestmark = pytest.mark.skipif(not SCORING.is_dir(), reason="the recorded cases are not here")

ROWS = {
    "NAT": "acc_natural",
    "SOC": "acc_social",
    "LAN": "acc_language",
    "TXT": "acc_has_text",
    "IMG": "acc_has_image",
    "NO": "acc_no_context",
    "G1-6": "acc_grade_1_6",
    "G7-12": "acc_grade_7_12",
}


def read_json(path):
    content = path.read_bytes()
    return json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)


def printed_image_accuracy(figure):
    return float(re.search(r"IMG-Accuracy: ([\d.]+)%", figure["printed"])[1])


@pytest.fixture(scope="module")
def expected():
    return read_json(SCORING / "expected.json")


@pytest.fixture(scope="module")
def answers():
    return read_answers(SCORING / "answers.jsonl").answers


def test_each_problem_is_judged_as_officially(expected, answers):
    task = ScienceQA(data_dir=SCORING)
    wanted = expected["eval_science_qa"]["per_question"]
    given = {str(row["question_id"]) for row in answers}

    scores = task.score(task.match(answers))

    assert [score.key for score in scores] == read_json(SCORING / "pid_splits.json")["test"]
    assert len(wanted) == len(scores)
    for score in scores:
        row = wanted[score.key]
        letter = None if row["parsed_answer"] == "FAILED" else row["parsed_answer"]
        assert (score.value, score.answer) == (float(row["correct"]), letter)
        assert score.details.choice_index == row["predicted_index"]
        assert score.answered == (score.key in given)
    unparsed = sum(wanted[key]["predicted_index"] == -1 for key in given & set(wanted))
    assert task.aggregate(scores).num_unparsed == unparsed > 0


@pytest.mark.parametrize(
    ("split", "case"), [("test", "eval_science_qa"), ("minitest", "eval_science_qa_minitest")]
)
def test_accuracies_are_the_official_ones(expected, answers, split, case):
    task = ScienceQA(data_dir=SCORING, split=split)
    metrics = task.aggregate(task.score(task.match(answers))).metrics
    want = expected[case]
    assert metrics["accuracy"] * 100 == pytest.approx(want["acc"], abs=1e-9)
    assert metrics["accuracy_image"] * 100 == pytest.approx(printed_image_accuracy(want), abs=5e-3)


def test_rows_and_topics_are_the_official_ones(expected, answers):
    task = ScienceQA(data_dir=SCORING)
    figures = task.aggregate(task.score(task.match(answers)))
    table = expected["get_scores"]
    for row, name in ROWS.items():
        assert figures.metrics[row] * 100 == pytest.approx(float(table[name]), abs=5e-3 + 1e-7)
    topics = {
        f"acc_{topic}": pytest.approx(row["accuracy"] * 100, abs=5e-3 + 1e-7)
        for topic, row in figures.breakdowns["topic"].items()
    }
    others = {*ROWS.values(), "acc_average"}
    assert topics == {
        name: float(value)
        for name, value in table.items()
        if name not in others and float(value) >= 0
    }


@pytest.fixture(scope="module")
def real_folder(tmp_path_factory):
    """The 4,241 problems of the test split, without subject, grade and topic."""
    if not DATA.is_dir():
        pytest.skip("the reconstructed problems are not here")
    folder = tmp_path_factory.mktemp("scienceqa")
    problems = DATA / "problems_test_reconstructed.json.gz"
    shutil.copyfile(problems, folder / "problems.json.gz")
    shutil.copyfile(DATA / "pid_splits.json.gz", folder / "pid_splits.json.gz")
    return folder


def test_published_gpt3_answers_score_as_officially(real_folder):
    place = SCORING / "real_gpt3"
    expected = read_json(place / "expected.json")
    task = ScienceQA(data_dir=real_folder)
    answers = read_answers(place / "answers.jsonl").answers

    scores = task.score(task.match(answers))
    metrics = task.aggregate(scores).metrics

    got = {score.key: score.details.choice_index for score in scores}
    assert got == expected["predicted_index"]
    want = expected["eval_science_qa"]
    assert metrics["accuracy"] * 100 == pytest.approx(want["acc"], abs=1e-9)
    assert metrics["accuracy_image"] * 100 == pytest.approx(printed_image_accuracy(want), abs=5e-3)
    rows = expected["breakdown_from_reconstructed_fields"]
    assert {"acc_has_text", "acc_has_image", "acc_no_context"} <= set(rows)
    for row, name in ROWS.items():
        if rows.get(name) is not None:
            assert metrics[row] * 100 == pytest.approx(float(rows[name]), abs=5e-3 + 1e-7)
    assert [metrics[row] for row in ("NAT", "SOC", "LAN", "G1-6", "G7-12")] == [None] * 5


@pytest.fixture(scope="module")
def real_prompts():
    if not LLAVA.is_file():
        pytest.skip("the real question file is not here")
    return read_json(LLAVA)


def check_real_prompts(samples, lines):
    suffix = "\nAnswer with the option's letter from the given choices directly."
    assert [sample.question_id for sample in samples] == [line["id"] for line in lines]
    for sample, line in zip(samples, lines, strict=True):
        value = line["conversations"][0]["value"]
        assert sample.prompt == value + suffix
        assert sample.text == value.removeprefix("<image>\n") + suffix
        assert sample.image_keys == ((line["image"],) if "image" in line else ())
        assert sample.target == line["conversations"][1]["value"]


def test_rebuilt_prompts_equal_the_real_question_file(real_folder, real_prompts):
    task = ScienceQA(data_dir=real_folder)
    samples = task.samples()
    assert len(samples) == task.releases[task.split].num_questions
    check_real_prompts(samples, real_prompts)


def test_real_question_file_gives_its_prompts_as_they_are(real_folder, real_prompts, tmp_path):
    for path in real_folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / LLAVA.name).symlink_to(LLAVA.resolve())
    check_real_prompts(ScienceQA(data_dir=tmp_path).samples(), real_prompts)
