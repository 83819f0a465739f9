"""The gate from the command line: its options, exit codes, and runs of the other programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from runners.options import program
from runners.score import score
from tests.evals.small_data import put_lines
from tests.runners.conftest import CHECKOUT, Finished
from tests.runners.gated_runs import right, store
from tests.runners.views.gate.conftest import gate, verdict

GPT3 = CHECKOUT / "../shared/scoring/scienceqa/real_gpt3/answers.jsonl"
PROBLEMS = CHECKOUT / "../shared/data/scienceqa"


@pytest.mark.few_cases(4)
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["candidate=gone"], "`candidate` must be a run in results"),
        (["candidate=llava-v1.5-7b"], "runners.eval model=llava-v1.5-7b"),
        (["candidate=results/old/gqa"], "it names a run, not a task of it"),
        (["candidate="], "`candidate=`: It is empty"),
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


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("refused", ["candidate=other", "candidate=gone", "alpha=2", "baseline=x"])
def test_refusal_leaves_no_earlier_verdict(refused: str) -> None:
    store("old", "gqa", right(30))
    store("new", "gqa", right(30))
    store("other", "gqa", right(30), hashes={"prompts": "q"})
    assert gate("output=verdict") == 0
    assert sorted(path.name for path in Path("verdict").iterdir()) == [
        "junit.xml",
        "verdict.json",
        "verdict.md",
    ]
    assert gate("output=verdict", refused) == 2
    assert list(Path("verdict").iterdir()) == []


def test_wrong_option_leaves_no_earlier_verdict_beside_the_candidate() -> None:
    store("old", "gqa", right(30))
    store("new", "gqa", right(30))
    assert gate() == 0
    assert Path("results/new/regress-old/verdict.json").is_file()
    assert gate("alpha=2") == 2
    assert list(Path("results/new/regress-old").iterdir()) == []


def begun(run: str, **content: object) -> None:
    """Says in its manifest when a run began, or what it is an import of."""
    path = Path("results", run, "gqa/manifest.json")
    manifest = json.loads(path.read_text())
    manifest["identity"] |= content.pop("identity", {})  # type: ignore[arg-type]
    path.write_text(json.dumps(manifest | {"history": [content]}))


def test_run_held_against_itself_is_refused_unless_allowed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store("old", "gqa", right(30))
    Path("link").symlink_to("results/old")
    for candidate in ("old", "results/old", "link"):
        assert gate("output=out", baseline="old", candidate=candidate) == 2
        assert not Path("out/verdict.json").exists()
        said = capsys.readouterr().err
        for part in ("`candidate`", "`baseline`", "one run", "allow_same=true"):
            assert part in said
        assert gate("output=out", "allow_same=true", baseline="old", candidate=candidate) == 0


@pytest.mark.parametrize(
    ("begin", "content", "is_copy"),
    [
        (["2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"], {"model": "old"}, True),
        (["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"], {}, False),  # asked twice
        (["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"], {"imported": "a1"}, True),  # one file
    ],
)
def test_copies_of_a_run_are_told(
    begin: list[str], content: dict[str, str], is_copy: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    for run, started in zip(("old", "new"), begin, strict=True):
        store(run, "gqa", right(30))
        begun(run, started=started, identity=content)
    assert gate() == 0
    assert ("were given once, and copied" in capsys.readouterr().out) == is_copy


@pytest.mark.slow
@pytest.mark.skipif(not GPT3.parent.is_dir(), reason="the released answers are not here")
def test_imported_answer_files_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    from evals.reading.answers import read_answers

    answers = read_answers(GPT3).answers
    worse = [row | {"text": "none"} if n % 40 == 0 else row for n, row in enumerate(answers)]
    data = PROBLEMS / "problems_test_reconstructed.json.gz"
    Path("sqa").mkdir()
    Path("sqa/problems.json.gz").write_bytes(data.read_bytes())
    Path("sqa/pid_splits.json.gz").write_bytes((PROBLEMS / "pid_splits.json.gz").read_bytes())
    for run, lines in (("gpt3", answers), ("worse", worse)):
        put_lines(Path(f"{run}.jsonl"), lines)
        options = ["task=scienceqa", "tasks.scienceqa.data_dir=sqa"]
        program.run("score", score, [*options, f"predictions={run}.jsonl", f"run={run}"])
    assert gate("allow_same=true", baseline="gpt3", candidate="gpt3") == 0
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
            f"python -m runners.regress baseline=llava-demo candidate={candidate} allow_same=true",
            tmp_path,
        ).code
        for candidate in (
            "llava-demo",
            "llava-demo-early",
            "llava-demo-nf4-limit20",
            "asked-otherwise",
        )
    }
    assert list(codes.values()) == [0, 1, 3, 2]
    assert verdict("results/llava-demo-nf4-limit20/regress-llava-demo")["verdict"] == "undecided"
    assert not Path("results/asked-otherwise/regress-llava-demo").exists()


def test_verdict_that_cannot_be_written_is_no_failed_gate(
    call: Callable[[str, Path], Finished], tmp_path: Path
) -> None:
    good = tmp_path / "good.jsonl"
    questions = tmp_path / "q.jsonl"
    for path, field in ((good, "text"), (questions, "answer")):
        lines = [{"question_id": i, "text": f"Is it {i}?", field: "yes"} for i in range(9)]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = f"task=custom tasks.custom.questions={questions} tasks.custom.scorer=exact"
    imported = call(f"python -m runners.score {task} predictions={good} run=a", tmp_path)
    assert imported.code == 0, imported.stderr
    command = "python -m runners.regress baseline=a candidate=a allow_same=true"
    assert call(command, tmp_path).code == 0
    full = call(f"{command} output=/proc/gate", tmp_path)
    assert full.code == 2, full.stderr
    assert "verdict" in full.stderr
