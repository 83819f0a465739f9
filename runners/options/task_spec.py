"""A benchmark as it is described, by `_target_` and plain values, before anything of it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from inspect import signature
from typing import TYPE_CHECKING, Any

from evals.contract import describe_error
from evals.errors import DataError
from llava.errors import reason_of
from runners.errors import ConfigError
from runners.options.benchmark_options import describe_type, is_admitted
from runners.options.conf_files import read_choice
from runners.options.names import check_task_name
from runners.options.targets import find_benchmark

if TYPE_CHECKING:
    from evals.benchmark import Benchmark


# Without slots, which leave no place for what is built once.
@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """A benchmark, not yet built.

    Attributes:
        target: The benchmark's constructor, such as `evals.tasks.gqa.GQA`.
        options: What it is given: plain values, in which nothing is built and nothing is an
            interpolation.
    """

    target: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, content: object) -> TaskSpec:
        """Returns the benchmark that a mapping with `_target_` describes. It may be anyone's.

        Raises:
            ConfigError: it is no such mapping, or a value in it is a mapping again.
        """
        if not isinstance(content, Mapping) or not isinstance(content.get("_target_"), str):
            raise ConfigError(
                "A task must be a mapping with `_target_` and its options, but is "
                f"{content!r}. Name the constructor of a benchmark, such as evals.tasks.gqa.GQA."
            )
        options = {str(name): value for name, value in content.items() if name != "_target_"}
        nested = [name for name, value in options.items() if isinstance(value, Mapping)]
        if nested:
            raise ConfigError(
                f"`{nested[0]}` of a task must be a plain value, but is {options[nested[0]]!r}. "
                "Correct or remove that option."
            )
        return cls(target=content["_target_"], options=options)

    def to_json(self) -> dict[str, Any]:
        """Returns `_target_` plus the options, as a manifest keeps them."""
        return {"_target_": self.target, **self.options}

    def with_options(self, options: Mapping[str, Any]) -> TaskSpec:
        """Returns the same benchmark with other values of some options."""
        return TaskSpec(target=self.target, options={**self.options, **options})

    def build(self) -> Benchmark:
        """Returns the benchmark, the same one at every call; nothing is read yet.

        Raises:
            ConfigError: there is no such benchmark, an option of it is wrong, its constructor
                breaks, or no folder can have its name, or another benchmark has it.
        """
        return self._task

    @cached_property
    def _task(self) -> Benchmark:
        build = find_benchmark(self.target)
        try:
            signature(build).bind(**self.options)
        except TypeError as error:
            raise self._wrong_option(error) from error
        self._check_types(build)
        try:
            task: Benchmark = build(**self.options)
        except (DataError, KeyboardInterrupt):
            raise
        except ValueError as error:
            raise self._wrong_option(error) from error
        except BaseException as error:
            place = describe_error(error, self.target.rpartition(".")[0])
            raise ConfigError(
                f"{self.target} breaks while it is built: {place}. Correct the option that it "
                "cannot take, or mend the constructor."
            ) from error
        check_task_name(task.name)
        self._check_own_name(task.name)
        return task

    def _check_types(self, build: Callable[..., Any]) -> None:
        for name, parameter in signature(build, eval_str=True).parameters.items():
            value = self.options.get(name)
            if name in self.options and not is_admitted(value, parameter):
                raise ConfigError(
                    f"`{name}` of {self.target} may be {describe_type(parameter.annotation)}, but "
                    f"is {value!r}. Correct or remove that option."
                )

    def _wrong_option(self, error: Exception) -> ConfigError:
        return ConfigError(
            f"{self.target} cannot be built from its options: {reason_of(error)}. Correct or "
            "remove that option."
        )

    def _check_own_name(self, name: str) -> None:
        """Checks that no other benchmark is known by a name, whose figures these would seem."""
        known = read_choice("task", name)
        if known is not None and known.get("_target_") not in (None, self.target):
            raise ConfigError(
                f"{self.target} gives a benchmark the name {name!r}, but that is the one of "
                f"{known['_target_']}. Choose another name."
            )
