"""Ranked answers from the command to the tables, with the demo checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.runners.conftest import Finished, Shell, promised_bytes
from tests.runners.gated_runs import right, store
from tests.runners.views.gate.conftest import gate

OPTIONS = (
    "model=llava-demo task=scienceqa data=demo data.demo.num_images=2 runner.num_threads=1 "
    "device=cpu"
)
RANK = "tasks.scienceqa.answer=rank"


@pytest.fixture(scope="module")
def ranked(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A packed run of some twenty questions, in `results/packed`; tests leave it as it is."""
    workspace = tmp_path_factory.mktemp("ranked")
    finished = shell(f"python -m runners.eval {OPTIONS} {RANK} run=packed", workspace)
    assert finished.code == 0, finished.stderr
    return finished


@pytest.mark.slow
def test_letters_are_stored_and_scored(ranked: Finished) -> None:
    lines = ranked.lines("results/packed/scienceqa/predictions.jsonl")
    assert len(lines) > 10
    for line in lines:
        options = [text[0] for text in line["prompt"].split("\n") if text[1:3] == ". "]
        assert line["text"] in options
        assert line["metadata"]["finish_reason"] == "choice"
        assert line["metadata"]["num_new_tokens"] == 1
    assert len({line["text"] for line in lines}) > 2
    summary = ranked.json("results/packed/scienceqa/summary.json")
    assert summary["definition"] == "scienceqa_llava_rank/1"
    assert (summary["num_unparsed"], summary["coverage"]) == (0, 1.0)
    assert summary["metrics"]["accuracy"] > 0.8  # by chance it would be a third
    assert ranked.json("results/packed/scienceqa/manifest.json")["identity"]["answer"] == "rank"


@pytest.mark.slow
def test_sequential_engine_ends_in_the_same_bytes_after_an_interruption(
    ranked: Finished, shell: Shell
) -> None:
    command = f"python -m runners.eval {OPTIONS} {RANK} run=sequential engine=sequential"
    folder = ranked.workspace / "results/sequential/scienceqa"
    shutil.copytree(ranked.workspace / "results/packed/scienceqa", folder)
    for name in ("predictions.jsonl", "trace.jsonl"):  # as if it had ended after five answers
        kept = (folder / name).read_text().splitlines(keepends=True)[:5]
        (folder / name).write_text("".join(kept))
    finished = shell(command, ranked.workspace)
    assert finished.code == 0, finished.stderr
    expected = promised_bytes(ranked.workspace / "results/packed")
    assert promised_bytes(ranked.workspace / "results/sequential") == expected
    manifest = ranked.json("results/sequential/scienceqa/manifest.json")
    assert len(manifest["history"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "message"),
    [
        (f"runners.eval {OPTIONS} run=packed", '`answer` is "rank" there'),
        (
            f"runners.eval {OPTIONS} {RANK} run=other generation.temperature=0.5",
            "`generation.temperature` must be 0 where answers are ranked "
            "(tasks.scienceqa.answer=rank), but is 0.5",
        ),
        (
            f"runners.eval {OPTIONS} {RANK} run=other generation.num_beams=2",
            "`generation.num_beams` must be 1",
        ),
        (
            f"runners.eval {OPTIONS} {RANK} run=other generation.max_new_tokens=8",
            "`generation.max_new_tokens` must be 1",
        ),
        (
            "runners.score run=packed task=scienceqa tasks.scienceqa.answer=generate",
            "was answered with tasks.scienceqa.answer=rank, but is to be scored with generate",
        ),
    ],
)
def test_what_contradicts_ranking_is_refused(
    command: str, message: str, ranked: Finished, call: Shell
) -> None:
    before = promised_bytes(ranked.workspace / "results/packed")
    finished = call(f"python -m {command}", ranked.workspace)
    assert finished.code == 2
    assert message in finished.stderr
    assert promised_bytes(ranked.workspace / "results/packed") == before


def test_checkpoint_without_letters_is_refused_before_it_is_loaded(
    tiny_checkpoint: Path, call: Shell, tmp_path: Path
) -> None:
    options = OPTIONS.replace("model=llava-demo", f"model.path={tiny_checkpoint}")
    finished = call(f"python -m runners.eval {options} {RANK} run=tiny", tmp_path)
    assert finished.code == 2
    assert "cannot be ranked: behind its prompt in the conversation template" in finished.stderr
    assert not (tmp_path / "results/tiny/scienceqa/predictions.jsonl").exists()


@pytest.mark.slow
def test_dry_run_counts_one_token_an_answer(ranked: Finished, call: Shell) -> None:
    finished = call(f"python -m runners.eval {OPTIONS} {RANK} dry_run=true", ranked.workspace)
    assert finished.code == 0, finished.stderr
    assert "new tokens an answer, as assumed: scienceqa 1 (at most 1)\n" in finished.stdout


@pytest.mark.slow
def test_answers_are_scored_again_and_imported_as_ranked_ones(
    ranked: Finished, call: Shell
) -> None:
    again = call("python -m runners.score run=packed output=again", ranked.workspace)
    assert again.code == 0, again.stderr
    answers = "predictions=results/packed/scienceqa/predictions.jsonl"
    data = ranked.json("results/packed/scienceqa/manifest.json")["environment"]["task"]["data_dir"]
    imported = call(
        f"python -m runners.score task=scienceqa tasks.scienceqa.data_dir={data} "
        f"tasks.scienceqa.split=demo {RANK} {answers} run=imported",
        ranked.workspace,
    )
    assert imported.code == 0, imported.stderr
    summary = ranked.json("results/packed/scienceqa/summary.json")
    for path in ("again/scienceqa/summary.json", "results/imported/scienceqa/summary.json"):
        found = ranked.json(path)
        assert found["definition"] == summary["definition"]
        assert found["metrics"] == summary["metrics"]


def test_gate_does_not_compare_ranked_answers_with_generated_ones(
    capsys: pytest.CaptureFixture[str], in_own_folder: None
) -> None:
    store("old", "seedbench", right(30), definition="seedbench_letter/1")
    ranked = {"definition": "seedbench_letter_rank/1", "hashes": {"scorer": "t"}}
    store("new", "seedbench", right(30), **ranked)
    assert gate() == 2
    said = capsys.readouterr().err
    assert "(seedbench_letter/1 and seedbench_letter_rank/1). Ask both with the same" in said
