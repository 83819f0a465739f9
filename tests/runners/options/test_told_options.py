"""Options that messages tell people to set: each must be one that can be typed."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from runners.options.build import default_spec
from runners.options.register import SCHEMAS
from runners.options.targets import find_benchmark

ROOT = Path(__file__).parents[3]
MODULES = [path for room in ("evals", "llava", "runners") for path in (ROOT / room).rglob("*.py")]
TOLD = re.compile(r"\b([Ss]et|[Uu]se|[Ww]ith|[Bb]y|[Aa]s|[Oo]r) ([a-z_]+(?:\.[\w{}]+)*)=[\w\[{]")
TYPED = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()} | {
    field.name for schema in SCHEMAS.values() for field in fields(schema)
}


def texts(tree: ast.AST) -> Iterator[str]:
    """Every text in a module that is no part of another; what is filled in is `{}`."""
    inner = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values
            )
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner
        ):
            yield node.value


def told(text: str) -> list[str]:
    return [name for _, name in TOLD.findall(text)]


@pytest.mark.parametrize("text", ["Or set source=hub.", "set scorer=none.", "with answer=generate"])
def test_option_of_a_task_alone_cannot_be_typed(text: str) -> None:
    [name] = told(text)
    assert name.partition(".")[0] not in TYPED


def test_every_option_that_is_told_can_be_typed() -> None:
    found = {
        name: path.relative_to(ROOT)
        for path in MODULES
        for text in texts(ast.parse(path.read_text(encoding="utf-8")))
        for name in told(text)
    }
    assert {"tasks.custom.scorer", "data", "run", "overwrite"} <= set(found)
    assert {n: p for n, p in found.items() if n.partition(".")[0] not in TYPED} == {}


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "conf/task").iterdir()))
def test_every_option_of_a_benchmark_can_be_typed(name: str) -> None:
    spec = default_spec(name)
    if spec is not None:  # a suite has none
        options = inspect.signature(find_benchmark(spec.target)).parameters
        language = {"language"} if name == "mmbench" else set()  # its Chinese has its own name
        assert set(spec.options) == set(options) - language
