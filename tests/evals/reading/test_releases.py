import csv
from pathlib import Path

import pytest

from evals.errors import DataError
from evals.reading.releases import Release
from tests.evals.small_data import SMALL_DATA

FOLDER = Path(__file__).parents[3] / "runners/views/leaderboard/assets/published"
TASKS = {*SMALL_DATA, "vqav2", "gqa", "scienceqa", "mmmu", "mmstar", "hallusionbench", "mathvista"}


def rows(name="*"):
    files = sorted(FOLDER.glob(f"{name}.csv"))
    assert files
    for path in files:
        with path.open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)


def test_published_figures_name_our_tasks_and_are_in_the_units_of_summaries():
    for row in rows():
        assert row["task"] in TASKS
        points = row["metric"] in ("perception", "cognition")
        scale = 1 if points else 100
        assert float(row["value"]) * scale == pytest.approx(float(row["printed"]))
        assert points or 0 <= float(row["value"]) <= 1


def test_table_of_the_paper_is_complete_for_both_models():
    for model, count in (("llava-v1.5-7b", 12), ("llava-v1.5-13b", 12)):
        found = {row["task"] for row in rows("model_zoo") if row["model"] == model}
        assert len(found & TASKS) == count


def test_another_count_than_the_published_one_is_refused():
    release = Release(num_questions=10, other_releases={12: "that is the later one. Fetch it."})
    release.check("x y", 10)
    with pytest.raises(DataError, match=r"10 questions, but has 11: .*check_counts=false"):
        release.check("x y", 11)
    with pytest.raises(DataError, match="x y must have the published 10 questions, but has 12: th"):
        release.check("x y", 12)
