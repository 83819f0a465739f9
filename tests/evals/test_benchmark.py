"""What is the same for every benchmark, on one that is made up."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

import evals.tasks
from evals.benchmark import Benchmark, Recipe, Upload, each, rebuildable
from evals.errors import DataError, MissingFileError, check_choice
from evals.figures.metrics import mean_score
from evals.grading import Grading
from evals.reading.replies import JudgeRequest
from evals.records import Aggregate, Prediction, Sample


def sample(key, text="Which?\nShort.", **fields):
    return Sample(key=key, question_id=int(key), text=text, prompt=text, target="a", **fields)


def figures(scores):
    return Aggregate(metrics={"accuracy": mean_score(scores)})


def benchmark(*keys, **fields):
    samples = [sample(key) for key in keys]
    values = {
        "name": "letters",
        "split": "test",
        "definition": "letters/1",
        "primary_metric": "accuracy",
        "max_new_tokens": 4,
        "data_files": list,
        "read": lambda: samples,
        "judge": each(lambda text, question: (float(text == question.target), text)),
        "figures": figures,
        "official_suffix": "\nShort.",
        "prompt_suffix": "\nShort.",
    }
    return Benchmark(**(values | fields))


def answers(*pairs):
    return [{"question_id": question_id, "text": text} for question_id, text in pairs]


def refuse():
    raise MissingFileError("q.json does not exist.")


def test_answers_are_judged_one_by_one_and_a_missing_one_scores_zero():
    task = benchmark("1", "2", "3")
    scores = task.score(task.match(answers((3, "b"), ("1", "a"))))
    assert [(s.key, s.value, s.answer, s.answered) for s in scores] == [
        ("1", 1.0, "a", True),
        ("2", 0.0, None, False),
        ("3", 0.0, "b", True),
    ]
    assert task.aggregate(scores).metrics == {"accuracy": pytest.approx(1 / 3)}


def test_score_carries_what_the_question_has():
    question = sample("1", cluster="x.jpg", groups={"kind": "k"}, details={"of": "it"})
    (score,) = benchmark(read=lambda: [question]).score({})
    assert (score.question_id, score.cluster) == (1, "x.jpg")
    assert (score.groups, score.details) == ({"kind": "k"}, {"of": "it"})


def test_figure_over_no_scores_is_an_error():
    task = benchmark("1")
    assert task.aggregate(task.score({})).metrics == {"accuracy": 0.0}
    with pytest.raises(ValueError, match="at least one score"):
        task.aggregate([])


def test_questions_are_read_and_asked_once():
    calls = []

    def read():
        calls.append("read")
        return [sample("1")]

    def ask(questions):
        calls.append("ask")
        return list(questions.values())

    task = benchmark(read=read, ask=ask)
    assert calls == []
    for _ in range(2):
        task.score(task.match(answers((1, "a"))))
        task.samples().clear()
        assert len(task.samples()) == 1
    assert calls == ["read", "ask"]


def test_scoring_asks_for_no_more_than_the_annotations():
    task = benchmark("1", ask=lambda _: refuse())
    assert task.score(task.match(answers((1, "a"))))[0].value == 1.0
    with pytest.raises(MissingFileError):
        task.samples()


@pytest.mark.parametrize(
    ("keys", "message"),
    [((), "letters test has no question"), (("1", "2", "1"), "'1' occurs twice")],
)
def test_data_without_questions_or_with_one_twice_are_refused(keys, message):
    with pytest.raises(DataError, match=message):
        benchmark(*keys).samples()


def test_foreign_answers_are_an_error_or_left_out():
    given = answers((1, "a"), (9, "a"))
    with pytest.raises(DataError, match=r"1 question ids .* not in letters test \(for example 9\)"):
        benchmark("1").match(given)
    task = benchmark("1", foreign_is_error=False)
    assert list(task.match(given)) == ["1"]
    with pytest.raises(DataError, match="not in letters test"):
        task.match(given[1:])


def test_stored_key_of_another_split_is_refused():
    foreign = Prediction(key="9", question_id=9, prompt="", text="a")
    for task in (benchmark("1"), benchmark("1", repeat_mark="~")):
        with pytest.raises(DataError, match="keys that are not in letters test"):
            task.score({"9": foreign})


def test_a_question_may_be_found_by_more_than_its_id():
    task = benchmark("1", find=lambda _, answer: str(answer["question_id"]).removeprefix("q"))
    assert task.match(answers(("q1", "a")))["1"].question_id == 1


def test_each_answer_counts_where_repeated_ones_do():
    task = benchmark("1", "2", "3", repeat_mark="~")
    predictions = task.match(answers((2, "a"), (2, "b"), (1, "a"), (2, "a")))
    assert list(predictions) == ["2", "2~2", "1", "2~3"]
    scores = task.score(predictions)
    assert [(s.key, s.value) for s in scores] == [
        *(("2", 1.0), ("2~2", 0.0), ("1", 1.0), ("2~3", 1.0)),
        ("3", 0.0),
    ]


def test_suffix_of_the_prompts_is_replaced():
    task = benchmark("1", prompt_suffix=" Briefly.")
    assert [(s.text, s.prompt) for s in task.samples()] == [("Which? Briefly.",) * 2]
    stored_without = replace(sample("1"), prompt="Which?")
    task = benchmark(read=lambda: [stored_without], prompt_suffix=" Briefly.")
    assert [(s.text, s.prompt) for s in task.samples()] == [("Which? Briefly.", "Which?")]
    task = benchmark(read=lambda: [sample("7", "Odd?")], prompt_suffix=" Briefly.")
    assert task.score({})  # which needs no prompts
    with pytest.raises(DataError, match=r"question 7 does not end in .*Leave `prompt_suffix` out"):
        task.samples()


def test_split_that_is_not_scored_here_says_why():
    for fields, message in (
        ({"upload": UPLOAD}, r"letters test has no public annotations.*runners\.submit\.$"),
        ({}, r"letters test has no `judge`, [^.]*here\. Give .* `unscored` why there is none\.$"),
        ({"unscored": "has no scorer. Set one."}, "letters test has no scorer. Set one."),
        ({"grading": grade_by(1)}, r"letters test is scored by the judge j, .*\. Ask j\.$"),
    ):
        task = benchmark("1", judge=None, **fields)
        assert not task.has_annotations
        with pytest.raises(DataError, match=message):
            task.score({})


def render(questions, texts):
    return ",".join(f"{q.question_id}={texts[key]}" for key, q in questions.items()).encode()


UPLOAD = Upload(suffix=".txt", server="s", render=render)


def test_upload_lists_the_questions_of_the_split():
    task = benchmark("1", "2", upload=UPLOAD)
    assert task.submission_ids() == (["1", "2"], frozenset(["1", "2"]))
    assert task.render_submission({"1": "a", "2": "b"}) == b"1=a,2=b"
    with pytest.raises(MissingFileError):
        replace(task, read=refuse).submission_ids()


def test_upload_of_a_part_lists_the_whole_whether_or_not_the_part_is_known():
    whole = benchmark("1", "2", "3")
    upload = Upload(suffix=".txt", server="s", render=render, whole=lambda: whole.questions)
    task = benchmark("2", upload=upload)
    assert task.submission_ids() == (["1", "2", "3"], frozenset(["2"]))
    assert task.render_submission({"1": "", "2": "b", "3": ""}) == b"1=,2=b,3="
    assert replace(task, read=refuse).submission_ids() == (["1", "2", "3"], frozenset())


def test_benchmark_without_server_or_judge_says_so():
    task = benchmark("1")
    with pytest.raises(
        DataError, match=r"no server that takes answers\. Score .* runners\.score\."
    ):
        task.submission_ids()
    with pytest.raises(DataError, match=r"no server that takes answers\. It has no `judge`, .*"):
        replace(task, judge=None).submission_ids()
    with pytest.raises(DataError, match="letters test is not graded by a judge"):
        task.judge_requests({})


def grade_by(number):
    return Grading(
        model="j",
        prompt="Grade.",
        request=lambda question, given, attempt: JudgeRequest(
            prompt=f"{question.target} {given.text} {attempt}", temperature=0.0, max_tokens=number
        ),
        grade=lambda text, _, replies: (len(replies) / number, text),
        remedy="Ask j.",
    )


def test_judge_that_would_be_asked_the_same_again_is_refused_before_it_is_asked():
    varied = replace(grade_by(2), max_attempts=3)
    asked = benchmark("1", judge=None, grading=varied)
    predictions = asked.match(answers((1, "b")))
    assert list(asked.judge_requests(predictions)) == ["1"]
    same = replace(varied, request=lambda *_: JudgeRequest(prompt="?", temperature=0, max_tokens=2))
    with pytest.raises(DataError, match="`request` of the grading asks the same at the second"):
        replace(asked, grading=same).judge_requests(predictions)
    once = replace(same, max_attempts=1)
    assert list(replace(asked, grading=once).judge_requests(predictions)) == ["1"]


def test_judge_is_named_by_the_definition_and_its_replies_make_scores(tmp_path):
    reads = []

    def read():
        reads.append(1)
        return [sample("1"), sample("2", details="d")]

    grading = grade_by(2)
    asked = benchmark(
        judge=None, read=read, grading=grading, definition=grading.definition("letters")
    )
    predictions = asked.match(answers((2, "b")))
    assert asked.judge_requests(predictions)["2"].prompt == "a b 0"
    assert (asked.has_annotations, asked.definition) == (False, "letters_j/1")
    path = tmp_path / "replies.jsonl"
    path.write_text('{"question_id": 2, "run": 0, "model": "k", "content": "good"}')
    graded = asked.with_replies("k", [path])
    assert (graded.has_annotations, graded.definition) == (True, "letters_k/1")
    first, second = graded.score(predictions)
    assert (first.value, first.answered, first.details.replies) == (0.0, False, [])
    assert (second.value, second.answer, second.details) == (0.5, "b", (["good"], "d"))
    assert len(reads) == 1


def test_benchmark_remembers_how_it_was_built():
    @rebuildable
    def letters(*, name="letters"):
        return benchmark("1", name=name)

    assert letters(name="abc").recipe == Recipe(
        f"{__name__}.{letters.__qualname__}", {"name": "abc"}
    )
    assert benchmark("1").recipe is None


def test_constructors_of_benchmarks_are_rebuildable():
    """So that a stored run of an object says what it asked."""
    constructors = [
        value
        for path in Path(evals.tasks.__path__[0]).glob("[a-z]*.py")
        for value in vars(import_module(f"evals.tasks.{path.stem}")).values()
        if getattr(value, "__annotations__", {}).get("return") == "Benchmark"
        and value.__module__ == f"evals.tasks.{path.stem}"
    ]
    assert constructors
    assert [f.__name__ for f in constructors if not hasattr(f, "__wrapped__")] == []


def test_choice_is_one_of_the_known_ones():
    check_choice("`split` of letters", "val", {"val": 1, "test": 2})
    with pytest.raises(ValueError, match=r"`split` of letters must be one of .*, but is dev\."):
        check_choice("`split` of letters", "dev", ["val", "test"])
