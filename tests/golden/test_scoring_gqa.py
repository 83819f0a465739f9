"""GQA figures agree with the official script, question by question."""

import gzip
import json
import shutil
from pathlib import Path

import pytest

from evals.reading.answers import read_answers
from evals.reading.questions import read_questions
from evals.tasks.gqa import GQA

SHARED = Path(__file__).parents[2] / "../shared"
SCORING = SHARED / "scoring/gqa"
REAL_QUESTIONS = SHARED / "data/llava_eval/gqa/llava_gqa_testdev_balanced.jsonl"
pytestmark = pytest.mark.skipif(not SCORING.is_dir(), reason="the recorded cases are not here")

TABLES = {
    "structural": "accuracyPerStructuralType",
    "semantic": "accuracyPerSemanticType",
    "steps": "accuracyPerSteps",
    "words": "accuracyPerLength",
}
ALL = ("accuracy", "binary", "open", "consistency", "validity", "plausibility", "grounding")


def layout(tmp_path, split):
    (tmp_path / "data").mkdir()
    for path in (SCORING / split).glob(f"{split}_*.json"):
        if "predictions" not in path.name:
            shutil.copyfile(path, tmp_path / "data" / path.name)
    return GQA(data_dir=tmp_path, split=split)


@pytest.mark.parametrize("order", [list, reversed], ids=["in order", "reversed"])
@pytest.mark.parametrize(
    ("split", "metrics"),
    [("val", ALL), ("testdev_balanced", ALL[:3])],
)
def test_figures_agree_with_the_official_script(tmp_path, split, metrics, order):
    expected = json.loads((SCORING / split / "expected.json").read_text(encoding="utf-8"))
    wanted = expected["scores"]
    task = layout(tmp_path, split)
    answers = read_answers(SCORING / split / "answers.jsonl").answers
    if split == "testdev_balanced":
        order = list  # one id is answered twice, and the last one counts

    scores = task.score(task.match(order(answers)))
    figures = task.aggregate(scores)

    got = {score.key: (bool(score.value), score.answer) for score in scores}
    assert got == {
        key: (row["correct"], row["prediction"]) for key, row in expected["per_question"].items()
    }
    for name in metrics:
        assert figures.metrics[name] * 100 == pytest.approx(wanted[name], abs=1e-9), name
    assert figures.metrics["distribution"] == pytest.approx(wanted["distribution"], abs=1e-12)
    for field, table in TABLES.items():
        assert {
            group: (pytest.approx(row["accuracy"] * 100), row["num_questions"])
            for group, row in figures.breakdowns[field].items()
        } == {group: (row["accuracy"], row["questions"]) for group, row in wanted[table].items()}


def test_each_question_has_the_official_details(tmp_path):
    expected = json.loads((SCORING / "val/expected.json").read_text(encoding="utf-8"))
    task = layout(tmp_path, "val")
    answers = read_answers(SCORING / "val/answers.jsonl").answers
    for score in task.score(task.match(answers)):
        row = expected["per_question"][score.key]
        assert score.details["valid"] == row["valid"]
        assert score.details["plausible"] == row["plausible"]
        assert score.details["grounding"] == pytest.approx(row["grounding"], abs=1e-9)
        assert score.groups["steps"] == str(row["steps"])
        assert score.groups["words"] == str(row["words"])
        assert (score.groups["structural"] == "query") == (row["answer_type"] == "open")


def test_figures_without_their_files_are_none(tmp_path):
    task = layout(tmp_path, "testdev_balanced")
    answers = read_answers(SCORING / "testdev_balanced/answers.jsonl").answers
    metrics = task.aggregate(task.score(task.match(answers))).metrics
    assert [metrics[name] for name in ALL[4:]] == [None, None, None]


@pytest.fixture(scope="module")
def real_task(tmp_path_factory):
    """LLaVA's real question file beside an official file written from the same questions."""
    folder = tmp_path_factory.mktemp("gqa")
    (folder / "data").mkdir()
    source = REAL_QUESTIONS.with_name(REAL_QUESTIONS.name + ".gz")
    shutil.copyfile(source, folder / source.name)
    lines = [json.loads(line) for line in gzip.decompress(source.read_bytes()).splitlines()]
    official = {
        line["question_id"]: {
            "semantic": [],
            "entailed": [],
            "equivalent": [],
            "question": line["text"].split("\n")[0],
            "imageId": line["image"].removesuffix(".jpg"),
            "isBalanced": True,
            "groups": {"global": None, "local": "l"},
            "answer": "yes",
            "semanticStr": "",
            "annotations": {"answer": {}, "question": {}, "fullAnswer": {}},
            "types": {"detailed": "d", "semantic": "obj", "structural": "query"},
            "fullAnswer": "",
        }
        for line in lines
    }
    text = json.dumps(official)
    (folder / "data/testdev_balanced_questions.json").write_text(text, encoding="utf-8")
    return GQA(data_dir=folder), lines, folder


def test_real_question_file_gives_its_prompts_as_they_are(real_task):
    task, lines, _ = real_task
    samples = task.samples()
    assert len(samples) == task.releases[task.split].num_questions == 12_578
    assert [(s.question_id, s.image_keys, s.text, s.prompt) for s in samples] == [
        (line["question_id"], (line["image"],), line["text"], line["text"]) for line in lines
    ]


def test_rebuilt_prompts_equal_the_real_question_file(real_task, tmp_path):
    _, _, folder = real_task
    (tmp_path / "data").symlink_to(folder / "data")
    rebuilt = GQA(data_dir=tmp_path).samples()
    assert [(s.key, s.text, s.image_keys) for s in rebuilt] == [
        (q.key, q.text, q.image_names) for q in read_questions(REAL_QUESTIONS)
    ]
    assert len({sample.cluster for sample in rebuilt}) == 398
