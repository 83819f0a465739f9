"""The recorded cases of the newer benchmarks, from tables and from official files.

Compared are the score and answer of every question, every figure, prompt and upload.
"""

import json
import shutil
from pathlib import Path

import pytest

from evals.reading.answers import read_answers
from evals.submission import build_submission
from tests.evals.small_data import SMALL_DATA
from tests.evals.small_files import cell, put_parquet

SCORING = Path(__file__).parents[2] / "../shared/scoring_next"
pytestmark = pytest.mark.skipif(not SCORING.is_dir(), reason="the recorded cases are not here")
NAMES = [
    *("ai2d", "chartqa", "docvqa", "infovqa", "realworldqa", "okvqa"),
    *("mmmu", "mmstar", "hallusionbench", "mathvista"),
]

FILES = {
    "chartqa": ["test/test_human.json", "test/test_augmented.json"],
    "docvqa": ["val_v1.0_withQT.json"],
    "infovqa": ["infographicsVQA_val_v1.0_withQT.json"],
    "okvqa": ["OpenEnded_mscoco_val2014_questions.json", "mscoco_val2014_annotations.json"],
    "hallusionbench": ["HallusionBench.json"],
    "mathvista": ["testmini.json"],
}
UPLOADS = {
    "docvqa": ["test_v1.0.json"],
    "infovqa": ["infographicsVQA_test_v1.0.json"],
    "mmmu": None,
}


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def build(name, folder, place="", files=None, **options):
    """The benchmark on the recorded official files, or else rows, whose images are numbers."""
    for file in files or []:
        (folder / file).parent.mkdir(exist_ok=True)
        shutil.copy(SCORING / name / place / Path(file).name, folder / file)
    if files:
        return SMALL_DATA[name].build(data_dir=folder, **options)
    for table in json.loads((SCORING / name / place / "columns.json").read_text()):
        rows = lines_of(SCORING / name / place / table["rows"])
        for column in [column for column, kind in table["columns"].items() if kind == "image"]:
            rows = [{**row, column: image_of(row[column])} for row in rows]
        put_parquet(folder / table["target"].format(0, 1), rows)
    return SMALL_DATA[name].build(data_dir=folder, **options)


def image_of(number):
    return None if number is None else cell(number)


def check(task, name, case="default", leave=()):
    """Compares every question and figure with the official ones, but for some breakdowns."""
    expected = json.loads((SCORING / name / "expected.json").read_text())[case]
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
    assert set(figures.breakdowns) == set(expected["breakdowns"]) - set(leave)
    for field, groups in figures.breakdowns.items():
        assert set(groups) == set(expected["breakdowns"][field])
        for group, want in expected["breakdowns"][field].items():
            got = {metric: groups[group][metric] for metric in want}
            assert got == pytest.approx(want, abs=near)


def prompts_of(name):
    recorded = lines_of(SCORING / name / "prompts.jsonl")
    return {str(one.get("question_id")): one["text"] for one in recorded}


@pytest.mark.parametrize("name", NAMES)
def test_every_question_and_figure_is_the_official_one(name, tmp_path):
    # The table of InfographicVQA has no column for the evidence.
    check(build(name, tmp_path), name, leave=["evidence"] if name == "infovqa" else [])


@pytest.mark.parametrize("name", FILES)
def test_official_files_give_the_same(name, tmp_path):
    task = build(name, tmp_path, files=FILES[name])
    check(task, name)
    assert {sample.key: sample.prompt for sample in task.samples()} == prompts_of(name)


@pytest.mark.parametrize("name", NAMES)
def test_prompts_are_those_of_the_published_figures(name, tmp_path):
    samples = build(name, tmp_path).samples()
    assert {sample.key: sample.prompt for sample in samples} == prompts_of(name)
    recorded = lines_of(SCORING / name / "prompts.jsonl")
    for sample, one in zip(samples, recorded, strict=True):  # as lmms-eval places images
        marks = " ".join(["<image>"] * len(sample.images))
        several = f"{marks}\n{one['text']}" if len(sample.images) > 1 else one["text"]
        assert sample.text == several
        if "images" in one:
            assert [key.rpartition("/")[2] for key in sample.image_keys] == one["images"]


@pytest.mark.parametrize("style", ["cot", "solution"])
def test_official_prompts_of_mathvista_are_recorded_too(style, tmp_path):
    samples = build("mathvista", tmp_path, prompt=style).samples()
    recorded = lines_of(SCORING / "mathvista/prompts.jsonl")
    assert [sample.text for sample in samples] == [one[style] for one in recorded]


def test_all_of_hallusionbench_with_and_without_a_judge(tmp_path):
    check(build("hallusionbench", tmp_path, split="all"), "hallusionbench", "all")
    replies = SCORING / "hallusionbench/replies.jsonl"
    options = {"split": "all", "replies": replies}
    check(build("hallusionbench", tmp_path, **options), "hallusionbench", "judged")


def test_mathvista_with_the_replies_of_a_judge(tmp_path):
    replies = SCORING / "mathvista/replies.jsonl"
    check(build("mathvista", tmp_path, replies=replies), "mathvista", "judged")


@pytest.mark.parametrize("name", UPLOADS)
def test_upload_is_the_one_that_the_official_script_makes(name, tmp_path):
    """Of MMMU with the letters that it draws."""
    task = build(name, tmp_path, "submission", UPLOADS[name], split="test")
    place = SCORING / name / "submission"
    upload = build_submission(task, read_answers(place / "answers.jsonl"), allow_missing=True)
    assert json.loads(upload.content) == json.loads((place / "expected_upload.json").read_text())
