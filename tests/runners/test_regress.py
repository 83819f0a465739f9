"""The gate on stored runs, from the command line to its files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from runners import cli
from runners.regress import regress
from runners.score import score
from tests.evals.small_data import put_lines
from tests.runners.conftest import CHECKOUT, Finished
from tests.runners.gated_runs import right, store

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
}
GPT3 = CHECKOUT / "../shared/scoring/scienceqa/real_gpt3/answers.jsonl"
PROBLEMS = CHECKOUT / "../shared/data/scienceqa"


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)


def gate(*options: str, baseline: str = "old", candidate: str = "new") -> int:
    return cli.run("regress", regress, [f"baseline={baseline}", f"candidate={candidate}", *options])


def verdict(folder: str = "results/new/regress-old") -> dict[str, Any]:
    return json.loads(Path(folder, "verdict.json").read_text())


def test_run_against_itself_passes() -> None:
    store("old", "gqa", right(40, 7), questions_per_image=4)
    store("old", "vqav2", [0.3, 0.6, 0.9, 1.0])
    assert gate(candidate="old") == 0
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
    assert set(found) == {"verdict", "tasks"}
    (task,) = found["tasks"]
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


def test_drop_within_what_is_allowed_passes() -> None:
    store("old", "gqa", right(1000))
    store("new", "gqa", right(1000, 12))
    assert gate() == 1
    assert gate("max_drop=0.03") == 0
    assert gate("max_drop=0.015") == 2  # significant, and it may be larger than that
    assert gate("max_drop=0.005") == 1


def test_small_change_on_few_questions_cannot_be_decided(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store("old", "gqa", right(20))
    store("new", "gqa", right(20, 1))
    assert gate() == 2
    (task,) = verdict()["tasks"]
    assert task["verdict"] == "undecided"
    assert task["detectable_difference"] == pytest.approx(2.80159 * 0.05, rel=1e-4)
    said = capsys.readouterr().out
    assert "undecided, because its 20 questions" in said
    assert "14.01 points with 80% power" in said


def test_small_change_on_many_questions_passes() -> None:
    store("old", "gqa", right(2000))
    store("new", "gqa", right(2000, 3))
    assert gate() == 0


def test_identical_answers_to_a_part_of_the_questions_prove_nothing_about_another_model() -> None:
    store("old", "gqa", right(300, 5))
    store("new", "gqa", right(300, 5)[:20], limited=True)
    assert gate() == 2
    store("same", "gqa", right(300, 5)[:20], limited=True, identity={"model": "old"})
    assert gate(candidate="same") == 0


def test_identical_answers_to_all_questions_pass_however_few() -> None:
    store("old", "gqa", right(20, 5))
    store("new", "gqa", right(20, 5))
    assert gate() == 0


def test_other_answers_of_the_same_score_are_not_identical() -> None:
    store("old", "gqa", right(20, 5))
    store("new", "gqa", right(20, 5), answers=["something else"] * 20)
    assert gate() == 2


def test_questions_of_one_image_decide_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    store("old", "gqa", right(50), questions_per_image=50)
    store("new", "gqa", right(50, 20), questions_per_image=50)
    assert gate() == 2
    (task,) = verdict()["tasks"]
    assert (task["interval"], task["detectable_difference"]) == (None, None)
    assert "one image" in capsys.readouterr().out


def test_tasks_are_one_family() -> None:
    for task, lost in (("gqa", 6), ("pope", 0), ("textvqa", 0)):
        store("old", task, right(400))
        store("new", task, right(400, lost), answers=["a"] * 400)
    assert gate("max_drop=0.01") == 2
    adjusted = {task["task"]: task["p_adjusted"] for task in verdict()["tasks"]}
    assert adjusted["gqa"] == pytest.approx(3 * 2 / 2**6)
    assert gate("max_drop=0.01", "task=gqa") == 1
    assert [task["task"] for task in verdict()["tasks"]] == ["gqa"]


def test_detectable_drop_is_larger_where_tasks_share_alpha() -> None:
    for task in ("gqa", "pope"):
        store("old", task, right(20))
        store("new", task, right(20, 1))
    assert gate("task=gqa") == gate("task=gqa", "alpha=0.025", "output=half") == gate() == 2
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
    assert gate("alpha=0.01") == 2


def test_limited_run_is_compared_on_its_questions(capsys: pytest.CaptureFixture[str]) -> None:
    store("old", "gqa", right(300))
    store("new", "gqa", right(100, 20), limited=True)
    assert gate() == 1
    (task,) = verdict()["tasks"]
    assert (task["baseline"], task["candidate"], task["lost"]) == (1.0, 0.8, 20)
    assert "compared on the 100 questions that both runs were asked" in capsys.readouterr().out


def test_tasks_of_one_run_alone_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    store("old", "gqa", right(30))
    store("old", "pope", right(30))
    store("new", "gqa", right(30))
    assert gate() == 0
    assert "pope is not compared: there are no answers to it in results/new" in (
        capsys.readouterr().out
    )
    assert gate("task=[gqa,pope]") == 2
    assert "pope is not compared" in capsys.readouterr().err


def test_what_the_figures_do_not_say_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {"metrics": {"f1": 0.7}, "primary_metric": "f1"}
    store("old", "pope", right(40), **metrics, identity={"conversation": "vicuna_v1"})
    store(
        "new",
        "pope",
        right(40),
        **metrics,
        num_answered=30,
        identity={"conversation": "llava_v1"},
    )
    assert gate() == 0
    page = Path("results/new/regress-old/verdict.md").read_text()
    for said in (capsys.readouterr().out, page):
        assert "the candidate answered 30 of 40 questions" in said
        assert "conversation (vicuna_v1, llava_v1)" in said
        assert "mean score of the questions, not its f1, which is 70.00" in said


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hashes": {"prompts": "q"}}, "put in other words"),
        ({"hashes": {"data": "e"}}, r"data differ \(questions.json; split test and test\)"),
        (
            {"hashes": {"scorer": "t"}, "definition": "exact/2"},
            r"other definitions \(exact/1 and exact/2\)",
        ),
        ({"metrics": {}}, "only the baseline has scores"),
        ({"judge": {"model": "gpt"}}, r"other definitions \(exact/1 and exact/1 by gpt\)"),
    ],
)
def test_runs_that_differ_in_more_than_answers_are_refused(
    changes: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store("old", "gqa", right(30))
    store("new", "gqa", right(30), **changes)
    assert gate() == 2
    error = capsys.readouterr().err
    assert error.startswith("results/new cannot be compared with results/old.")
    assert re.search(reason, error)
    assert not Path("results/new/regress-old").exists()


def test_all_reasons_come_in_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    for task in ("gqa", "pope"):
        store("old", task, right(30))
        store("new", task, right(30), hashes={"prompts": "q", "scorer": task})
    assert gate("task=[gqa,pope,mme]") == 2
    error = capsys.readouterr().err
    assert error.count("other words") == error.count("other definitions") == 2
    assert "mme is not compared" in error


def test_refusal_leaves_no_earlier_verdict() -> None:
    store("old", "gqa", right(30))
    store("new", "gqa", right(30))
    store("other", "gqa", right(30), hashes={"prompts": "q"})
    assert gate("output=verdict") == 0
    assert sorted(path.name for path in Path("verdict").iterdir()) == [
        "junit.xml",
        "verdict.json",
        "verdict.md",
    ]
    assert gate("output=verdict", candidate="other") == 2
    assert list(Path("verdict").iterdir()) == []


def test_other_images_for_the_same_questions_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store("old", "gqa", right(30))
    store("new", "gqa", right(30), questions_per_image=3)
    assert gate() == 2
    assert "about other images" in capsys.readouterr().err


def test_replies_of_one_judge_are_no_other_definition() -> None:
    for run in ("old", "new"):
        judge = {"model": "gpt", "prompt_sha256": "p", "replies_sha256": [run]}
        store(run, "mmvet", right(30), judge=judge, hashes={"scorer": run})
    assert gate() == 0


def test_tasks_without_scores_are_no_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    store("old", "vqav2", right(30), metrics={})
    store("new", "vqav2", right(30), metrics={})
    assert gate() == 2
    assert "neither run has scores" in capsys.readouterr().err


def spoil_summary(folder: Path) -> None:
    (folder / "summary.json").unlink()


def spoil_answers(folder: Path) -> None:
    put_lines(folder / "predictions.jsonl", [{"text": "later"}])


def spoil_length(folder: Path) -> None:
    lines = (folder / "scores.jsonl").read_text().splitlines(keepends=True)
    (folder / "scores.jsonl").write_text("".join(lines[1:]))


def spoil_line(folder: Path) -> None:
    lines = (folder / "scores.jsonl").read_text().splitlines(keepends=True)
    (folder / "scores.jsonl").write_text("".join(['{"key": "0", "score": 7}\n', *lines[1:]]))


def spoil_keys(folder: Path) -> None:
    lines = (folder / "scores.jsonl").read_text().splitlines(keepends=True)
    (folder / "scores.jsonl").write_text("".join([lines[1], *lines[1:]]))


def spoil_hashes(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"hashes": {}}))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_summary, "no complete run: summary.json is missing"),
        (spoil_answers, "has changed since it was scored"),
        (spoil_length, "must have 30 lines"),
        (spoil_line, "scores.jsonl:1 must have a `score` in 0..1"),
        (spoil_keys, "scores.jsonl:2 repeats the key '1'"),
        (spoil_hashes, "lacks the field `answers`"),
    ],
)
def test_unfinished_or_spoilt_runs_are_refused(
    spoil: Callable[[Path], None], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store("old", "gqa", right(30))
    spoil(store("new", "gqa", right(30)))
    assert gate() == 2
    assert reason in capsys.readouterr().err


def test_scores_are_enough(tmp_path: Path) -> None:
    store("old", "gqa", right(30))
    (store("new", "gqa", right(30)) / "predictions.jsonl").unlink()
    assert gate() == 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["candidate=gone"], "`candidate` must be a run in results"),
        (["candidate=llava-v1.5-7b"], "runners.eval model=llava-v1.5-7b"),
        (["candidate=results/old/gqa"], "it names a run, not a task of it"),
        (["candidate="], "`candidate` must be a run"),
        (["alpha=0"], "`alpha`"),
        (["max_drop=1"], "0.01 is one point"),
        (["seed=-1"], "`seed`"),
        (["output=results/old/gqa/summary.json"], "must name a folder"),
        (["alhpa=0.1"], "alhpa"),
        (["task=custom"], "custom is not compared"),
    ],
)
def test_bad_options_are_refused(
    options: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store("old", "gqa", right(30))
    assert gate(*options, candidate="old") == 2
    assert reason in capsys.readouterr().err


def test_runs_are_found_by_their_folders(tmp_path: Path) -> None:
    store("old", "gqa", right(30))
    store("new", "gqa", right(30))
    Path("results/new").rename("a=b, c")
    folder = str(tmp_path / "a=b, c")
    assert gate(baseline="results/old", candidate=folder) == 0
    assert verdict(f"{folder}/regress-old")["verdict"] == "pass"


def test_files_for_people_and_for_continuous_integration() -> None:
    for task, lost in (("gqa", 30), ("mme", 1), ("pope", 0)):
        store("old", task, right(60))
        store("new", task, right(60, lost))
    assert gate("output=out/deep") == 1
    suites = ElementTree.parse("out/deep/junit.xml").getroot()
    (suite,) = suites
    assert [suite.get(name) for name in ("tests", "failures", "errors")] == ["3", "1", "1"]
    found = {case.get("name"): [child.tag for child in case] for case in suite}
    assert found == {"gqa": ["failure"], "mme": ["error"], "pope": ["system-out"]}
    message = suite[0][0].get("message")
    assert message.startswith("gqa: 100.00 to 50.00 (-50.00 points")
    page = Path("out/deep/verdict.md").read_text()
    assert page.startswith("# new against old\n\n**Fail: a significant drop (gqa)**\n\n| task |")
    assert "| gqa | 60 | 100.00 | 50.00 | -50.00 |" in page
    assert "- mme: undecided, because its 60 questions" in page


@pytest.mark.slow
@pytest.mark.skipif(not GPT3.parent.is_dir(), reason="the released answers are not here")
def test_imported_answer_files_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    from evals.answers import read_answers

    answers = read_answers(GPT3).answers
    worse = [row | {"text": "none"} if n % 40 == 0 else row for n, row in enumerate(answers)]
    data = PROBLEMS / "problems_test_reconstructed.json.gz"
    Path("sqa").mkdir()
    Path("sqa/problems.json.gz").write_bytes(data.read_bytes())
    Path("sqa/pid_splits.json.gz").write_bytes((PROBLEMS / "pid_splits.json.gz").read_bytes())
    for run, lines in (("gpt3", answers), ("worse", worse)):
        put_lines(Path(f"{run}.jsonl"), lines)
        options = ["task=scienceqa", "tasks.scienceqa.data_dir=sqa"]
        cli.run("score", score, [*options, f"predictions={run}.jsonl", f"run={run}"])
    assert gate(baseline="gpt3", candidate="gpt3") == 0
    assert gate(baseline="gpt3", candidate="worse") == 1
    assert "not known in which words the candidate was asked" in capsys.readouterr().out
    (task,) = verdict("results/worse/regress-gpt3")["tasks"]
    assert task["baseline"] == pytest.approx(3061 / 4241)
    assert task["gained"] == 0


@pytest.mark.slow
def test_demo_checkpoints_from_answers_to_verdicts(
    shell: Callable[[str, Path], Finished], tmp_path: Path
) -> None:
    evaluate = "python -m runners.eval runner.num_threads=1"
    for options in (
        "",
        "model=llava-demo-early",
        "quantization=nf4 limit=20",
        "run=asked-otherwise tasks.gqa.prompt_suffix=' Briefly.'",
    ):
        assert shell(f"{evaluate} {options}", tmp_path).code == 0
    codes = {
        candidate: shell(
            f"python -m runners.regress baseline=llava-demo candidate={candidate}", tmp_path
        ).code
        for candidate in (
            "llava-demo",
            "llava-demo-early",
            "llava-demo-nf4-limit20",
            "asked-otherwise",
        )
    }
    assert list(codes.values()) == [0, 1, 2, 2]
    assert verdict("results/llava-demo-nf4-limit20/regress-llava-demo")["verdict"] == "undecided"
    assert not Path("results/asked-otherwise/regress-llava-demo").exists()


def test_verdict_that_cannot_be_written_is_no_failed_gate(
    shell: Callable[[str, Path], Finished], tmp_path: Path
) -> None:
    good = tmp_path / "good.jsonl"
    questions = tmp_path / "q.jsonl"
    for path, field in ((good, "text"), (questions, "answer")):
        lines = [{"question_id": i, "text": f"Is it {i}?", field: "yes"} for i in range(9)]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = f"task=custom tasks.custom.questions={questions} tasks.custom.scorer=exact"
    imported = shell(f"python -m runners.score {task} predictions={good} run=a", tmp_path)
    assert imported.code == 0, imported.stderr
    command = "python -m runners.regress baseline=a candidate=a"
    assert shell(command, tmp_path).code == 0
    full = shell(f"{command} output=/proc/gate", tmp_path)
    assert full.code == 2, full.stderr
    assert "verdict" in full.stderr
