"""The figures of the house and their limits; `python -m tests.house` exits 1 if one is over.

A *room* is a folder directly in a package, with all that lies below it. The files directly in a
package are a room of their own; those of `runners` are two: the process (errors, environment, logs,
signals), which every other room may use, and the programs. An import counts wherever it stands.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

CHECKOUT = Path(__file__).parents[1]
PACKAGES = ("llava", "evals", "runners")

PROCESS = ("errors", "environment", "logs", "signals")
MAY_IMPORT = {
    "process": "",
    "options": "process",
    "workers": "options process",
    "storage": "options process",
    "scoring": "storage options process",
    "views": "scoring storage options process",
    "evaluation": "workers scoring storage options process",
    "lab": "evaluation workers scoring storage options process",
    "in_training": "evaluation workers scoring storage options process",
    "command": "storage options process",
    "view": "views scoring storage options process",
    "programs": "in_training views lab evaluation workers scoring storage options process",
}
"""Which other rooms of `runners` each of them may import."""

HEAVY = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")
HYDRA = ("hydra", "omegaconf")
FORBIDDEN = {
    "llava": ("evals", "runners", "conf", *HYDRA),
    "evals": ("llava", "runners", "conf", *HEAVY, *HYDRA),
    "runners.scoring": HEAVY,
    "runners.views": HEAVY,
}
"""What no module of a package or room may import."""

RUN_FILES = ("predictions.jsonl", "scores.jsonl", "summary.json", "manifest.json", "trace.jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A file of the product; `imports` are dotted names, of modules where the name is one."""

    path: Path
    text: str
    tree: ast.Module
    imports: tuple[str, ...]


def _is_module(name: str) -> bool:
    stem = CHECKOUT.joinpath(*name.split("."))
    return stem.with_suffix(".py").is_file() or (stem / "__init__.py").is_file()


def _imports(tree: ast.Module) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if _is_module(name) else node.module for name in names)


@cache
def modules() -> dict[str, Module]:
    """Every module of the packages by its dotted name."""
    found = {}
    for path in sorted(path for top in PACKAGES for path in CHECKOUT.glob(f"{top}/**/*.py")):
        parts = path.relative_to(CHECKOUT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        found[name] = Module(path=path, text=text, tree=tree, imports=tuple(_imports(tree)))
    return found


def inside(package: str) -> dict[str, Module]:
    """The modules of a package or room, itself included."""
    return {name: m for name, m in modules().items() if f"{name}.".startswith(f"{package}.")}


def room(name: str) -> str:
    """The room that a module stands in."""
    folders = modules()[name].path.relative_to(CHECKOUT).parts[:-1]
    if folders != ("runners",):
        return ".".join(folders[:2])
    return "runners.process" if name.rpartition(".")[2] in PROCESS else "runners.programs"


def files_in_runners() -> list[str]:
    """Every file directly in `runners`."""
    return sorted(path.name for path in (CHECKOUT / "runners").glob("*.py"))


def floors() -> list[str]:
    """The longest way down from room to room; rooms that import each other are one floor."""
    below: dict[str, set[str]] = defaultdict(set)
    for name, module in modules().items():
        below[room(name)] |= {room(other) for other in module.imports if other in modules()}
    for middle, lower in below.items():  # makes it all that a room reaches, not only directly
        for reached in below.values():
            reached.update(lower if middle in reached else ())

    @cache
    def way_down(start: str) -> list[str]:
        floor = {start, *(other for other in below[start] if start in below[other])}
        ways = (way_down(other) for other in sorted(below[start] - floor))
        return [" = ".join(sorted(floor)), *max(ways, key=len, default=[])]

    return max((way_down(start) for start in sorted(below)), key=len)


def upward_imports() -> list[str]:
    """Every import of a room above, and of what a package or room must do without."""
    found = []
    for name, module in inside("runners").items():
        own = room(name).split(".")[1]
        allowed = (own, *MAY_IMPORT[own].split())
        others = [other for other in module.imports if other in inside("runners")]
        found += [f"{name}: {o}" for o in others if room(o).split(".")[1] not in allowed]
    for package, forbidden in FORBIDDEN.items():
        for name, module in inside(package).items():
            found += [f"{name}: {o}" for o in module.imports if o.split(".")[0] in forbidden]
    return found


def untyped_lines() -> list[str]:
    """Every line of `runners` with a mapping from words to anything."""
    return [
        f"{module.path.relative_to(CHECKOUT)}:{number}"
        for module in inside("runners").values()
        for number, line in enumerate(module.text.splitlines(), 1)
        if "dict[str, Any]" in line or "Mapping[str, Any]" in line
    ]


def _names_and_strings(tree: ast.Module) -> Iterable[str]:
    """Names and strings of the code. A docstring is a statement of its own, and left out."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value
        elif isinstance(node, ast.alias):
            yield node.name
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def readers_of_runs() -> list[str]:
    """Modules outside `runners.storage` whose code can open a file of a run.

    That is: they use a constant of `runners.storage` that holds such a file's name, or a string
    that is such a name or path and nothing else. Docstrings and sentences (with blanks) are free.
    """
    constants = {
        target.id
        for module in inside("runners.storage").values()
        for node in module.tree.body
        if isinstance(node, ast.Assign) and getattr(node.value, "value", None) in RUN_FILES
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return [
        name
        for name in sorted(modules().keys() - inside("runners.storage").keys())
        if any(
            word in constants or (word.endswith(RUN_FILES) and " " not in word)
            for word in _names_and_strings(modules()[name].tree)
        )
    ]


def _task_lines() -> list[int]:
    tasks = inside("evals.tasks").items()
    return [len(m.text.splitlines()) for name, m in tasks if name != "evals.tasks"]


def duplicate_functions() -> list[str]:
    """Functions of `evals` with the code of another; one statement counts under one name only."""
    places = defaultdict(list)
    for name, module in inside("evals").items():
        for node in ast.walk(ast.parse(module.text)):  # a tree of its own, as it is changed
            if not isinstance(node, ast.FunctionDef):
                continue
            place, body = f"{name}.{node.name}", node.body[ast.get_docstring(node) is not None :]
            if [ast.unparse(statement) for statement in body] in ([], ["..."]):
                continue  # a protocol's method has no code
            node.body, node.name = body, node.name if len(body) == 1 else "any"
            places[ast.dump(node)].append(place)
    return [" = ".join(names) for names in places.values() if len(names) > 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure, how large it may be, and what makes it up where that is worth naming."""

    limit: int
    measure: Callable[[], float | list[str]]

    def value_and_findings(self) -> tuple[float, list[str]]:
        """Returns the figure now: of a list its length."""
        measured = self.measure()
        return (len(measured), measured) if isinstance(measured, list) else (measured, [])


FIGURES = {
    "files directly in runners": Figure(limit=17, measure=files_in_runners),
    "floors of rooms' imports": Figure(limit=8, measure=floors),
    "imports upward or forbidden": Figure(limit=0, measure=upward_imports),
    "lines with dict[str, Any] or Mapping[str, Any] in runners": Figure(
        limit=100, measure=untyped_lines
    ),
    "readers of a run's files outside runners.storage": Figure(limit=0, measure=readers_of_runs),
    "lines of a task module, median": Figure(limit=200, measure=lambda: median(_task_lines())),
    "lines of a task module, most": Figure(limit=260, measure=lambda: max(_task_lines())),
    "duplicate functions in evals": Figure(limit=0, measure=duplicate_functions),
    # Raised only where the product learns to do more: what it did before took less than 30,000.
    "lines of the product, without benchmarks": Figure(
        limit=44_950,
        measure=lambda: sum(
            len(m.text.splitlines())
            for name, m in modules().items()
            if not name.startswith("evals.tasks.")
        ),
    ),
}


def main() -> int:
    """Prints each figure beside its limit, and what is over; returns 1 if a figure is over."""
    code = 0
    for name, figure in FIGURES.items():
        value, findings = figure.value_and_findings()
        over = value > figure.limit
        print(f"{'OVER' if over else 'ok':4} {value:6g}  at most {figure.limit:6}  {name}")
        for finding in findings if over else ():
            print(f"       {finding}")
        code |= over
    return code


if __name__ == "__main__":
    sys.exit(main())
