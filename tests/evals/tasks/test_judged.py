import pytest

from evals.errors import DataError
from evals.figures.summary import summarize
from evals.reading.replies import hash_request
from evals.tasks.llavabench import LLaVABench
from evals.tasks.mmvet import MMVet
from tests.evals.small_data import put_json, put_lines, write_llavabench, write_mmvet


@pytest.fixture
def mmvet(tmp_path):
    write_mmvet(tmp_path)
    return tmp_path


@pytest.fixture
def bench(tmp_path):
    write_llavabench(tmp_path)
    return tmp_path


def predictions_of(task, num):
    return task.match([{"question_id": n, "text": f"answer {n}"} for n in range(num)])


class ScriptedJudge:
    """A judge that replies by heart and remembers what it was asked."""

    model = "scripted"

    def __init__(self, *replies):
        self.replies = list(replies)
        self.requests = []

    def reply(self, request):
        self.requests.append(request)
        return self.replies[len(self.requests) - 1]


def ask(task, judge):
    (prediction,) = predictions_of(task, 1).values()
    return task.ask_judge(judge, prediction)


def test_judge_is_asked_again_and_warmer_until_it_gives_a_grade(mmvet):
    judge = ScriptedJudge("well", "good", "0.7")
    assert ask(MMVet(data_dir=mmvet), judge) == "0.7"
    assert [request.temperature for request in judge.requests] == [0.0, 0.5, 1.0]
    reminder = "Predict the correctness of the answer (digit): "
    assert [reminder in request.prompt for request in judge.requests] == [False, True, True]
    assert {request.max_tokens for request in judge.requests} == {3}


def test_judge_is_asked_five_times_at_most(mmvet):
    judge = ScriptedJudge(*["well"] * 9)
    assert ask(MMVet(data_dir=mmvet), judge) == "well"
    assert len(judge.requests) == 5


def test_review_is_taken_whatever_it_says(bench):
    judge = ScriptedJudge("I cannot tell.")
    assert ask(LLaVABench(data_dir=bench), judge) == "I cannot tell."
    assert len(judge.requests) == 1


def test_without_replies_questions_are_asked_and_scoring_says_what_is_missing(mmvet):
    task = MMVet(data_dir=mmvet)
    assert not task.has_annotations
    assert len(task.samples()) == 2
    with pytest.raises(
        DataError, match=r"judge gpt-4-0613, and there are no replies.*tasks\.mmvet\.replies="
    ):
        task.score({})


def test_without_reviews_scoring_says_what_is_missing(bench):
    task = LLaVABench(data_dir=bench)
    assert not task.has_annotations
    with pytest.raises(
        DataError, match=r"judge gpt-4-0314, and there are no replies.*tasks\.llavabench\.replies="
    ):
        task.score({})


def test_ids_are_known_with_and_without_prefix(mmvet):
    task = MMVet(data_dir=mmvet)
    named = task.match([{"question_id": "v1_0", "text": "answer 0"}])
    assert named == task.match([{"question_id": 0, "text": "answer 0"}])
    assert {key: given.text for key, given in named.items()} == {"v1_0": "answer 0"}


def test_grades_are_averaged_over_runs_and_capabilities(mmvet):
    grades = {
        "v1_0": {"model": ["j", "j"], "content": ["1.0", "0.5"]},
        "v1_1": {"model": ["j", "j"], "content": ["0.2", "none"]},
    }
    put_json(mmvet / "grades.json", grades)
    task = MMVet(data_dir=mmvet, judge="j", replies=mmvet / "grades.json")
    scores = task.score(predictions_of(task, 2))
    figures = task.aggregate(scores)
    assert [s.value for s in scores] == [0.75, 0.1]
    assert figures.metrics["score"] == pytest.approx(0.425)
    assert figures.metrics["score_deviation"] == pytest.approx((0.6 - 0.25) / 2)
    assert figures.breakdowns["capability"]["ocr"] == {"score": 0.75, "num_questions": 1}
    assert list(figures.breakdowns["capability_set"]) == ["math_ocr", "rec"]
    assert figures.num_unparsed == 1
    assert [s.answered for s in scores] == [True, False]


def test_judges_are_told_apart_by_the_definition(mmvet):
    definitions = {MMVet(data_dir=mmvet, judge=judge).definition for judge in ("a", "b")}
    assert len(definitions) == 2
    task = MMVet(data_dir=mmvet, judge="other", replies=mmvet / "grades.json")
    with pytest.raises(DataError, match="judge 'j', but `judge` is 'other'"):
        task.score(predictions_of(task, 2))


def test_reply_to_another_answer_is_missing(mmvet):
    task = MMVet(data_dir=mmvet, judge="j")
    requests = task.judge_requests(predictions_of(task, 2))
    lines = [
        {
            "question_id": key,
            "run": 0,
            "model": "j",
            "content": "0.5",
            "request_sha256": hash_request(request),
        }
        for key, request in requests.items()
    ]
    put_lines(mmvet / "replies.jsonl", lines)
    task = MMVet(data_dir=mmvet, judge="j", replies=mmvet / "replies.jsonl")
    assert [s.value for s in task.score(predictions_of(task, 2))] == [0.5, 0.5]
    changed = task.match([{"question_id": 0, "text": "another answer"}])
    with pytest.raises(DataError, match="1 of 1 replies"):
        task.score(changed)


def test_score_is_the_share_of_the_reference_averaged_over_runs(bench):
    for run, points in enumerate(("8 4", "8 8")):
        put_lines(
            bench / f"run{run}.jsonl", [{"question_id": n, "content": points} for n in range(3)]
        )
    task = LLaVABench(data_dir=bench, replies=[bench / "run0.jsonl", bench / "run1.jsonl"])
    scores = task.score(predictions_of(task, 3))
    figures = task.aggregate(scores)
    assert figures.metrics == {"score": 0.75, "reference_mean": 8.0, "model_mean": 6.0}
    assert list(figures.breakdowns["category"]) == ["complex", "conv", "detail"]
    assert [s.value for s in scores] == pytest.approx([0.6] * 3)


def test_missing_answer_is_left_out_of_the_comparison(bench):
    task = LLaVABench(data_dir=bench, replies=bench / "reviews.jsonl")
    figures = task.aggregate(task.score(predictions_of(task, 2)))
    assert figures.metrics["score"] == 1.0
    assert figures.breakdowns["category"]["complex"]["score"] is None


def test_reviews_of_other_questions_are_refused(bench):
    own = ["conv", "detail", "complex"]
    for categories in (own, own[::-1], own[:2]):
        lines = [
            {"question_id": n, "category": f"llava_bench_{kind}", "content": "8 4"}
            for n, kind in enumerate((*categories, "detail")[:3])
        ]
        put_lines(bench / "reviews.jsonl", lines)
        task = LLaVABench(data_dir=bench, replies=bench / "reviews.jsonl")
        if categories == own:
            assert len(task.score(predictions_of(task, 3))) == 3
        else:
            with pytest.raises(DataError, match="the replies are about other questions"):
                task.score(predictions_of(task, 3))


@pytest.mark.parametrize(
    ("told", "given", "is_refused"),
    [("a1", "b1", True), ("a1", "a1", False), ("a1", None, False), (None, "b1", False)],
)
def test_reviews_of_other_answers_are_refused(told, given, is_refused, bench):
    reviews = [{"question_id": n, "answer2_id": told, "content": "8 4"} for n in range(3)]
    put_lines(bench / "reviews.jsonl", reviews)
    task = LLaVABench(data_dir=bench, replies=bench / "reviews.jsonl")
    lines = [{"question_id": n, "text": "An answer.", "answer_id": given} for n in range(3)]
    if is_refused:
        with pytest.raises(
            DataError, match=r"about the answer 'a1', but .* is 'b1'.*another model"
        ):
            task.score(task.match(lines))
    else:
        assert {one.value for one in task.score(task.match(lines))} == {0.4}


@pytest.mark.parametrize("unread", ["eight", "", "80 60", "error", None])
def test_unread_review_is_no_tie_but_a_failure(unread, bench):
    lines = [{"question_id": n, "content": "8 4" if n else unread} for n in range(3)]
    put_lines(bench / "reviews.jsonl", lines)
    task = LLaVABench(data_dir=bench, replies=bench / "reviews.jsonl")
    scores = task.score(predictions_of(task, 3))
    summary = summarize(task, scores, {})
    assert (summary.metrics["score"], summary.metrics["model_mean"]) == (0.5, 4.0)
    rows = summary.breakdowns["category"]
    assert {name: row["score"] for name, row in rows.items()} == {
        "complex": 0.5,
        "conv": None,
        "detail": 0.5,
    }
    assert (summary.num_answered, summary.num_unparsed) == (2, 1)
    cause = "judge_refused" if unread is None else "judge_unread"
    assert summary.num_failed == {cause: 1}
    assert scores[0].failure.key == scores[0].key


def test_question_is_judged_only_if_every_run_judged_it(bench):
    for run, points in enumerate(("8 4", "no")):
        lines = [{"question_id": n, "content": "8 8" if n else points} for n in range(3)]
        put_lines(bench / f"run{run}.jsonl", lines)
    task = LLaVABench(data_dir=bench, replies=[bench / "run0.jsonl", bench / "run1.jsonl"])
    summary = summarize(task, task.score(predictions_of(task, 3)), {})
    assert summary.num_answered == 2
    assert summary.metrics["model_mean"] == pytest.approx((20 / 3 + 8) / 2, abs=1e-3)
    assert summary.breakdowns["category"]["conv"]["score"] is None


def test_grade_that_is_null_is_a_failure_of_its_question(mmvet):
    grades = {key: {"model": ["j"], "content": [None]} for key in ("v1_0", "v1_1")}
    grades["v1_1"]["content"] = ["1.0"]
    put_json(mmvet / "grades.json", grades)
    task = MMVet(data_dir=mmvet, judge="j", replies=mmvet / "grades.json")
    summary = summarize(task, task.score(predictions_of(task, 2)), {})
    assert (summary.metrics["score"], summary.metrics_answered["score"]) == (0.5, 1.0)
    assert summary.num_failed == {"judge_refused": 1}


def test_group_of_which_no_grade_can_be_read_has_no_score(mmvet):
    def figures(*replies):
        grades = {
            f"v1_{n}": {"model": ["j"], "content": [reply]} for n, reply in enumerate(replies)
        }
        put_json(mmvet / "grades.json", grades)
        task = MMVet(data_dir=mmvet, judge="j", replies=mmvet / "grades.json")
        return summarize(task, task.score(predictions_of(task, 2)), {})

    partly = figures("0,5", "1.0")
    capabilities = {name: row["score"] for name, row in partly.breakdowns["capability"].items()}
    assert capabilities == {"math": None, "ocr": None, "rec": 1.0}
    assert partly.metrics["score"] == 0.5  # it counts as 0 beside others, as officially
    nothing = figures("0,5", None)
    assert nothing.metrics == {"score": None, "score_deviation": None}
    assert nothing.interval is None


def test_request_is_built_from_caption_and_reference(bench):
    task = LLaVABench(data_dir=bench)
    (request, *_) = task.judge_requests(predictions_of(task, 3)).values()
    assert "[Context]\nCaption 0.\n" in request.prompt
    assert "[Assistant 1]\nReference 0.\n" in request.prompt
    put_lines(bench / "context.jsonl", [{"image": "000.jpg", "caption": "Caption."}])
    task = LLaVABench(data_dir=bench)
    with pytest.raises(DataError, match=r"lacks the image '001\.jpg'"):
        task.judge_requests(predictions_of(task, 3))


def test_unknown_category_is_refused(bench):
    put_lines(
        bench / "questions.jsonl",
        [{"question_id": 0, "image": "000.jpg", "category": "odd", "text": "q"}],
    )
    with pytest.raises(DataError, match=r"questions\.jsonl:1: `category` must be one of"):
        LLaVABench(data_dir=bench).samples()
