"""What a benchmark's functions have to give, checked before it counts, and where they break."""

from __future__ import annotations

import math
import traceback
from collections import abc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, replace
from functools import cache
from inspect import formatannotation
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from evals.errors import DataError
from evals.figures.metrics import mean_score
from evals.records import IN_RESULTS, LARGEST_FIGURE, SHARE, Aggregate, Sample, Score

_ROUNDING = 1e-9
_NOT_THE_MEAN = 1e-6
_SHOWN = 300
_WANTED = {str: "a text", int: "a whole number from 1", bool: "True or False"}
kinds_of: Callable[[Any], Mapping[str, Any]] = cache(get_type_hints)
_IDS, _TEXTS = {int, str}, {str, NoneType}
_OURS = ("evals.", "llava.", "runners.")
PASSED = (DataError, KeyboardInterrupt, MemoryError, PermissionError)
"""What is no fault of a function: the message says what to do, or the programs do."""
_ONE_BY_ONE = "A function that looks at one answer is given as judge=each(..)."


class BenchmarkError(DataError):
    """A function of a benchmark breaks, or gives what is no figure; the message names all of it."""


class AtQuestionError(Exception):
    """A judge broke at a question, or gave there what is no judgment."""

    def __init__(self, question_id: str | int, broken: object) -> None:
        super().__init__(question_id, broken)
        self.question_id = question_id
        self.broken = broken


@dataclass(frozen=True, slots=True)
class Contract:
    """What is said of a benchmark's functions where they do not keep to it.

    Attributes:
        title: Task and split.
        module: The module of the constructor; empty where nobody knows.
    """

    title: str
    module: str

    @contextmanager
    def running(self, function: str) -> Iterator[None]:
        """While it is entered, what breaks is the fault of the function of that name.

        One that ends the program breaks too: it would seem to have done all.

        Raises:
            BenchmarkError: it broke.
        """
        try:
            yield
        except PASSED:
            raise
        except BaseException as error:
            question, hint = "", ""
            cause: object = error
            if isinstance(error, AtQuestionError):
                question, cause = f" at question {error.question_id!r}", error.broken
            if not isinstance(cause, BaseException):
                wanted = "but must give a pair: the score, and the answer as it was compared"
                said = f"gives {_shown(cause)}{question}, {wanted}"
                raise self._broken(function, said) from None
            if function == "judge" and isinstance(error, (AttributeError, TypeError)):
                hint = f". {_ONE_BY_ONE}"
            raise self._broken(
                function, f"breaks{question}: {describe_error(cause, self.module)}{hint}"
            ) from error

    def call(self, function: str, kind: Any, given: Callable[..., Any], *values: Any) -> Any:
        """What a function gives, if it is of that type; for a list also what can be made one.

        Raises:
            BenchmarkError: it breaks, or gives something else.
        """
        with self.running(function):
            result = given(*values)
            is_list = get_origin(kind) is list and isinstance(result, Iterable)
            if is_list and not isinstance(result, str):
                result = list(result)
            if not is_kind(result, kind):
                items = result if is_list and isinstance(result, list) else []
                wrong = [one for one in items if not is_kind(one, get_args(kind)[0])][:1] or result
                wanted = f"but must give {formatannotation(kind)}"
                raise self._broken(function, f"gives {_shown(wrong)}, {wanted}")
        return result

    def check_values(self, holder: Any, place: str = "") -> None:
        """Checks the values of a benchmark, or of its part at a place, by what their class says.

        Raises:
            BenchmarkError: one is of another type, or nothing although it must be given.
        """
        for each in fields(holder):
            value, kind = getattr(holder, each.name), kinds_of(type(holder))[each.name]
            is_needed = each.default is MISSING and kind is str and each.name != "prompt"
            if not is_kind(value, kind) or (is_needed and not value) or (kind is int and value < 1):
                wanted = _WANTED.get(kind, each.type) + (" that is not empty" if is_needed else "")
                raise BenchmarkError(
                    f"{self.title}: `{place}{each.name}` must be {wanted}, but is {_shown(value)}. "
                    "Mend it."
                )

    def check_samples(self, function: str, samples: Iterable[Sample]) -> None:
        """Checks the questions that a function gave, quickly: there may be half a million.

        Raises:
            BenchmarkError: a value of one is of another type.
        """
        images = set[type]()  # the types that were looked at
        for one in samples:
            texts = type(one.key) is type(one.text) is type(one.prompt) is type(one.cluster) is str
            plain = texts and type(one.question_id) in _IDS and not (one.aliases or one.choices)
            if plain and type(one.groups) is dict and type(one.images) is tuple:
                held = _TEXTS.issuperset(map(type, one.groups.values()))
                if held and images.issuperset(map(type, one.images)):
                    continue
            for name, kind in kinds_of(Sample).items():
                if not is_kind(value := getattr(one, name), kind):
                    said = f"gives question {one.question_id!r} the {name} {_shown(value)}, but it"
                    raise self._broken(function, f"{said} must be {formatannotation(kind)}")
            images.update(map(type, one.images))

    def check_scores(self, scores: list[Score], given: Mapping[str, Any]) -> list[Score]:
        """The scores that `judge` gave, if each can be one.

        `given` are the answers by key. What rounding has put outside of 0 to 1 is put back.

        Raises:
            BenchmarkError: a value is no number from 0 to 1, an answer has no judgment, or a score
                cannot be written.
        """
        if not isinstance(scores, list) or not all(isinstance(one, Score) for one in scores):
            raise self._broken(
                "judge",
                f"gives {_shown(scores)}, but must give a list of `Score`. {_ONE_BY_ONE}",
            )
        for score in scores:
            value, answer = score.value, score.answer
            if not isinstance(value, float) or not -_ROUNDING <= value <= 1 + _ROUNDING:
                problem = f"the score {_shown(value)}", "a score is a float from 0 to 1"
            elif not score.answered and score.failure is None and score.key in given:
                problem = "no judgment", "every answer must have one"
            elif not (answer is None or isinstance(answer, str)):
                problem = f"the answer {_shown(answer)}", "an answer is a text, or None if unread"
            elif not IN_RESULTS.isdisjoint(score.groups):
                taken = min(IN_RESULTS.intersection(score.groups))
                problem = f"the group {taken!r}", "results hold that field anyway; rename it"
            else:
                continue
            raise self._broken(
                "judge", f"gives {problem[0]} for question {score.question_id!r}, but {problem[1]}"
            )
        return [
            one if 0 <= one.value <= 1 else replace(one, value=float(round(one.value)))
            for one in scores
        ]

    def check_figures(
        self, figures: Aggregate, scores: Sequence[Score], primary: str, *, primary_is_mean: bool
    ) -> Aggregate:
        """The figures over some scores, if each can be one.

        Raises:
            BenchmarkError: the primary metric is not among them or no plain mean, though it is to
                be, or a figure is no number, or lies outside of its scale.
        """
        if not isinstance(figures, Aggregate):
            raise self._broken("figures", f"gives {_shown(figures)}, but must give an `Aggregate`")
        if primary not in figures.metrics:
            raise self._broken(
                "figures",
                f"gives the metrics {', '.join(figures.metrics) or 'none'}, but the primary metric "
                f"is {primary!r}; `primary_metric` must be one of them",
            )
        for name, value in figures.metrics.items():
            self._check_figure(name, value, figures, "")
        for field, table in figures.breakdowns.items():
            for group, row in table.items():
                for name, value in row.items():
                    if name != "num_questions":
                        self._check_figure(name, value, figures, f" of {field} {group!r}")
        value = figures.metrics[primary] if primary_is_mean else None
        mean = mean_score(scores)
        if value is not None and mean is not None and abs(value - mean) > _NOT_THE_MEAN:
            raise self._broken(
                "figures",
                f"gives {primary} = {value:.8g}, but the mean of the scores is {mean:.8g}. "
                "With `primary_is_mean=False` the benchmark says that they differ, and gets the "
                "interval of such a figure; a mean is not rounded",
            )
        return figures

    def _check_figure(self, name: str, value: object, figures: Aggregate, where: str) -> None:
        if value is None:
            return
        largest = figures.scales.get(name, SHARE).largest
        limit = math.inf if largest is None else largest * (1 + _ROUNDING)
        number = value if isinstance(value, (int, float)) and math.isfinite(value) else None
        if number is not None and -_ROUNDING <= number <= limit and number < LARGEST_FIGURE:
            return
        scale = f", below {LARGEST_FIGURE:,.0f}" if largest is None else f" to {largest:g}"
        way = (
            ""
            if name in figures.scales or number is None
            else f"; what is no share of 1 needs Aggregate(scales={{{name!r}: Scale(..)}})"
        )
        raise self._broken(
            "figures",
            f"gives {name} = {_shown(value)}{where}, but it must be a number from 0{scale}, or "
            f"None where there is none{way}",
        )

    def _broken(self, function: str, said: str) -> BenchmarkError:
        of = f" of {self.module}" if self.module else ""
        return BenchmarkError(f"{self.title}: `{function}`{of} {said.rstrip('.')}. Mend it.")


def is_kind(value: Any, kind: Any) -> bool:
    """Whether a value is of a type, and so is what it holds.

    >>> is_kind({"val": 5}, Mapping[str, int]), is_kind({"val": None}, Mapping[str, int])
    (True, False)
    """
    outer, inner = get_origin(kind), get_args(kind)
    if outer in (Union, UnionType):
        return any(is_kind(value, one) for one in inner)
    if outer is None:
        return kind is Any or (isinstance(value, kind) and (kind, type(value)) != (int, bool))
    if outer is abc.Callable or not isinstance(value, outer):
        return outer is abc.Callable and callable(value)
    if isinstance(value, Mapping):
        return all(all(map(is_kind, pair, inner)) for pair in value.items())
    if type(inner[0]) is type:
        return all(isinstance(part, inner[0]) for part in value)
    return all(is_kind(part, inner[0]) for part in value)


def describe_error(error: BaseException, module: str) -> str:
    """Kind, message and place of what broke: the last line that is of the module or beside it.

    Where no module is known, that is the last line outside of this project. There may be none.
    """
    package = module.rpartition(".")[0] or module
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = f"{frame.f_globals.get('__name__')}."
        is_own = name.startswith(f"{package}.") or f"{module}.".startswith(name)
        if is_own if module else not name.startswith(_OURS):
            place = f" ({frame.f_code.co_filename}:{line})"
    said = " ".join(str(error).split())[:_SHOWN].rstrip(". ")
    return f"{type(error).__name__}: {said}{place}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
