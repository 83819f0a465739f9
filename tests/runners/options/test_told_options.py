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
TOLD = re.compile(
    r"\b([Ss]et|[Uu]se|[Ww]ith|[Bb]y|[Aa]s|[Oo]f|[Oo]r) ([a-z_]+(?:\.[\w{}]+)*)=[\w\[{]"
)
TYPED = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()} | {
    field.name for schema in SCHEMAS.values() for field in fields(schema)
}

BENCHMARKS = sorted(path.stem for path in (ROOT / "conf/task").iterdir())


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


def options_of(task: str) -> set[str]:
    """Names of a benchmark's options; of those of all where a message fills in which one."""
    chosen = BENCHMARKS if task == "{}" else [task]
    specs = [spec for name in chosen if (spec := default_spec(name)) is not None]
    constructors = [find_benchmark(spec.target) for spec in specs]
    return {name for each in constructors for name in inspect.signature(each).parameters}


def can_be_typed(name: str) -> bool:
    first, _, rest = name.partition(".")
    if first == "tasks":
        task, _, option = rest.partition(".")
        return option in options_of(task) | {"OPTION"}  # which a message leaves open
    return first in TYPED


@pytest.mark.parametrize("text", ["Or set source=hub.", "set scorer=none.", "with answer=generate"])
def test_option_of_a_task_alone_cannot_be_typed(text: str) -> None:
    [name] = told(text)
    assert not can_be_typed(name)


@pytest.mark.parametrize("name", ["tasks.gqa.scorer", "tasks.nothing.data_dir", "tasks.{}.colour"])
def test_option_that_no_such_benchmark_has_cannot_be_typed(name: str) -> None:
    assert not can_be_typed(name)


def test_every_option_that_is_told_can_be_typed() -> None:
    found = {
        name: path.relative_to(ROOT)
        for path in MODULES
        for text in texts(ast.parse(path.read_text(encoding="utf-8")))
        for name in told(text)
    }
    assert {"tasks.custom.scorer", "data", "run", "overwrite"} <= set(found)
    assert {n: p for n, p in found.items() if not can_be_typed(n)} == {}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_option_of_a_benchmark_can_be_typed(name: str) -> None:
    spec = default_spec(name)
    if spec is not None:  # a suite has none
        options = inspect.signature(find_benchmark(spec.target)).parameters
        language = {"language"} if name == "mmbench" else set()  # its Chinese has its own name
        assert set(spec.options) == set(options) - language
