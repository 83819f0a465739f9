"""What `--help` prints: the choices of a program's groups and its options, from the schema.

Nothing is composed: the defaults are the schema's, or those of the choices that the command line
names.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from textwrap import fill
from typing import Any

from omegaconf import MISSING as MUST_BE_GIVEN
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runners.environment import called
from runners.errors import ConfigError
from runners.options.benchmark_options import OPTION_TEXTS, TYPES, describe_type
from runners.options.component import Component
from runners.options.conf_files import list_choices, read_choice, read_defaults, read_groups
from runners.options.engine import ENGINES
from runners.options.include import conf_folder
from runners.options.kinds import Kind
from runners.options.register import register
from runners.options.runner import RUNNERS
from runners.options.targets import find_benchmark

_WIDTH = 80
_MUST = "must be given; "
_KINDS = {
    Kind.PROSE: "text",
    Kind.IMAGES: "files or addresses, separated by commas",
    Kind.PATH: "path",
    Kind.PATHS: "path, or [paths]",
    Kind.CHECKPOINT: "folder, or owner/name of the hub",
    Kind.NAME: "name",
    Kind.NAMES: "name, or [names]",
    Kind.PARTS: "[names], or number",
}
_GROUPS = {
    "task": "Benchmarks, or suites of them; several as task=[gqa,pope].",
    "model": "Models of the zoo; a checkpoint of your own is model.path=DIR.",
    "quantization": "How the language model's weights are held.",
    "conversation": "Conversation templates; auto takes the checkpoint's.",
    "generation": "How answers are generated.",
    "engine": "How questions are computed: many at once, or one by one.",
    "runner": "Where workers run.",
    "data": "Where benchmarks lie: LLaVA's folders, the hub, or generated ones.",
    "judge": "Who grades the answers of judged benchmarks.",
    "experiment": "Evaluations that are described in a file.",
}
_COMPONENTS: Mapping[str, Sequence[type[Component]]] = {"engine": ENGINES, "runner": RUNNERS}
_ALLOWED = {
    **dict.fromkeys(("source", "split", "prompt_suffix"), "text"),
    "data_dir": "path",
    "max_new_tokens": "whole number",
}
_FOOTER = """\
Options are given as NAME=VALUE, lists as [A,B]. `-m` sweeps over values that
commas separate: -m model.path=A,B. HYDRA_FULL_ERROR=1 shows tracebacks."""


def render_help(program: str, schema: type, argv: Sequence[str] = ()) -> str:
    """Returns the help of a program, beside other words of a command line."""
    register()
    config: Any = OmegaConf.load(conf_folder() / f"{program}.yaml")
    inner = next((f.default_factory for f in fields(schema) if f.name == program), schema)
    groups = read_groups(program)
    chosen = {
        name: next((w.partition("=")[2] for w in argv if w.startswith(f"{name}=")), default)
        for name, default in groups.items()
    }
    module = f"runners.{program}"
    here = " ".join(called(module))
    blocks = [str(config.hydra.help.header).rstrip().replace(f"python -m {module}", here)]
    if groups:
        blocks.append("Choices, as NAME=CHOICE, with what is chosen by default:")
        blocks += [_group(name, default, argv) for name, default in groups.items()]
    options = list(_options(inner, groups, _chosen_values(chosen, argv)))
    if "task" in groups:
        named = _names_in(chosen["task"], argv) if _is_given("task", argv) else []
        options += _benchmarks(named, argv)
    return "\n\n".join([*blocks, "Options, with their defaults:", "\n".join(options), _FOOTER])


def _chosen_values(chosen: Mapping[str, str | None], argv: Sequence[str]) -> dict[str, object]:
    """The values in the files of the groups' choices, by whole name."""
    values: dict[str, object] = {}
    for group, name in chosen.items():
        found = None if name is None or group == "task" else read_choice(group, name, argv)
        plain: Any = {} if found is None else OmegaConf.to_container(found, resolve=False)
        values |= dict(_flat(plain, f"{group}."))
    return values


def _flat(values: Mapping[str, object], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _is_given(group: str, argv: Sequence[str]) -> bool:
    return any(word.startswith(f"{group}=") for word in argv)


def _group(name: str, default: str | None, argv: Sequence[str]) -> str:
    names = ", ".join(list_choices(name, argv))
    shown = "null" if default is None else default
    return "\n".join([f"  {name}={shown}", _indented(_GROUPS.get(name, "")), _indented(names)])


def _options(
    schema: Any, groups: Mapping[str, str | None], chosen: Mapping[str, object], prefix: str = ""
) -> Iterator[str]:
    """The options of a schema; those of an engine or of workers by which of them have them."""
    texts = describe_fields(schema)
    for each in fields(schema):
        name, inner = prefix + each.name, each.default_factory
        is_schema = isinstance(inner, type) and is_dataclass(inner)
        if is_schema and each.name in _COMPONENTS:
            yield from _component_options(each.name, chosen)
        elif is_schema:
            yield from _options(inner, groups, chosen, f"{name}.")
        elif name == "tasks" and "task" in groups:
            continue
        elif name == "data":
            for whole in [whole for whole in chosen if whole.startswith("data.")]:
                last = whole.rpartition(".")[2]
                kind = "path" if last == "root" else TYPES[type(chosen[whole]).__name__]
                yield _entry(whole, _shown(chosen[whole]), kind, OPTION_TEXTS[last])
        elif not each.name.startswith("_"):
            default = _shown(chosen[name]) if name in chosen else _default(each)
            allowed = allowed_values(each)
            if name in chosen:
                allowed = allowed.removeprefix(_MUST)
            yield _entry(name, default, allowed, texts.get(each.name, ""))


def _component_options(group: str, chosen: Mapping[str, object]) -> Iterator[str]:
    seen: dict[str, tuple[Field[Any], list[str]]] = {}
    texts: dict[str, str] = {}
    for kind in _COMPONENTS[group]:
        texts |= describe_fields(kind)
        for each in fields(kind):
            seen.setdefault(each.name, (each, []))[1].append(kind.choice)
    for name, (each, kinds) in seen.items():
        if name.startswith("_"):
            continue
        only = "" if len(kinds) == len(_COMPONENTS[group]) else f" (With {kinds[0]}.)"
        text = texts.get(name, "") + only
        whole = f"{group}.{name}"
        default = _shown(chosen[whole]) if whole in chosen else _default(each)
        yield _entry(whole, default, allowed_values(each), text)


def _benchmarks(named: Sequence[str], argv: Sequence[str]) -> Iterator[str]:
    """The options of the benchmarks that are named; those of most where none is."""
    if not named:
        for name in ("data_dir", "source", "split", "max_new_tokens", "prompt_suffix"):
            yield _entry(f"tasks.NAME.{name}", "...", _ALLOWED[name], OPTION_TEXTS[name])
        yield _indented("All of a benchmark: task=NAME --help.", by="  ")
    for task in named:
        options = read_choice("task", task, argv)
        if options is None or "_target_" not in options:
            continue
        try:
            constructor = find_benchmark(str(options["_target_"]))
        except ConfigError as error:
            yield _indented(f"tasks.{task}: {error}", by="  ")
            continue
        document = inspect.getdoc(constructor) or ""
        told = re.split(r"\n\s*(?:Args|Raises|Returns):", document)[0]
        yield _indented(" ".join(told.split()), by="  ")
        texts = OPTION_TEXTS | parse_section(document, "Args")
        for name, parameter in inspect.signature(constructor, eval_str=True).parameters.items():
            value = _configured(options, parameter)
            default = "..." if value is inspect.Parameter.empty else _shown(value)
            text = texts.get(name, "")
            must = _MUST if default == MUST_BE_GIVEN else ""
            default = default.replace(MUST_BE_GIVEN, "VALUE")
            allowed = must + describe_type(parameter.annotation)
            yield _entry(f"tasks.{task}.{name}", default, allowed, text)


def _configured(options: DictConfig, parameter: inspect.Parameter) -> Any:
    """What a benchmark's file gives an option; what cannot be resolved here as it is written."""
    written: Any = OmegaConf.to_container(options, resolve=False)
    if parameter.name not in written:
        return parameter.default
    try:
        rooted = OmegaConf.create({"data": {"root": "DATA.ROOT"}, "options": options})
        return rooted.options[parameter.name]
    except OmegaConfBaseException:
        return written[parameter.name]


def _names_in(value: str | None, argv: Sequence[str]) -> list[str]:
    """The benchmarks that `task=` names, those of suites one by one."""
    names = [name.strip() for name in (value or "").strip("[]").split(",") if name.strip()]
    known = list_choices("task", argv)
    found = [(name, read_defaults(known[name])) for name in names if name in known]
    return list(dict.fromkeys(each for name, inside in found for each in inside or [name]))


def _entry(name: str, default: str, allowed: str, text: str) -> str:
    head = f"{name}={default}".replace(" ", "\0")  # in one line, such that it can be copied
    first = fill(
        f"{head}  ({allowed})",
        _WIDTH,
        initial_indent="  ",
        subsequent_indent=" " * 6,
        break_on_hyphens=False,
        break_long_words=False,
    ).replace("\0", " ")
    return f"{first}\n{_indented(text)}" if text else first


def _indented(text: str, by: str = " " * 6) -> str:
    return fill(
        text,
        _WIDTH,
        initial_indent=by,
        subsequent_indent=by,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _default(field: Field[Any]) -> str:
    if field.default_factory is not MISSING:
        return _shown(field.default_factory())
    return "VALUE" if field.default == MUST_BE_GIVEN else _shown(field.default)


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(str, value))}]"
    if isinstance(value, dict):
        return "{}"
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    text = re.sub(r"\$\{package_dir:(\w+)\}", r"\1", str(value))
    # As bash takes line breaks; repr() of a text with `"` in it is in single quotes.
    return "$'" + repr(f'"{text}')[2:] if "\n" in text else text


def allowed_values(field: Field[Any]) -> str:
    """Returns in words what an option may be."""
    type_name = str(field.type).replace("'", "")
    null = ", or null" if "None" in type_name else ""
    must = _MUST if field.default == MUST_BE_GIVEN else ""
    metadata = field.metadata
    if "allowed" in metadata:
        return str(metadata["allowed"])
    if "choices" in metadata:
        return f"{must}{', '.join(metadata['choices'])}{null}"
    if "kind" in metadata:
        return f"{must}{_KINDS[metadata['kind']]}{null}"
    kind = type_name.partition(" |")[0]
    least = f" from {metadata['least']:g}" if "least" in metadata else ""
    return f"{must}{TYPES.get(kind, 'value, or [values]')}{least}{null}"


def describe_fields(schema: type) -> dict[str, str]:
    """Returns what the docstrings of a schema and of its bases say of each option."""
    texts: dict[str, str] = {}
    for kind in reversed(schema.__mro__):
        texts |= parse_section(inspect.cleandoc(kind.__doc__ or ""), "Attributes")
    return texts


def parse_section(document: str, title: str) -> dict[str, str]:
    r"""Returns the entries of a section of a docstring by name.

    >>> parse_section("One.\n\nArgs:\n    a: This\n        and that.\n    b: Else.", "Args")
    {'a': 'This and that.', 'b': 'Else.'}
    """
    _, _, section = f"\n{document}".partition(f"\n{title}:\n")
    texts: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if line and not line.startswith("    "):
            break
        if begin := re.fullmatch(r"    (\w+): (.*)", line):
            name, texts[begin[1]] = begin[1], begin[2]
        elif name:
            texts[name] = f"{texts[name]} {line.strip()}".strip()
    return texts
