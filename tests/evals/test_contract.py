"""What a benchmark's functions have to give, and what is said where they break."""

import math
import re
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from evals.benchmark import Upload, each, rebuildable
from evals.contract import BenchmarkError
from evals.errors import DataError
from evals.grading import Grading
from evals.reading.images import ImageFile
from evals.records import Aggregate, Prediction, Scale, Unit
from tests.evals.test_benchmark import answers, benchmark, sample


def refused(task, *given):
    """What is said of a benchmark once its answers are scored and summed up."""
    with pytest.raises(BenchmarkError) as raised:
        task.aggregate(task.score(task.match(answers(*(given or [(1, "a"), (2, "b")])))))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def judging(judgment):
    return benchmark("1", "2", judge=each(lambda *_: judgment))


def summing(primary="accuracy", breakdowns=None, scales=None, **metrics):
    figures = Aggregate(metrics=metrics, breakdowns=breakdowns or {}, scales=scales or {})
    return benchmark("1", "2", primary_metric=primary, figures=lambda _: figures)


@pytest.mark.parametrize("value", [2.0, -1.0, math.nan, math.inf, "1", None])
def test_score_that_is_none_is_refused(value):
    message = refused(judging((value, "a")))
    assert f"letters test: `judge` gives the score {value!r} for question 1, but" in message


@pytest.mark.parametrize("value", [True, 1, 1.0, 1 + 1e-12, 0, -1e-12])
def test_score_of_an_answer_may_be_a_whole_number(value):
    """Files of results are read as they are written: with scores of 0 to 1."""
    task = judging((value, "a"))
    scores = task.score(task.match(answers((1, "a"))))
    assert [(type(score.value), score.value) for score in scores] == [
        (float, round(value)),
        (float, 0.0),
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            ("key", 7),
            ("cluster", 7),
            ("text", None),
            ("prompt", ["Which?"]),
            ("question_id", True),
        ),
        *(("question_id", 1.5), ("groups", {"shape": 3.5}), ("groups", [("shape", "round")])),
        *(("images", "7.png"), ("images", (Path("7.png"),))),
        *(("aliases", "one"), ("choices", (1,))),
    ],
)
def test_question_with_a_value_of_another_type_is_refused(field, value):
    given = [
        sample("5", images=(ImageFile("a", Path("a")),)),
        replace(sample("1"), **{field: value}),
    ]
    for function, task in (
        ("read", benchmark(read=lambda: given)),
        ("ask", benchmark("5", "1", ask=lambda _: given)),
    ):
        with pytest.raises(BenchmarkError) as raised:
            task.samples()
        told = f"`{function}` gives question {given[1].question_id!r} the {field} {value!r}, but it"
        assert told in str(raised.value)


def test_question_may_have_anything_that_is_described():
    groups = {"shape": None, "kind": "new"}
    given = sample("1", groups=MappingProxyType(groups), aliases=("one",), choices=("A", "B"))
    given = replace(given, question_id="1", images=(ImageFile("a", Path("a")),))
    assert benchmark(read=lambda: [given, replace(given, key="2", groups=groups)]).samples()


def test_figure_beyond_any_scale_is_refused():
    """No summary with it could be read."""
    points = {"points": Scale(unit=Unit.POINTS, largest=None)}
    told = "gives points = 1000000.0, but it must be a number from 0, below 1,000,000, or"
    assert told in refused(summing("points", scales=points, points=1e6))
    for largest in (1e6, 0, -1.0, math.nan):
        with pytest.raises(ValueError, match="`largest` of a `Scale` must be a number above 0"):
            Scale(unit=Unit.POINTS, largest=largest)


@pytest.mark.parametrize("given", [None, 1.0, (1.0,), "ab"])
def test_judge_that_gives_no_pair_is_refused(given):
    assert f"`judge` gives {given!r} at question 1, but must give a pair" in refused(judging(given))


def test_answer_without_a_judgment_is_refused():
    def judge(questions, predictions):
        return each(lambda *_: (1.0, "a"))(questions, {})

    assert "gives no judgment for question 1" in refused(benchmark("1", judge=judge), (1, "a"))


def test_judge_that_gives_no_list_of_scores_is_refused():
    for given in (None, (1.0, "a"), [1.0]):
        task = benchmark("1", judge=lambda *_, given=given: given)
        assert f"`judge` gives {given!r}, but must give a list of `Score`" in refused(
            task, (1, "a")
        )


def test_what_lines_of_results_cannot_hold_is_refused():
    assert "gives the answer 5 for question 1, but an answer is a text" in refused(
        judging((1.0, 5))
    )
    task = benchmark(read=lambda: [sample("1", groups={"score": "high"})])
    assert "gives the group 'score' for question 1" in refused(task, (1, "a"))


@pytest.mark.parametrize("value", [math.nan, 50.0, -0.5, "0.5"])
def test_figure_that_is_no_share_is_refused(value):
    told = f"`figures` gives accuracy = {value!r}, but it must be a number from 0 to 1"
    assert told in refused(summing(accuracy=value))
    table = {"kind": {"b": {"accuracy": value, "num_questions": 2}}}
    told = f"`figures` gives accuracy = {value!r} of kind 'b', but it must be"
    assert told in refused(summing(accuracy=0.5, breakdowns=table))


def test_figure_is_a_number_of_its_own_scale():
    points = {"points": Scale(unit=Unit.POINTS, largest=200.0)}
    task = summing(accuracy=0.5, points=150.0, none=None, scales=points)
    assert task.aggregate(task.score({"1": prediction("1", "a")})).metrics["points"] == 150
    assert "points = 250.0, but it must be a number from 0 to 200" in refused(
        summing(accuracy=0.5, points=250.0, scales=points)
    )


def prediction(key, text):
    return Prediction(key=key, question_id=int(key), prompt="", text=text)


def test_primary_metric_that_is_not_there_is_named():
    assert "gives the metrics accuracy, but the primary metric is 'acuracy'" in refused(
        summing("acuracy", accuracy=0.5)
    )


def test_primary_metric_that_is_no_mean_has_to_say_so():
    task = summing(accuracy=0.5004)
    assert "gives accuracy = 0.5004, but the mean of the scores is 0.5. With `primary_is_mean" in (
        refused(task)
    )
    given = {key: prediction(key, "a") for key in "1"}
    for other in (replace(task, primary_is_mean=False), summing(accuracy=None)):
        assert other.aggregate(other.score(given))


def test_function_that_breaks_is_named_with_question_and_line():
    @rebuildable
    def letters(**fields):
        return benchmark("1", "2", **fields)

    task = letters(judge=each(lambda text, question: (1 // (question.question_id - 2), text)))
    message = refused(task)
    assert message.startswith(f"letters test: `judge` of {__name__}.")
    assert " breaks at question 2: ZeroDivisionError: integer div" in message
    assert f"({__file__}:" in message
    assert message.endswith(" Mend it.")
    message = refused(letters(judge=lambda text, _: (float(text.strip() == "a"), text)))
    assert " breaks: AttributeError: 'dict' object has no attribute 'strip'" in message
    assert "judge=each(..)" in message
    assert " breaks: KeyError: 'yellow'" in refused(letters(figures=lambda _: {}["yellow"]))
    for function in ("read", "ask"):
        with pytest.raises(BenchmarkError, match=rf"`{function}` .*s: .*test_contract.py:"):
            letters(**{function: lambda *_: {}[1]}).samples()
    with pytest.raises(BenchmarkError, match=r"`find` of .* breaks: KeyError: 'image'"):
        letters(find=lambda _, answer: answer["image"]).match(answers((1, "a")))


def test_line_is_the_one_in_the_module_and_not_in_a_library():
    @rebuildable
    def letters():
        return benchmark("1", judge=each(lambda text, _: (float(text), text)), read=read)

    def read():
        return [replace(sample("1"), groups=dict([1]))]

    with pytest.raises(BenchmarkError, match=r"`read` .* TypeError: .*test_contract.py:"):
        letters().samples()


def test_error_that_says_what_to_do_passes():
    def judge(text, question):
        raise DataError("q.json:3 is odd. Mend it.")

    task = benchmark("1", judge=each(judge))
    with pytest.raises(DataError, match=r"^q\.json:3 is odd\. Mend it\.$"):
        task.score({"1": prediction("1", "a")})


@pytest.mark.parametrize("code", [0, None, 3, "done"])
def test_function_that_ends_the_program_breaks(code):
    """Else a run that has computed nothing ends with code 0."""

    def stop(*_):
        raise SystemExit(code)

    with pytest.raises(BenchmarkError, match=f"`ask` breaks: SystemExit: {code}"):
        benchmark("1", ask=stop).samples()
    for function in ("read", "judge", "figures", "find"):
        message = refused(benchmark("1", "2", **{function: stop}))
        assert f"`{function}` breaks: SystemExit: {code}" in message
    task = benchmark("1", judge=each(stop))
    assert f"`judge` breaks at question 1: SystemExit: {code}" in refused(task, (1, "a"))


def test_stopping_by_the_keyboard_passes():
    def stop(*_):
        raise KeyboardInterrupt

    for judge in (stop, each(stop)):
        with pytest.raises(KeyboardInterrupt):
            benchmark("1", judge=judge).score({"1": prediction("1", "a")})


def test_no_line_of_the_project_is_to_be_mended():
    """Where a function is called wrongly, it has no line of its own."""

    @rebuildable
    def letters(**fields):
        return benchmark("1", **fields)

    def one(text):
        return 1.0, text

    for task in (letters(judge=each(one)), benchmark("1", judge=each(one))):
        message = refused(task, (1, "a"))
        assert "takes 1 positional argument but 2 were given. Mend it." in message
        assert ".py" not in message


GRADED = {
    "model": "j",
    "prompt": "Grade it.",
    "request": lambda *_: None,
    "grade": lambda *_: (1.0, "a"),
    "remedy": "Ask j.",
}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"definition": ""}, "`definition` must be a text that is not empty, but is ''"),
        ({"split": None}, "`split` must be a text that is not empty, but is None"),
        ({"ids_note": 5}, "`ids_note` must be a text, but is 5"),
        ({"primary_is_mean": "no"}, "`primary_is_mean` must be True or False, but is 'no'"),
        ({"max_new_tokens": True}, "`max_new_tokens` must be a whole number from 1, but is True"),
        ({"max_new_tokens": 0}, "`max_new_tokens` must be a whole number from 1, but is 0"),
        ({"find": "image"}, "`find` must be Callable[[Questions, Mapping[str, Any]], str] | None"),
        ({"judge": "exact"}, "`judge` must be Judge | None, but is 'exact'"),
        ({"releases": {"test": "68"}}, "`releases` must be Mapping[str, Release], but is {'test'"),
        ({"releases": [68]}, "`releases` must be Mapping[str, Release], but is [68]"),
        ({"grouped_metrics": "by_place"}, "`grouped_metrics` must be Set[str], but is 'by_place'"),
        ({"hub": "me/mine"}, "`hub` must be HubLocation | None, but is 'me/mine'"),
        ({"upload": "x.json"}, "`upload` must be Upload | None, but is 'x.json'"),
        (
            {"upload": Upload(suffix="", server="s", render=lambda *_: b"")},
            "`upload.suffix` must be a text that is not empty, but is ''",
        ),
        (
            {"grading": Grading(**GRADED, max_attempts=0)},
            "`grading.max_attempts` must be a whole number from 1, but is 0",
        ),
        (
            {"grading": Grading(**GRADED, replies=("r.jsonl",))},
            "`grading.replies` must be tuple[Path, ...], but is ('r.jsonl',)",
        ),
    ],
)
def test_value_of_another_type_is_refused_at_once(given, said):
    with pytest.raises(BenchmarkError) as raised:
        benchmark("1", **given)
    assert said in str(raised.value)
    assert str(raised.value).endswith(". Mend it.")


UPLOADED = {"suffix": ".json", "server": "s"}


def of_nothing(function):
    """A benchmark whose function gives None, and what calls it."""
    give = lambda *_: None  # noqa: E731
    return {
        "read": lambda: benchmark(read=give).samples(),
        "ask": lambda: benchmark("1", ask=give).samples(),
        "letters": lambda: benchmark("1", letters=give).samples(),
        "data_files": lambda: benchmark("1", data_files=give).data_files(),
        "render": lambda: benchmark("1", upload=Upload(**UPLOADED, render=give)).render_submission(
            {}
        ),
        "whole": lambda: benchmark(
            "1", upload=Upload(**UPLOADED, render=give, whole=give)
        ).submission_ids(),
        "request": lambda: benchmark("1", grading=Grading(**GRADED)).judge_requests(
            {"1": prediction("1", "a")}
        ),
        "needs_judge": lambda: benchmark(
            "1", grading=Grading(**GRADED, needs_judge=give)
        ).judge_requests({"1": prediction("1", "a")}),
    }[function]


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        ("read", "list[evals.records.Sample]"),
        ("ask", "list[evals.records.Sample]"),
        ("letters", "collections.abc.Sequence[str]"),
        ("data_files", "list[pathlib.Path]"),
        ("render", "bytes"),
        ("whole", "collections.abc.Mapping[str, evals.records.Sample]"),
        ("request", "evals.reading.replies.JudgeRequest"),
        ("needs_judge", "bool"),
    ],
)
def test_function_that_gives_nothing_is_named_with_what_it_must_give(function, wanted):
    with pytest.raises(BenchmarkError) as raised:
        of_nothing(function)()
    assert str(raised.value) == (
        f"letters test: `{function}` gives None, but must give {wanted}. Mend it."
    )


def test_list_of_other_things_is_refused_with_the_first_of_them():
    for given, shown in ((["q.json"], "['q.json']"), ("q.json", "'q.json'"), ([Path(), 5], "[5]")):
        with pytest.raises(BenchmarkError, match=re.escape(f"`data_files` gives {shown}, but")):
            benchmark("1", data_files=lambda given=given: given).data_files()
    assert benchmark("1", data_files=lambda: iter([Path("q")])).data_files() == [Path("q")]
    assert list(benchmark(read=lambda: iter([sample("1")])).questions) == ["1"]


def test_function_of_a_copy_is_told_with_its_module():
    """It is a function of the benchmark that was copied, which knew no module."""

    @rebuildable
    def letters():
        render = lambda *_: {}[5]  # noqa: E731
        return benchmark("1", upload=Upload(**UPLOADED, render=render), data_files=lambda: None)

    with pytest.raises(BenchmarkError, match=rf"`render` of {__name__}.* breaks: KeyError: 5 .*py"):
        letters().render_submission({})
    with pytest.raises(BenchmarkError, match=rf"`data_files` of {__name__}.* gives None"):
        replace(letters(), split="val").data_files()
