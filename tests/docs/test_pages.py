"""The pages for users: commands run or compose, links lead somewhere, figures are as measured.

Blocks marked `console` are run as they stand, and must print what the page shows (`...` stands for
any lines). Blocks marked `bash`, and commands within a text, need a checkpoint or data that are not
here: they are composed, so that an option that does not exist fails.
"""

from __future__ import annotations

import doctest
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from llava.template_choice import _NAME_RULES
from runners.command.names import COMMANDS, PROGRAMS
from tests.docs.composing import compose
from tests.runners.conftest import program_environment

CHECKOUT = Path(__file__).parents[2]
DOCS = CHECKOUT / "docs"
PAGES = [CHECKOUT / "README.md", *sorted(DOCS.glob("*.md"))]
VARIABLES = {
    "SLURM_ARRAY_TASK_ID": "2",
    "SLURM_ARRAY_TASK_COUNT": "4",
    "OUTPUT_DIR": "out/llava-v1.5-mine",
    "ARRAY_JOB": "7",
    "NAME": "mine",
    "CHECKPOINT": "out/llava-v1.5-mine",
}
OTHER_PROGRAMS = {"[", "cat", "cp", "echo", "exec", "hf", "ls", "mkdir", "sbatch", "srun"}
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`((?:python -m runners\.|llava-evals )[^`]+)`")


def blocks(page: Path, *languages: str) -> Iterator[str]:
    for language, content in _BLOCK.findall(page.read_text(encoding="utf-8")):
        if language in languages:
            yield content


def statements(script: str) -> Iterator[list[str]]:
    """The commands of a shell script as words, without comments and redirections."""
    script = re.sub(r"^\w+=\$\((.+?)\)", r"\1", script, flags=re.MULTILINE)  # NAME=$(command)
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("|&;>"):
                if words:
                    yield words
                words = []
            else:
                words.append(re.sub(r"\$\{?(\w+)\}?", lambda m: VARIABLES[m[1]], word))


def without_assignments(words: list[str]) -> list[str]:
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    return words


def has_own_test(page: Path, call: tuple[str, ...]) -> bool:
    """Whether a command is run by the test of its page, or is of the example that it builds."""
    programs = {"leaderboard": "leaderboard", "regression_gate": "regress", "report": "report"}
    own = programs.get(page.stem) in {word.removeprefix("runners.") for word in call}
    return own or page.stem == "sweeps" or "task=counting" in call


def commands() -> list[Any]:
    """Every call of a program of the project on any page, and what else is called."""
    found: dict[tuple[str, ...], Any] = {}
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        inline = [line for line in _INLINE.findall(text) if len(line.split()) > 3]
        inline = [line for line in inline if "..." not in line.split()]
        script = "\n".join([*blocks(page, "bash"), *inline])
        for words in statements(script):
            call = tuple(as_module(without_assignments(words)))
            if has_own_test(page, call):
                continue
            found.setdefault(call, pytest.param(list(call), id=f"{page.stem}-{len(found)}"))
    return list(found.values())


def as_module(words: list[str]) -> list[str]:
    """The command of a program as its module is started, for one way to look at both."""
    if words[:1] == ["llava-evals"] and words[1:2] and words[1] in PROGRAMS:
        return ["python", "-m", f"runners.{words[1]}", *words[2:]]
    return words


def check_other_program(words: list[str]) -> None:
    """What is no program of the project must at least be what it is called."""
    if words[0] == "make":
        targets = re.findall(r"^(\S+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets)
    elif words[:3] == ["python", "-m", "pytest"] or words[0] == "pytest":
        assert (CHECKOUT / words[-1]).exists() or "-m" in words
    elif words[:2] == ["python", "-m"]:
        assert find_spec(words[2]) is not None
    elif words[0] == "llava-evals":
        assert words[1] in COMMANDS or words[1] == "--version"
    elif words[:2] == ["pip", "install"]:
        project = (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
        section = project.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
        known = set(re.findall(r"^(\w+) = ", section, re.MULTILINE))
        for extras in re.findall(r"(?:llava-evals|\.)\[(.*)\]", " ".join(words)):
            assert set(extras.split(",")) <= known
    else:
        assert words[0] in OTHER_PROGRAMS or words[:2] == ["python", "-c"]


@pytest.mark.few_cases(8)
@pytest.mark.parametrize("words", commands())
def test_every_command_exists_with_its_options(words: list[str], in_empty_folder: Path) -> None:
    nested = [word for word in words if word.startswith("python -m ")]
    for line in nested:  # a command within a command, as for `sbatch --wrap`
        for inner in statements(line):
            compose(inner[2].removeprefix("runners."), inner[3:])
    start = words.index("python") if "python" in words else 0
    if words[start : start + 2] == ["python", "-m"] and words[start + 2].startswith("runners."):
        compose(words[start + 2].removeprefix("runners."), words[start + 3 :])
    elif not nested:
        check_other_program(words)


def options() -> list[str]:
    """Options with a value that a text names on their own, such as `engine.replay=off`."""
    found: dict[str, None] = {}
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for option in re.findall(r"`((?:[a-z_]+\.)+[a-z_]+=[^`\s]+)`", text):
            found.setdefault(option)
    return [option for option in found if not option.startswith("tasks.counting.")]


@pytest.mark.few_cases(4)
@pytest.mark.parametrize("option", options())
def test_every_option_in_a_text_exists(option: str, in_empty_folder: Path) -> None:
    group, task = option.split(".")[:2]
    words = [f"task={task if group == 'tasks' else 'gqa'}"]
    local = (CHECKOUT / "conf/runner/local.yaml").read_text(encoding="utf-8")
    if group == "runner" and f"\n{task.partition('=')[0]}:" not in local:
        words.append("runner=ray")
    if group == "hydra":
        words.append("hydra/launcher=submitit_slurm")
    if group == "judge":
        compose("score", [*words, "judge=openai", option])
    else:
        needed = ["tasks.custom.questions=Q"] if task == "custom" else []
        scorers = {"ignore_case": "exact", "tolerance": "numeric", "judge": "judge"}
        needed += [
            f"tasks.custom.scorer={scorers[name]}" for name in scorers if f".{name}=" in option
        ]
        compose("eval", ["model.path=out", *words, *needed, option])


def test_misspelt_option_on_a_page_would_be_noticed(in_empty_folder: Path) -> None:
    with pytest.raises(AssertionError):
        compose("eval", ["model=llava-v1.5-7b", "task=gqa", "limitt=3"])
    with pytest.raises(AssertionError):
        compose("eval", ["model=llava-v1.5-7b", "task=gqa", "tasks.gqa.data_dirr=X"])


def sessions() -> list[Path]:
    return [page for page in PAGES if next(blocks(page, "console"), None) is not None]


def steps(page: Path) -> list[tuple[str, list[str]]]:
    """The commands of a page's `console` blocks, each with the lines that it is to print."""
    found: list[tuple[str, list[str]]] = []
    for block in blocks(page, "console"):
        heredoc_end = None
        for line in block.splitlines():
            if heredoc_end is not None:
                command, shown = found[-1]
                found[-1] = (f"{command}\n{line}", shown)
                heredoc_end = None if line == heredoc_end else heredoc_end
            elif line.startswith("$ "):
                found.append((line[2:], []))
                match = re.search(r"<<'?(\w+)'?", line)
                heredoc_end = match[1] if match else None
            else:
                found[-1][1].append(line)
    return found


def run_session(page: Path, home: Path) -> list[str]:
    """Runs a page's commands one after the other in one shell; returns what each printed."""
    mark = "--- end of command ---"
    script = "".join(
        f"{{ {command}\n}} 2>stderr.txt; code=$?; [ $code = 0 ] || cat stderr.txt; rm stderr.txt\n"
        f"echo '{mark}'; (exit $code)\n"
        for command, _ in steps(page)
    )
    folder = home / "work"
    folder.mkdir(parents=True)
    environment = program_environment(home) | {"HOME": str(home)}
    del environment["XDG_CACHE_HOME"]
    finished = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    return finished.stdout.split(f"{mark}\n")[:-1]


@pytest.mark.slow
@pytest.mark.parametrize("page", sessions(), ids=lambda page: page.stem)
def test_shown_sessions_are_what_happens(page: Path, tmp_path: Path) -> None:
    printed = run_session(page, tmp_path)
    expected = steps(page)
    assert len(printed) == len(expected)
    for (command, shown), output in zip(expected, printed, strict=True):
        lines = "\n".join(line.rstrip() for line in output.splitlines()).strip()
        pattern = re.escape("\n".join(shown).strip()).replace(re.escape("..."), ".*")
        assert re.fullmatch(pattern, lines, re.DOTALL), f"{command}\n{lines}"


@pytest.mark.slow
def test_table_of_the_readme_is_what_the_demo_prints(tmp_path: Path) -> None:
    (block,) = (
        found
        for found in re.findall(r"```\n(.*?)```", PAGES[0].read_text(encoding="utf-8"), re.DOTALL)
        if found.startswith("llava-demo\n")
    )
    finished = subprocess.run(
        [sys.executable, "-m", "runners.eval"],
        cwd=tmp_path,
        env=program_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=250,
        check=True,
    )
    assert finished.stdout.startswith(block)


def links(page: Path) -> list[str]:
    found = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    return [link for link in found if not link.startswith(("http://", "https://"))]


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.replace(" ", "-") for title in kept}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        target, _, anchor = link.partition("#")
        path = page.parent / target if target else page
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


def test_every_page_is_in_the_index() -> None:
    assert {link for link in links(DOCS / "README.md") if link.endswith(".md")} >= {
        page.name for page in DOCS.glob("*.md") if page.name != "README.md"
    }


def test_every_picture_is_shown_on_a_page() -> None:
    shown = {Path(link).name for page in PAGES for link in links(page)}
    assert {path.name for path in (DOCS / "images").iterdir()} <= shown


def test_table_of_templates_is_that_of_the_rules() -> None:
    page = (DOCS / "evaluate_your_checkpoint.md").read_text(encoding="utf-8")
    table = page.partition("occurs as a word")[2]
    rows = re.findall(r"^\| (`.*) \| (?:`(\w+)`|none: .*) \|$", table, re.MULTILINE)
    patterns = [pattern for pattern, _ in _NAME_RULES]
    shown = [(each, name) for words, name in rows for each in re.findall(r"`([^`]+)`", words)]
    rules = [(each, name or None) for each, name in shown if each in patterns]
    assert rules == list(_NAME_RULES)


def test_every_proof_of_a_promise_is_there() -> None:
    page = (DOCS / "promises.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| **")]
    assert len(rows) > 10
    for row in rows:
        folder = CHECKOUT / "tests"
        for name in re.findall(r"`([\w/*]+\.py)`", row):
            place = CHECKOUT / "tests" if "/" in name else folder
            assert list(place.glob(name)), f"{name} of {row}"
            folder = (place / name).parent


def test_examples_on_the_page_of_differences_hold() -> None:
    results = doctest.testfile(str(DOCS / "differences.md"), module_relative=False)
    assert results.attempted > 10
    assert results.failed == 0


@pytest.mark.parametrize(
    ("page", "row"),
    [
        (DOCS / "packed_engine.md", r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \|$"),
        (CHECKOUT / "README.md", r"^\| `(\w+)` \| [\d.]+ \| ([\d.]+) \| ([\d.]+) \| all \d+.* \|$"),
    ],
    ids=["packed_engine", "README"],
)
def test_speeds_that_are_told_are_the_measured_ones(page: Path, row: str) -> None:
    rows = re.findall(row, page.read_text(encoding="utf-8"), re.MULTILINE)
    measured: dict[tuple[str, str], str] = {}
    for path in (CHECKOUT / "results/bench").glob("cpu-random-25m-*.json"):
        for result in json.loads(path.read_text())["results"]:
            assert result["answers_equal"] == 1
            place = result["workload"], result["engine"]
            measured[place] = f"{result['ratio_to_sequential']:.2f}"
    assert len(rows) == len(measured) / 3 == 4
    for workload, packed, batched in rows:
        assert (packed, batched) == (measured[workload, "packed"], measured[workload, "batched"])
