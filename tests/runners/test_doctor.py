from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from runners import doctor
from runners.doctor import examine
from runners.options import program
from runners.options.task_spec import TaskSpec
from runners.scoring.data_check import State, check_data
from tests.evals.small_data import SMALL_DATA, put_image, put_json, put_lines, write_tsv
from tests.runners.conftest import CHECKOUT, Finished

SHARED = CHECKOUT / "../shared/data"


@pytest.fixture(autouse=True)
def in_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def small(name: str, *more: str) -> list[str]:
    """Options for a small data set of a benchmark."""
    SMALL_DATA[name].write(Path("data"))
    options = [f"tasks.{name}.{key}={value}" for key, value in SMALL_DATA[name].options.items()]
    return [f"task={name}", f"tasks.{name}.data_dir=data", *options, *more]


def section(shown: str, title: str) -> list[str]:
    """The lines about a benchmark."""
    [found] = [part for part in shown.strip().split("\n\n") if part.startswith(title)]
    return found.split("\n")[1:]


def states(shown: str, title: str) -> list[str]:
    return [line.split()[0] for line in section(shown, title) if line[2] != " "]


def test_machine_alone_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run("doctor", examine, []) == 0
    shown = "\n".join(section(capsys.readouterr().out, "machine"))
    for part in ("Python 3", "transformers", "torch 2", "memory", "disk for results", "cores"):
        assert part in shown


def test_machine_without_torch_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert program.run("doctor", examine, []) == 1
    assert "MISSING torch cannot be imported" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "bounds", "state"),
    [
        ("numpy", ">=2.0", State.GOOD),
        ("numpy", ">=2.0,<2.0.1", State.WRONG),
        ("torch", ">=2.8,<2.14", State.GOOD),  # also where a wheel says `+cpu`
        ("no-such-package", "", State.MISSING),
    ],
)
def test_installed_version_is_held_against_the_requirement(
    name: str, bounds: str, state: State
) -> None:
    finding = doctor._look_at_package(name, SpecifierSet(bounds))
    assert finding.state is state
    assert (f"pip install '{name}" in finding.text) is (state is State.WRONG)


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("name", SMALL_DATA)
def test_complete_data_are_well_but_for_their_number(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = small(name, "check_images=open")
    assert program.run("doctor", examine, argv) == 2  # a small set has not the published size
    title = name.removesuffix("_cn") + " " if name != "mmbench_cn" else "mmbench_cn "
    assert "WRONG" in states(capsys.readouterr().out, title)
    assert program.run("doctor", examine, [*argv, "check_counts=false"]) == 0
    found = states(capsys.readouterr().out, title)
    assert set(found) <= {"ok", "note"}


def test_published_numbers_are_recognized(capsys: pytest.CaptureFixture[str]) -> None:
    if not SHARED.is_dir():
        pytest.skip("the recorded data are not here")
    argv = ["task=pope", f"tasks.pope.data_dir={SHARED}/pope"]
    assert program.run("doctor", examine, argv) == 1  # no images
    shown = capsys.readouterr().out
    assert "8,910 questions, as published" in shown
    assert "500 of 500 are missing, to be had from http://images.cocodataset.org" in shown
    assert "and 490 more" in shown
    assert shown.count("COCO_val2014") == 10


def write_big_pope(num_random: int) -> None:
    for category in ("adversarial", "popular", "random"):
        count = num_random if category == "random" else 3000
        rows = [
            {"question_id": n, "image": f"{n % 500}.jpg", "text": f"Is {n} there?", "label": "no"}
            for n in range(1, count + 1)
        ]
        put_lines(Path(f"data/coco/coco_pope_{category}.json"), rows)


@pytest.mark.slow
def test_other_release_of_pope_is_recognized(capsys: pytest.CaptureFixture[str]) -> None:
    write_big_pope(3000)
    argv = ["task=pope", "tasks.pope.data_dir=data"]
    assert program.run("doctor", examine, argv) == 2
    assert "set tasks.pope.questions=9000" in capsys.readouterr().out
    assert program.run("doctor", examine, [*argv, "tasks.pope.questions=9000"]) == 1
    assert "9,000 questions, as published" in capsys.readouterr().out
    assert program.run("doctor", examine, [*argv, "check_counts=false"]) == 1
    assert "note    9,000 questions, but 8,910 are published" in capsys.readouterr().out


def test_other_release_of_mmbench_is_recognized(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"question": "q", "hint": "", "A": "a", "B": "b", "C": "", "D": "", "answer": "A"}
    more = {"category": "c", "image": "", "source": "", "l2-category": "l", "split": "dev"}
    rows = [{"index": n, **row, **more, "comment": ""} for n in range(4329)]
    write_tsv(Path("data/mmbench_dev_20230712.tsv"), rows)
    assert program.run("doctor", examine, ["task=mmbench", "tasks.mmbench.data_dir=data"]) == 2
    assert "later release" in capsys.readouterr().out


def test_missing_file_is_named_with_its_origin(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("textvqa", "mme", "ai2d", "docvqa")
    assert program.run("doctor", examine, [f"task=[{','.join(names)}]", "data.root=nowhere"]) == 1
    shown = capsys.readouterr().out
    assert [states(shown, name)[0] for name in names] == ["MISSING"] * 4
    [_, listed, table] = section(shown, "ai2d")
    assert (listed.split(), table.split()[0]) == (
        ["note", "files:", "1", "of", "1", "are", "not", "there"],
        "nowhere/ai2d/data/test-*.parquet:",
    )
    assert "nowhere/docvqa/val_v1.0_withQT.json" in shown
    assert "DocVQA/validation-*.parquet of https://" in shown
    for part in ("nowhere/textvqa/TextVQA_0.5.1_val.json", "to be had from", "eval.zip"):
        assert part in shown


def test_file_for_the_judge_is_missed_before_the_judge_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = small("llavabench", "check_counts=false")
    Path("data/context.jsonl").unlink()
    assert program.run("doctor", examine, argv) == 1
    assert "MISSING judging" in capsys.readouterr().out


def test_file_for_the_upload_is_missed(capsys: pytest.CaptureFixture[str]) -> None:
    question = {"question_id": 1, "image_id": 7, "question": "Is it?"}
    name = "v2_OpenEnded_mscoco_test-dev2015_questions.json"
    put_json(Path("data") / name, {"questions": [question]})
    put_image(Path("data/test2015/COCO_test2015_000000000007.jpg"), 1)
    argv = ["task=vqav2", "tasks.vqav2.data_dir=data", "check_counts=false"]
    assert program.run("doctor", examine, argv) == 1
    assert "MISSING upload" in capsys.readouterr().out


def test_malformed_file_is_wrong_rather_than_missing(capsys: pytest.CaptureFixture[str]) -> None:
    argv = small("vizwiz", "check_counts=false")
    Path("data/val.json").write_text('[{"image": ')
    assert program.run("doctor", examine, argv) == 2
    assert "data/val.json:1 is not JSON" in capsys.readouterr().out


def test_missing_and_broken_images_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    argv = small("seedbench", "check_counts=false")
    Path("data/SEED-Bench-image/77_88").unlink()
    Path("data/SEED-Bench-image/77_99").write_text("no image")
    assert program.run("doctor", examine, argv) == 1
    shown = capsys.readouterr().out
    assert "images: 1 of 3 are missing" in shown
    assert "77_88" in shown
    assert "77_99" not in shown
    assert program.run("doctor", examine, [*argv, "check_images=open"]) == 2
    shown = capsys.readouterr().out
    assert "images: 1 of 3 cannot be read" in shown
    assert "77_99" in shown


def test_own_questions_have_no_published_number(capsys: pytest.CaptureFixture[str]) -> None:
    put_lines(Path("q.jsonl"), [{"question_id": 1, "text": "a", "image": "a.png"}])
    put_image(Path("images/a.png"), 1)
    argv = ["task=custom", "tasks.custom.questions=q.jsonl", "tasks.custom.images=images"]
    assert program.run("doctor", examine, argv) == 0
    assert "1 questions, 1 images (no numbers are published)" in capsys.readouterr().out


def test_every_task_is_looked_at_whatever_is_wrong_with_the_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["task=llava-1.5", "data.root=nowhere"]
    assert program.run("doctor", examine, argv) == 1
    titles = [part.split("\n")[0] for part in capsys.readouterr().out.strip().split("\n\n")]
    assert len(titles) == 13


def test_findings_are_ordered_by_how_grave_they_are(tmp_path: Path) -> None:
    spec = {"_target_": "evals.tasks.pope.POPE", "data_dir": str(tmp_path / "none")}
    found = check_data(TaskSpec.from_json(spec), check_counts=True, open_images=False)
    assert max(finding.state for finding in found) is State.MISSING
    assert State.GOOD < State.NOTE < State.MISSING < State.WRONG


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["check_images=look"], "check_images"),
        (["task=gqq"], "There is no task gqq."),
        (["check_count=false"], "check_count"),
        (["task=vqav2", "tasks.vqav2.split=tets"], "split"),
    ],
)
def test_wrong_option_is_one_paragraph_that_names_it(
    argv: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.run("doctor", examine, argv) == 2
    said = capsys.readouterr().err
    assert named in said
    assert "Traceback" not in said


def test_help_explains_what_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run("doctor", examine, ["--help"]) == 0
    shown = capsys.readouterr().out
    for part in ("Exit codes", "check_images=open", "published", "llava-1.5", "scienceqa"):
        assert part in shown


@pytest.mark.slow
def test_demo_data_are_well_through_a_shell(
    shell: Callable[[str, Path], Finished], tmp_path: Path
) -> None:
    command = "python -m runners.doctor task=demo data.demo.num_images=1 check_images=open"
    finished = shell(command, tmp_path)
    assert finished.code == 0, finished.stderr
    assert "vqav2 demo" in finished.stdout
