"""MME figures and result files agree with the official tool and with LLaVA's converter."""

import json
import shutil
from collections import defaultdict
from pathlib import Path

import pytest

from evals.reading.answers import read_answers
from evals.reading.mme import (
    CATEGORIES,
    COGNITION,
    PERCEPTION,
    bare_question,
    one_line,
    pair_figures,
    read_release,
)
from evals.reading.questions import read_question_lines
from evals.scorers.yes_no import parse_mme
from evals.tasks.mme import MME, RELEASE_DIR

SHARED = Path(__file__).parents[2] / "../shared"
SCORING = SHARED / "scoring/mme"
TRUTH = SHARED / "data/mme/Your_Results"
LLAVA = SHARED / "data/llava_eval/MME/llava_mme.jsonl.gz"
pytestmark = pytest.mark.skipif(not SCORING.is_dir(), reason="the recorded cases are not here")


def answers():
    return read_answers(SCORING / "answers.jsonl").answers


def rows_of(figures):
    return {
        category: (row["score"], row["accuracy"], row["accuracy_plus"])
        for category, row in figures.items()
    }


@pytest.mark.parametrize("order", [list, reversed])
def test_every_answer_and_figure_is_the_official_one(order):
    expected = json.loads((SCORING / "expected.json").read_text())
    task = MME(data_dir=SCORING)

    scores = task.score(task.match(order(answers())))
    figures = task.aggregate(scores)

    wanted = defaultdict(list)
    for row in expected["per_question"]:
        wanted[row["category"], Path(row["file"]).stem].append(row["parsed"])
    got = defaultdict(list)
    for score in scores:
        got[score.groups["category"], Path(score.question_id).stem].append(score.answer)
    assert got == wanted
    for name in ("perception", "cognition"):
        assert figures.metrics[name] == pytest.approx(expected[name], abs=1e-9)
    table = expected["per_category"]
    assert rows_of(figures.breakdowns["category"]) == {
        category: pytest.approx((row["score"], row["acc"], row["acc_plus"]), abs=1e-9)
        for category, row in table.items()
    }
    assert figures.num_unparsed == sum(row["other_num"] for row in table.values())


def test_result_files_equal_those_of_the_official_converter():
    task = MME(data_dir=SCORING)
    predictions = task.match(answers())
    wordings = {
        (question["category"], Path(question["question_id"]).stem, bare_question(text)): text
        for question in (entry.record for entry in read_release(SCORING / RELEASE_DIR, ""))
        for text in [question["question"]]
    }
    files = defaultdict(str)
    for key, sample in task.questions.items():
        category, stem = sample.groups["category"], Path(sample.question_id).stem
        wording = wordings[category, stem, bare_question(sample.text)]
        row = (f"{stem}.txt", wording, sample.target, one_line(predictions[key].text))
        files[f"{category}.txt"] += "\t".join(row) + "\n"
    expected = {path.name: path.read_text() for path in (SCORING / "expected_eval_tool").iterdir()}
    assert files == expected


def test_real_result_files_score_as_in_the_official_tool():
    expected = json.loads((SCORING / "real_lavin/expected.json").read_text())
    scores = {}
    for category in CATEGORIES:
        path = SCORING / f"real_lavin/results/{category}.txt"
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        right = [parse_mme(answer) == label.lower() for _, _, label, answer in rows]
        pairs = list(zip(right[::2], right[1::2], strict=True))
        scores[category] = pair_figures(pairs)["score"]
    for name, part in (("perception", PERCEPTION), ("cognition", COGNITION)):
        assert {c: scores[c] for c in part} == pytest.approx(expected[name]["scores"], abs=1e-9)
        total = sum(scores[category] for category in part)
        assert total == pytest.approx(expected[name]["total"], abs=1e-9)


@pytest.fixture
def real_folder(tmp_path):
    """The release with its questions and labels, rebuilt from the tool's files; no images."""
    if not TRUTH.is_dir() or not LLAVA.is_file():
        pytest.skip("the real question files are not here")
    nested = {"artwork", "celebrity", "landmark", "posters", "scene"}
    for category in CATEGORIES:
        folder = tmp_path / RELEASE_DIR / category
        pages = defaultdict(str)
        for line in (TRUTH / f"{category}.txt").read_text().splitlines():
            image, question, label = line.split("\t")
            pages[image] += f"{question}\t{label}\n"
        for image, page in pages.items():
            texts = folder / "questions_answers_YN" if category in nested else folder
            pictures = folder / "images" if category in nested else folder
            for place in (texts, pictures):
                place.mkdir(parents=True, exist_ok=True)
            (texts / f"{Path(image).stem}.txt").write_text(page)
            (pictures / image).write_bytes(b"")
    return tmp_path


def test_real_questions_are_rebuilt_with_ids_and_prompts(real_folder):
    rebuilt = {sample.key: sample for sample in MME(data_dir=real_folder).samples()}
    shutil.copyfile(LLAVA, real_folder / LLAVA.name)
    read = MME(data_dir=real_folder).samples()
    lines = list(read_question_lines(LLAVA))
    assert [(s.question_id, s.text) for s in read] == [(x.question_id, x.text) for x in lines]
    assert len(read) == len(rebuilt) == 2_374
    for sample in read:
        same = rebuilt[sample.key]
        assert (same.text, same.target, same.image_keys) == (
            sample.text,
            sample.target,
            sample.image_keys,
        )
