"""A benchmark in a folder of one's own: what is said where its module is not as it has to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evals.small_data import put_lines
from tests.runners.conftest import Shell

MODULE = """
from evals.benchmark import Benchmark, each, rebuildable
from evals.figures.metrics import mean_figures
from evals.records import Sample


@rebuildable
def Shapes(*, data_dir: str, colour: str = "red"):
    return Benchmark(
        name="shapes",
        split="test",
        definition="shapes/1",
        primary_metric="accuracy",
        max_new_tokens=2,
        data_files=list,
        read=_read,
        judge=each(_judge),
        figures=lambda scores: mean_figures(scores, "accuracy"),
    )


def _read():
    return [
        Sample(key=str(n), question_id=n, text="How many?", prompt="How many?", target=str(n))
        for n in range(3)
    ]


def _judge(text, question):
    return float(text == question.target), text
"""
YAML = "# @package tasks.shapes\n_target_: included.shapes.Shapes\ndata_dir: .\n"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "mine/task").mkdir(parents=True)
    (tmp_path / "mine/task/shapes.yaml").write_text(YAML)
    put_lines(tmp_path / "answers.jsonl", [{"question_id": n, "text": str(n)} for n in range(3)])
    write(tmp_path)
    return tmp_path


def write(folder: Path, before: str = "", after: str = "") -> None:
    assert MODULE.count(before) == 1 or not before
    (folder / "mine/shapes.py").write_text(MODULE.replace(before, after) if before else MODULE)


def refused(call: Shell, own: Path, before: str, after: str, program: str = "score") -> str:
    write(own, before, after)
    options = " predictions=answers.jsonl output=out" if program == "score" else ""
    done = call(f"python -m runners.{program} include=mine task=shapes{options}", own)
    assert done.code == 2
    assert "this should not have happened" not in done.stderr
    return done.stderr + done.stdout


@pytest.mark.few_cases(3)
@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("float(text == question.target), text", "100.0, text", "gives the score 100.0 for"),
        ('(scores, "accuracy")', '(scores, "acc")', "but the primary metric is 'accuracy'"),
        (
            "each(_judge)",
            "_judge",
            "`judge` of included.shapes breaks: AttributeError: 'dict'",
        ),
        (
            "text == question",
            "text // question",
            "`judge` of included.shapes breaks at question 0: TypeError: unsup",
        ),
        (
            "target=str(n)",
            "target=1 // n",
            "`read` of included.shapes breaks: ZeroDivisionError",
        ),
        (
            "    return [",
            "    raise SystemExit(0)\n    return [",
            "`read` of included.shapes breaks: Sys",
        ),
        ("@rebuildable", "1 // 0", "shapes.py cannot be imported: ZeroDivisionError: integer"),
        ("@rebuildable", "raise SystemExit", "shapes.py cannot be imported: SystemExit: ("),
        (
            "return Benchmark(",
            "exit(0) or dict(",
            "breaks while it is built: SystemExit",
        ),
        ("max_new_tokens=2", "max_new_tokens='2'", "`max_new_tokens` must be a whole number from"),
        ("max_new_tokens=2", "max_new_token=2", "Shapes breaks while it is built: TypeError: "),
        ("    return Benchmark(", "    Benchmark(", "must return a `Benchmark`, but gives None"),
        ('name="shapes"', 'name="form"', "`tasks.shapes` is called 'form' by included.shapes.Sha"),
        ('name="shapes"', 'name="gqa"', "the name 'gqa', but that is the one of evals.tasks.gqa"),
    ],
)
def test_fault_of_a_module_is_bad_input_and_named(
    call: Shell, own: Path, before: str, after: str, said: str
) -> None:
    told = refused(call, own, before, after)
    assert said in told
    if "breaks" in said or "imported" in said:
        assert f"{own}/mine/shapes.py:" in told
    assert not (own / "out").exists()


def test_option_that_a_constructor_does_not_have_is_told_from_its_own_mistake(
    call: Shell, own: Path
) -> None:
    (own / "mine/task/shapes.yaml").write_text(YAML + "color: blue\n")
    assert "unexpected keyword argument 'color'. Correct or remove that option" in refused(
        call, own, "", ""
    )


def test_neighbour_is_imported_from_the_package(call: Shell, own: Path) -> None:
    (own / "mine/lines.py").write_text("TEXT = 'How many?'\n")
    told = refused(call, own, "\n\n@rebuildable", "from lines import TEXT\n\n@rebuildable")
    assert f"No module named 'lines' ({own}/mine/shapes.py:5)" in told
    assert "Import lines.py beside it as `included.lines`" in told
    write(own, "\n\n@rebuildable", "from included.lines import TEXT\n\n@rebuildable")
    assert call("python -m runners.doctor include=mine task=shapes", own).code == 0


def test_doctor_tries_one_answer(call: Shell, own: Path) -> None:
    told = refused(call, own, "float(text == question.target)", "text", "doctor")
    assert "WRONG   scoring: shapes test: `judge` of included.shapes gives the score '0'" in told


def test_doctor_looks_at_what_a_run_hashes(call: Shell, own: Path) -> None:
    told = refused(call, own, "data_files=list", "data_files=lambda: None", "doctor")
    assert "`data_files` of included.shapes gives None, but must give list[pathlib.Path]" in told


def test_files_are_not_all_there_where_one_is_missed(call: Shell, own: Path) -> None:
    """A release need not name every file that is read."""
    write(
        own,
        "def _read():\n",
        "def _read():\n    read_json(Path('questions.json'), 'the authors')\n",
    )
    module = (own / "mine/shapes.py").read_text()
    imports = "from pathlib import Path\nfrom evals.reading.files import read_json\n"
    imports += "from evals.reading.releases import Release\n"
    released = 'releases={"test": Release(num_questions=3)}, read=_read'
    (own / "mine/shapes.py").write_text(imports + module.replace("read=_read", released))
    shown = call("python -m runners.doctor include=mine task=shapes", own).stdout
    assert "MISSING questions: questions.json does not exist" in shown
    assert "files: all are there" not in shown
    (own / "questions.json").write_text("[]")
    shown = call("python -m runners.doctor include=mine task=shapes", own).stdout
    assert "files: all are there" in shown


def test_missing_judge_is_named(call: Shell, own: Path) -> None:
    write(own, "        judge=each(_judge),\n", "")
    for program, options in (("doctor", ""), ("score", " predictions=answers.jsonl output=out")):
        done = call(f"python -m runners.{program} include=mine task=shapes{options}", own)
        assert "shapes test has no `judge`, so that its answers cannot" in done.stderr + done.stdout


@pytest.mark.slow
def test_answers_stay_where_their_scoring_breaks(
    shell: Shell, own: Path, demo_options: str
) -> None:
    write(own, "float(text == question.target), text", "None")
    options = demo_options.replace("[gqa,vqav2]", "[shapes,gqa]").replace(
        " data=", " limit=3 data="
    )
    command = f"python -m runners.eval include=mine {options} run=own"
    broken = shell(command, own)
    assert broken.code == 2, broken.stderr
    assert "gives None at question 0, but must give a pair" in broken.stderr
    assert "All answers are stored: the same command scores them" in broken.stderr
    assert broken.json("results/own/gqa/summary.json")["num_answered"] == 3
    assert not (own / "results/own/shapes/summary.json").exists()
    write(own)
    mended = shell(command, own)
    assert mended.code == 0, mended.stderr
    assert "no model is loaded" in mended.stderr
    assert mended.json("results/own/shapes/summary.json")["num_answered"] == 3


IMAGES = """

class Drawn:
    refused = ""
    path = None

    def __init__(self, key):
        self.key = key

    def exists(self):
        return True

    def open(self):
        from PIL import Image

        return Image.new("RGB", (20, 20), "red")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("draw", "number", "said"),
    [
        ("Drawn(str(n))", 8, ""),
        ("type('Local', (Drawn,), {})(str(n))", 8, "cannot be passed on to it: PicklingError"),
        # so few that none is tried beforehand
        ("type('Local', (Drawn,), {})(str(n))", 3, "cannot be passed on to it: PicklingError"),
    ],
)
def test_images_may_be_of_a_class_of_its_own(
    shell: Shell, own: Path, demo_options: str, draw: str, number: int, said: str
) -> None:
    write(own, "range(3)", f"range({number})")
    module = own / "mine/shapes.py"
    with_images = module.read_text().replace("target=str(n))", f"target=str(n), images=({draw},))")
    module.write_text(with_images + IMAGES)
    options = demo_options.replace("[gqa,vqav2]", "shapes")
    finished = shell(f"python -m runners.eval include=mine {options} run=own", own)
    assert finished.code == (2 if said else 0), finished.stderr
    assert said in finished.stderr
    assert "should not have happened" not in finished.stderr
    assert "started again" not in finished.stderr
