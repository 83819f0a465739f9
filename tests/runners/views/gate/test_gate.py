"""What the gate decides: by how much, on how many questions, over how many tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runners.gated_runs import right, store
from tests.runners.views.gate.conftest import gate, verdict

TASK_KEYS = {
    "task",
    "baseline",
    "candidate",
    "difference",
    "interval",
    "p",
    "p_adjusted",
    "gained",
    "lost",
    "detectable_difference",
    "verdict",
    "num_questions",
    "num_clusters",
    "seconds",
}
VERDICT_KEYS = {
    *("verdict", "runs", "alpha", "max_drop", "margin", "seed", "time", "versions", "counts"),
    *("hashes", "tasks", "remarks"),
}


def test_run_against_itself_passes() -> None:
    store("old", "gqa", right(40, 7), questions_per_image=4)
    store("old", "vqav2", [0.3, 0.6, 0.9, 1.0])
    assert gate("allow_same=true", candidate="old") == 0
    found = verdict("results/old/regress-old")
    assert found["verdict"] == "pass"
    assert [task["task"] for task in found["tasks"]] == ["gqa", "vqav2"]
    for task in found["tasks"]:
        assert (task["p"], task["p_adjusted"], task["difference"]) == (1.0, 1.0, 0.0)


def test_significant_drop_fails(capsys: pytest.CaptureFixture[str]) -> None:
    store("old", "gqa", right(100))
    store("new", "gqa", right(100, 12))
    assert gate() == 1
    found = verdict()
    assert set(found) == VERDICT_KEYS
    (task,) = found["tasks"]
    assert (found["alpha"], found["max_drop"], found["margin"], found["seed"]) == (
        0.05,
        None,
        0.03,
        0,
    )
    assert found["runs"]["candidate"] == {"name": "new", "folder": "results/new"}
    assert found["counts"] == {"tasks": 1, "pass": 0, "fail": 1, "undecided": 0, "questions": 100}
    assert found["hashes"]["gqa"]["baseline"]["scorer"] == "s"
    assert found["versions"]["numpy"]
    assert set(task) == TASK_KEYS
    assert found["verdict"] == task["verdict"] == "fail"
    assert (task["baseline"], task["candidate"]) == (1.0, 0.88)
    assert task["difference"] == pytest.approx(-0.12)
    assert (task["gained"], task["lost"]) == (0, 12)
    assert task["p"] == task["p_adjusted"] == pytest.approx(2 / 2**12)
    low, high = task["interval"]
    assert low < -0.12 < high < 0
    said = capsys.readouterr().out
    for part in ("new against old", "88.00", "-12.00", "0.0005", "fail"):
        assert part in said


def test_significant_gain_passes() -> None:
    store("old", "gqa", right(100, 12))
    store("new", "gqa", right(100))
    assert gate() == 0
    assert verdict()["tasks"][0]["p"] < 0.05


def test_significant_gain_on_few_images_passes() -> None:
    store("old", "gqa", right(120, 60), questions_per_image=10)
    store("new", "gqa", right(120), questions_per_image=10)
    assert gate() == 0
    (task,) = verdict()["tasks"]
    assert (task["gained"], task["lost"]) == (60, 0)
    assert task["p"] == pytest.approx(2 / 2**6)


def test_gain_that_chance_explains_is_not_decided_by_it() -> None:
    store("old", "gqa", right(120, 40), questions_per_image=10)
    store("new", "gqa", right(120), questions_per_image=10)
    assert gate() == 3  # 4 images: p is 0.125


def test_unanswered_questions_are_the_remedy_before_all_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store("old", "gqa", right(40))
    store("new", "gqa", right(40, 2), num_answered=38, coverage=0.95)
    assert gate() == 3
    assert "First have the questions answered that have no answer." in capsys.readouterr().out


def test_drop_within_what_is_allowed_passes() -> None:
    store("old", "gqa", right(1000))
    store("new", "gqa", right(1000, 12))
    assert gate() == 1
    assert gate("max_drop=0.03") == 0
    assert gate("max_drop=0.015") == 3  # significant, and it may be larger than that
    assert gate("max_drop=0.005") == 1


def test_small_change_on_few_questions_cannot_be_decided(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store("old", "gqa", right(20))
    store("new", "gqa", right(20, 1))
    assert gate() == 3
    (task,) = verdict()["tasks"]
    assert task["verdict"] == "undecided"
    # 6 losses of 20 are significant, and 80% likely where so large a share is lost.
    assert task["detectable_difference"] == pytest.approx(0.36646, rel=1e-4)
    said = capsys.readouterr().out
    assert "undecided, because its 20 questions" in said
    assert "36.65 points with 80% power" in said


def test_small_change_on_many_questions_passes() -> None:
    store("old", "gqa", right(2000))
    store("new", "gqa", right(2000, 3))
    assert gate() == 0


def test_identical_answers_to_a_part_of_the_questions_prove_nothing_about_another_model() -> None:
    store("old", "gqa", right(300, 5))
    store("new", "gqa", right(300, 5)[:20], limited=True)
    assert gate() == 3
    store("same", "gqa", right(300, 5)[:20], limited=True, identity={"model": "old"})
    assert gate(candidate="same") == 0


@pytest.mark.parametrize(
    ("limit", "remedy"), [(20, "raise `limit`, or leave it out"), (None, "or join the shards")]
)
def test_limit_is_the_remedy_only_where_it_was_given(
    limit: int | None, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store("old", "gqa", right(300))
    store("new", "gqa", right(20), limited=True, limit=limit)
    assert gate() == 3
    said = capsys.readouterr().out
    assert remedy in said
    assert ("`limit`" in said) == (limit is not None)


def test_identical_answers_to_all_questions_pass_however_few(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store("old", "gqa", right(20, 5))
    store("new", "gqa", right(20, 5))
    assert gate() == 0
    page = Path("results/new/regress-old/verdict.md").read_text()
    for said in (capsys.readouterr().out, page):
        assert "gqa: no answer differs" in said


def test_other_answers_of_the_same_score_are_not_identical() -> None:
    store("old", "gqa", right(20, 5))
    store("new", "gqa", right(20, 5), answers=["something else"] * 20)
    assert gate() == 3


def test_many_questions_about_few_images_cannot_be_decided(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store("old", "gqa", right(1000, 5), questions_per_image=100)
    others = ["something else", *(f"answer {value}" for value in right(1000, 5)[1:])]
    store("new", "gqa", right(1000, 5), questions_per_image=100, answers=others)
    assert gate() == 3
    assert "its 1,000 questions in 10 groups (by image) leave a drop of" in capsys.readouterr().out


def test_questions_of_one_image_decide_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    store("old", "gqa", right(50), questions_per_image=50)
    store("new", "gqa", right(50, 20), questions_per_image=50)
    assert gate() == 3
    (task,) = verdict()["tasks"]
    assert (task["interval"], task["detectable_difference"]) == (None, None)
    assert "one image" in capsys.readouterr().out


def test_tasks_are_one_family() -> None:
    for task, lost in (("gqa", 6), ("pope", 0), ("textvqa", 0)):
        store("old", task, right(400))
        store("new", task, right(400, lost), answers=["a"] * 400)
    assert gate("max_drop=0.01") == 3
    adjusted = {task["task"]: task["p_adjusted"] for task in verdict()["tasks"]}
    assert adjusted["gqa"] == pytest.approx(3 * 2 / 2**6)
    assert gate("max_drop=0.01", "task=gqa") == 1
    assert [task["task"] for task in verdict()["tasks"]] == ["gqa"]


def test_detectable_drop_is_larger_where_tasks_share_alpha() -> None:
    for task in ("gqa", "pope"):
        store("old", task, right(20))
        store("new", task, right(20, 1))
    assert gate("task=gqa") == gate("task=gqa", "alpha=0.025", "output=half") == gate() == 3
    shared, half = verdict()["tasks"][0], verdict("half")["tasks"][0]
    assert shared["detectable_difference"] == pytest.approx(half["detectable_difference"])
    assert shared["detectable_difference"] > 2.9 * 0.05


def test_one_failing_task_fails_the_candidate_whatever_the_others() -> None:
    store("old", "gqa", right(100))
    store("new", "gqa", right(100, 30))
    store("old", "pope", right(20))
    store("new", "pope", right(20, 1))
    assert gate() == 1
    assert [task["verdict"] for task in verdict()["tasks"]] == ["fail", "undecided"]


def test_alpha_decides() -> None:
    store("old", "gqa", right(100))
    store("new", "gqa", right(100, 7))
    assert gate("alpha=0.05") == 1
    assert gate("alpha=0.01") == 3
