"""What programs write beside answers: where it cannot be, they say which file and why."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from omegaconf import DictConfig

from runners.leaderboard import leaderboard
from runners.options import program
from runners.regress import regress
from runners.report import report
from runners.score import score
from runners.submit import submit
from tests.evals.small_data import put_json, put_lines
from tests.faults.storing import store_answers, write_questions
from tests.faults.unprivileged import run_unprivileged

PROGRAMS: dict[str, tuple[Callable[[DictConfig], int], str, str]] = {
    "leaderboard": (leaderboard, "formats=[md] output={}", "leaderboard.md"),
    "leaderboard as picture": (leaderboard, "formats=[png] output={}", "leaderboard.png"),
    "report": (report, "runs=[run] output={}/page.html", "page.html"),
    "score": (score, "run=run output={}", "custom/scores.jsonl"),
    "regress": (regress, "baseline=run candidate=run allow_same=true output={}", "verdict.md"),
    "submit": (submit, "task=vqav2 predictions=answers.jsonl output={}/up.json", "up.json"),
}
OUTPUTS = [(name, *PROGRAMS[name]) for name in PROGRAMS]


def run_program(name: str, job: Callable[[DictConfig], int], options: str, output: str) -> int:
    words = [*options.format(output).split(), *([] if name == "submit" else ["results_dir=."])]
    return program.run(job.__name__, job, words)


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, the current one, with a run and with answers that can be submitted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    write_questions(tmp_path)
    store_answers(tmp_path)
    asked = {"questions": [{"question_id": 1, "image_id": 7, "question": "Is it?"}]}
    for subtype in ("test2015", "test-dev2015"):
        name = f"v2_OpenEnded_mscoco_{subtype}_questions.json"
        put_json(tmp_path / "playground/data/eval/vqav2" / name, asked)
    put_lines(tmp_path / "answers.jsonl", [{"question_id": 1, "text": "yes"}])
    return tmp_path


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """While it is entered, the system takes no more of a file, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(("name", "job", "options", "file"), OUTPUTS, ids=PROGRAMS)
def test_output_that_finds_no_room_is_named_with_the_ways_out(
    name: str,
    job: Callable[[DictConfig], int],
    options: str,
    file: str,
    scored: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with files_of_at_most(8):
        code = run_program(name, job, options, str(scored / "out"))
    said = capsys.readouterr().err
    assert code == (2 if name == "regress" else 1), said  # where 1 would be a verdict
    for part in (f"{scored}/out/{file}", "File too large", "Make room there", "output"):
        assert part in said
    assert "Traceback" not in said
    assert [path for path in (scored / "out").rglob("*") if path.is_file()] == []
    assert run_program(name, job, options, str(scored / "out")) == 0 or name == "regress"


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(("name", "job", "options", "file"), OUTPUTS, ids=PROGRAMS)
def test_output_where_no_folder_can_be_is_bad_input(
    name: str,
    job: Callable[[DictConfig], int],
    options: str,
    file: str,
    scored: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_program(name, job, options, f"{scored}/questions.jsonl/out") == 2
    said = capsys.readouterr().err
    assert f"{scored}/questions.jsonl/out" in said
    assert "output" in said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("name", ["leaderboard", "report", "score"])
def test_output_that_may_not_be_written_is_bad_input(name: str, scored: Path) -> None:
    (scored / "out").mkdir()
    (scored / "out").chmod(0o555)
    _, options, file = PROGRAMS[name]
    words = ["-m", f"runners.{name}", *options.format("out").split(), "results_dir=."]
    refused = run_unprivileged(*words, workspace=scored)
    assert refused.code == 2, refused.stderr
    assert f"out/{file} cannot be written: Permission denied. Change its perm" in refused.stderr
    assert "\n\n" not in refused.stderr.strip()
