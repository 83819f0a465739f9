"""A benchmark as it is described, by `_target_` and plain values, before anything of it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from inspect import signature
from typing import TYPE_CHECKING, Any

from llava.errors import reason_of
from runners.errors import ConfigError
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
            ConfigError: there is no such benchmark, an option of it is wrong, or no folder can
                have its name.
        """
        return self._task

    @cached_property
    def _task(self) -> Benchmark:
        build = find_benchmark(self.target)
        try:
            task: Benchmark = build(**self.options)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{self.target} cannot be built from its options: {reason_of(error)}. Correct "
                "or remove that option."
            ) from error
        check_task_name(getattr(task, "name", None))
        for name, parameter in signature(build, eval_str=True).parameters.items():
            kind, value = parameter.annotation, self.options.get(name)
            if name in self.options and kind in (str, int) and type(value) is not kind:
                raise ConfigError(
                    f"`{name}` of {self.target} must be {kind.__name__}, but is {value!r}. Correct "
                    "or remove that option."
                )
        return task
