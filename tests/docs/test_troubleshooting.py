"""The page on messages: they are the programs' own, and no cause of a failure is left out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from evals.records import Cause
from runners.options import program
from runners.options.eval import EvalConfig
from tests.docs.composing import Composed

CHECKOUT = Path(__file__).parents[2]
PAGE = CHECKOUT / "docs" / "troubleshooting.md"
HYDRA_WORDS = {
    "Could not override '...'",
    "Key '...' not in 'EvalConfig'",
    "could not be converted to Integer",
}


def messages() -> list[str]:
    """Every text in the packages, with `{}` for what is filled in."""
    found = []
    for package in ("evals", "llava", "runners"):
        for path in (CHECKOUT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = [
                        str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values
                    ]
                    found.append("".join(parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return found


def test_messages_in_troubleshooting_are_the_programs() -> None:
    page = PAGE.read_text(encoding="utf-8")
    tables = page.partition("## Options")[2]
    shown = re.findall(r"(?:^\| |, )(`{2,3})(.+?)\1(?= \||, )", tables, re.MULTILINE)
    texts = "\n".join(messages())
    assert len(shown) > 50
    for _, words in shown:
        if words.strip() in HYDRA_WORDS:
            continue
        pattern = re.escape(words.strip()).replace(re.escape("..."), ".*")
        assert re.search(pattern, texts), words


def test_hydra_says_what_troubleshooting_quotes(
    in_empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["limitt=3"], ["limit=three"]):
        assert program.run("eval", Composed(EvalConfig), words) == 2
    said = capsys.readouterr().err
    for words in HYDRA_WORDS:
        assert re.search(re.escape(words).replace(re.escape("..."), ".*"), said)


def test_every_cause_of_a_failure_is_explained() -> None:
    page = PAGE.read_text(encoding="utf-8")
    explained = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(explained) == sorted(Cause)


def test_causes_are_named_nowhere_but_in_their_enumerations() -> None:
    named = [
        f"{path.relative_to(CHECKOUT)}: {cause}"
        for package in ("evals", "llava/generation", "runners")
        for path in (CHECKOUT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for cause in causes(node)
    ]
    assert named == []


def causes(node: ast.AST) -> set[str]:
    """The causes of failures that a statement or call names by their text."""
    given: list[ast.expr] = []
    if isinstance(node, ast.keyword) and node.arg == "cause":
        given = [node.value]
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
        names = [getattr(name, "id", "") for name in node.targets[0].elts]
        if names[0] == "cause" and isinstance(node.value, ast.Tuple):
            given = node.value.elts[:1]
    elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "cause":
        given = [node.value]
    elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "RequestError":
        given = node.args[:1]
    return {str(value.value) for value in given if isinstance(value, ast.Constant)}
