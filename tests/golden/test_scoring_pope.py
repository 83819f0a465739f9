"""POPE figures agree with LLaVA's and the official script, question by question."""

import json
import shutil
from pathlib import Path

import pytest

from evals.errors import DataError
from evals.reading.answers import read_answers
from evals.reading.questions import read_questions
from evals.tasks.pope import POPE

SHARED = Path(__file__).parents[2] / "../shared"
SCORING = SHARED / "scoring/pope"
DATA = SHARED / "data/pope"
LLAVA = SHARED / "data/llava_eval/pope/llava_pope_test.jsonl.gz"
pytestmark = pytest.mark.skipif(not SCORING.is_dir(), reason="the recorded cases are not here")
FIGURES = ("accuracy", "precision", "recall", "f1", "yes_ratio")


@pytest.mark.parametrize("order", [list, reversed])
def test_every_answer_and_figure_is_the_official_one(order):
    expected = json.loads((SCORING / "expected.json").read_text())
    task = POPE(data_dir=SCORING)

    scores = task.score(task.match(order(read_answers(SCORING / "answers.jsonl").answers)))
    figures = task.aggregate(scores)

    assert {str(s.question_id): s.answer for s in scores} == expected["per_question"]
    assert figures.metrics["f1"] == pytest.approx(expected["mean_f1"], abs=1e-12)
    for category, row in expected["per_category"].items():
        got = figures.breakdowns["category"][category]
        assert got["num_questions"] == row["samples"]
        for name in FIGURES:
            assert got[name] == pytest.approx(row[name], abs=1e-12)


@pytest.fixture
def real_folder(tmp_path):
    if not DATA.is_dir() or not LLAVA.is_file():
        pytest.skip("the real question files are not here")
    (tmp_path / "coco").symlink_to((DATA / "coco").resolve())
    return tmp_path


def test_real_questions_are_rebuilt_with_ids_prompts_and_order(real_folder):
    samples = POPE(data_dir=real_folder).samples()
    lines = list(read_questions(LLAVA))
    assert [(s.question_id, s.text, s.image_keys, s.groups["category"]) for s in samples] == [
        (line.question_id, line.text, line.image_names, line.fields["category"]) for line in lines
    ]
    assert len(samples) == 8_910


def test_real_question_file_is_read_as_it_is(real_folder):
    rebuilt = POPE(data_dir=real_folder).samples()
    shutil.copyfile(LLAVA, real_folder / LLAVA.name)
    read = POPE(data_dir=real_folder).samples()
    assert [(s.key, s.text, s.target) for s in read] == [(s.key, s.text, s.target) for s in rebuilt]


def test_later_release_is_recognized(real_folder):
    (real_folder / "coco").unlink()
    (real_folder / "coco").symlink_to((DATA / "coco_2024").resolve())
    task = POPE(data_dir=real_folder)
    num_questions = len(task.samples())
    with pytest.raises(
        DataError, match=r"later release with 3,000 random questions.*set tasks.pope.questions="
    ):
        task.releases["coco"].check("pope coco", num_questions)
    later = POPE(data_dir=real_folder, questions=9_000)
    assert len(later.samples()) == later.releases["coco"].num_questions == 9_000
    assert later.definition != POPE(data_dir=real_folder).definition


def test_labels_of_another_release_than_the_questions_are_refused(real_folder):
    (real_folder / "coco").unlink()
    (real_folder / "coco").symlink_to((DATA / "coco_2024").resolve())
    shutil.copyfile(LLAVA, real_folder / LLAVA.name)
    with pytest.raises(DataError, match="must be of one release"):
        POPE(data_dir=real_folder).score({})
