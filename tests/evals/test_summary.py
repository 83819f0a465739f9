import json

import pytest

from evals.records import Failure, Prediction
from evals.summary import summarize, summarize_unscored
from evals.tasks.custom import Custom
from evals.tasks.gqa import GQA


@pytest.fixture
def task(tmp_path):
    lines = [
        {"question_id": number, "image": f"{number // 2}.jpg", "text": "t", "answer": "yes"}
        for number in range(4)
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return Custom(questions=tmp_path / "q.jsonl", images=tmp_path, scorer="exact")


def scores_of(task, *texts):
    return task.score(
        {
            str(number): Prediction(key=str(number), question_id=number, prompt="", text=text)
            for number, text in enumerate(texts)
            if text is not None
        }
    )


def test_unanswered_questions_count_in_one_figure_and_not_in_the_other(task):
    failures = {
        "3": Failure(key="3", cause="image_missing", message="m"),
        "2": Failure(key="2", cause="error", message="m"),
    }
    summary = summarize(task, scores_of(task, "yes", "no"), failures)
    assert summary.metrics == {"accuracy": 0.25}
    assert summary.metrics_answered == {"accuracy": 0.5}
    assert (summary.num_questions, summary.num_answered, summary.coverage) == (4, 2, 0.5)
    assert list(summary.num_failed.items()) == [("error", 1), ("image_missing", 1)]


def test_without_any_answer_there_are_no_answered_figures(task):
    summary = summarize(task, scores_of(task), {})
    assert (summary.metrics, summary.metrics_answered) == ({"accuracy": 0.0}, {})
    assert summary.coverage == 0.0


def test_interval_is_clustered_and_stays_within_the_scale(task):
    low, high = summarize(task, scores_of(task, "yes", "yes", "no", "no"), {}).interval
    assert (low, high) == (0.0, 1.0)  # two clusters, 0.5 +- 0.98
    assert summarize(task, scores_of(task, "yes", "yes", "yes", "yes"), {}).interval == (1.0, 1.0)


def test_single_cluster_has_no_interval(task):
    assert summarize(task, scores_of(task, "yes", "no")[:2], {}).interval is None


def test_summary_is_json_with_the_documented_names(task):
    record = summarize(task, scores_of(task, "yes"), {}).to_json()
    assert json.loads(json.dumps(record)) == {
        "task": "custom",
        "split": "q",
        "definition": "custom_exact/1",
        "metrics": {"accuracy": 0.25},
        "metrics_answered": {"accuracy": 1.0},
        "breakdowns": {},
        "interval": [0.0, pytest.approx(0.25 + 1.96 * 0.25, abs=1e-3)],
        "num_questions": 4,
        "num_answered": 1,
        "coverage": 0.25,
        "num_failed": {},
        "num_unparsed": 0,
        "expected_num_questions": None,
    }


def test_metric_whose_groups_are_cut_is_null(tmp_path):
    question = {
        "question": "Is it?",
        "imageId": "1",
        "answer": "yes",
        "isBalanced": True,
        "entailed": ["2"],
        "groups": {"global": None},
        "types": {"structural": "verify", "semantic": "obj", "detailed": "d"},
        "semantic": [],
        "annotations": {},
    }
    (tmp_path / "data").mkdir()
    content = json.dumps({"1": question, "2": question})
    (tmp_path / "data/demo_questions.json").write_text(content)
    task = GQA(data_dir=tmp_path, split="demo")
    predictions = {
        key: Prediction(key=key, question_id=key, prompt="", text="yes") for key in ("1", "2")
    }
    scores = task.score(predictions)
    assert summarize(task, scores, {}).metrics["consistency"] == 1.0
    cut = summarize(task, scores[:1], {}, limit_cuts_groups=True)
    assert (cut.metrics["consistency"], cut.metrics["accuracy"]) == (None, 1.0)
    assert cut.metrics_answered["consistency"] is None


def test_split_without_annotations_has_counts_only(task):
    failures = {"1": Failure(key="1", cause="error", message="m")}
    summary = summarize_unscored(task, 4, 3, failures)
    assert (summary.metrics, summary.interval, summary.coverage) == ({}, None, 0.75)
    assert summary.num_failed == {"error": 1}


def test_figures_over_nothing_are_an_error(task):
    with pytest.raises(ValueError, match="at least one score"):
        summarize(task, [], {})
    with pytest.raises(ValueError, match="at least 1"):
        summarize_unscored(task, 0, 0, {})
