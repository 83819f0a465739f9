import json
import time
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import beta

from evals.figures.statistics import Z_95, clustered_standard_error
from evals.figures.summary import summarize, summarize_unscored
from evals.grading import Graded
from evals.reading.mme import CATEGORIES
from evals.reading.releases import Release
from evals.records import Failure, Prediction, Score
from evals.tasks.custom import Custom
from evals.tasks.gqa import GQA
from evals.tasks.llavabench import LLaVABench
from evals.tasks.mmbench import MMBench
from evals.tasks.mme import MME
from evals.tasks.pope import CATEGORIES as OBJECT_CATEGORIES
from evals.tasks.pope import POPE


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
    # One of two images right, one wrong: the exact interval of 1 in 2.
    assert (low, high) == pytest.approx((beta.ppf(0.025, 1, 2), beta.ppf(0.975, 2, 1)))


@pytest.mark.parametrize(
    ("texts", "share", "num_clusters"),
    [
        (["yes"] * 4, 1.0, 2),  # all right
        (["no"] * 4, 0.0, 2),  # all wrong
        (["yes", "no", "yes", "no"], 0.5, 2),  # each image half
        (["yes", "yes"], 1.0, 1),
    ],
)
def test_where_all_images_agree_the_interval_is_the_exact_one(task, texts, share, num_clusters):
    scores = scores_of(task, *texts)[: len(texts)]
    summary = summarize(task, scores, {})
    hits, tail = share * num_clusters, 0.025
    low = beta.ppf(tail, hits, num_clusters - hits + 1) if share else 0.0
    high = beta.ppf(1 - tail, hits + 1, num_clusters - hits) if share < 1 else 1.0
    assert summary.interval == pytest.approx((low, high))
    assert summary.interval_method == "binomial"


def test_summary_is_json_with_the_documented_names(task):
    record = summarize(task, scores_of(task, "yes"), {}).to_json()
    assert json.loads(json.dumps(record)) == {
        "task": "custom",
        "split": "q",
        "definition": "custom_exact/1",
        "metrics": {"accuracy": 0.25},
        "metrics_answered": {"accuracy": 1.0},
        "breakdowns": {},
        "interval": pytest.approx([beta.ppf(0.025, 0.5, 2.5), beta.ppf(0.975, 1.5, 1.5)]),
        "interval_method": "binomial",
        "num_questions": 4,
        "num_answered": 1,
        "coverage": 0.25,
        "num_failed": {},
        "num_unparsed": 0,
        "expected_num_questions": None,
        "primary_metric": "accuracy",
        "scales": {},
    }


def test_split_that_nobody_published_has_no_count(task):
    for split, count in (("y", 10), ("z", None)):
        same = replace(task, split=split, releases={"y": Release(num_questions=10)})
        assert summarize_unscored(same, 1, 0, {}).expected_num_questions == count


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


def make_score(number, cluster, value, **fields):
    defaults = {"question_id": number, "answer": "x", "answered": True}
    return Score(
        key=str(number), cluster=str(cluster), value=float(value), **{**defaults, **fields}
    )


class Label(NamedTuple):
    """What POPE's figures need of a question."""

    label: str
    is_unparsed: bool


def pope_scores(num_images, seed=0):
    """Six questions an image in each category; images are harder or easier as a whole."""
    generator = np.random.default_rng(seed)
    skill = generator.beta(6, 1, num_images)
    scores = []
    for category in OBJECT_CATEGORIES:
        for number in range(6 * num_images):
            image, label = number // 6, "yes" if number % 2 else "no"
            is_right = generator.random() < skill[image]
            answer = label if is_right else {"yes": "no", "no": "yes"}[label]
            scores.append(
                make_score(
                    len(scores),
                    image,
                    is_right,
                    answer=answer,
                    groups={"category": category},
                    details=Label(label, is_unparsed=False),
                )
            )
    return scores


def mme_scores(num_images, seed=0, wrong=0.2):
    """Two questions on each of so many images a category."""
    generator = np.random.default_rng(seed)
    return [
        make_score(
            f"{category}/{number}",
            f"{category}/{number // 2}",
            generator.random() >= wrong,
            groups={"category": category},
        )
        for category in CATEGORIES
        for number in range(2 * num_images)
    ]


def mmbench_scores(num_questions, seed=0):
    """Four rows a question."""
    generator = np.random.default_rng(seed)
    return [
        make_score(turn * 1_000_000 + number, number, generator.random() < 0.9)
        for turn in range(4)
        for number in range(num_questions)
    ]


def half_width(interval):
    low, high = interval
    return (high - low) / 2


def test_interval_of_f1_is_that_of_resampled_images(tmp_path):
    task, scores = POPE(data_dir=tmp_path), pope_scores(60)
    summary = summarize(task, scores, {})
    by_image = {str(n): [s for s in scores if s.cluster == str(n)] for n in range(60)}
    generator = np.random.default_rng(1)
    resampled = [
        task.aggregate([s for n in generator.integers(0, 60, 60) for s in by_image[str(n)]])
        for _ in range(300)
    ]
    error = np.std([figures.metrics["f1"] for figures in resampled])
    assert sum(summary.interval) / 2 == pytest.approx(summary.metrics["f1"])
    assert half_width(summary.interval) == pytest.approx(Z_95 * error, rel=0.15)


def test_missing_answers_count_in_the_interval_as_in_the_score(tmp_path):
    task, scores = POPE(data_dir=tmp_path), pope_scores(30)
    missing = [replace(s, answer=None, answered=False, value=0.0) for s in scores[:40]]
    other = {"yes": "no", "no": "yes"}
    wrong = [replace(s, answer=other[s.details.label], value=0.0) for s in scores[:40]]
    without, with_wrong = (summarize(task, [*part, *scores[40:]], {}) for part in (missing, wrong))
    assert without.metrics == with_wrong.metrics
    assert without.interval == with_wrong.interval
    assert without.interval != summarize(task, scores[40:], {}).interval


def test_interval_of_points_is_that_of_the_sum_of_the_categories(tmp_path):
    scores = mme_scores(60)
    summary = summarize(MME(data_dir=tmp_path), scores, {})
    variance = 0.0
    for category in CATEGORIES[:10]:
        right = np.array([s.value for s in scores if s.groups["category"] == category])
        points = 50 * right[::2] + 50 * right[1::2] + 100 * right[::2] * right[1::2]
        variance += points.var(ddof=1) / 60
    assert half_width(summary.interval) == pytest.approx(Z_95 * variance**0.5, rel=0.12)
    assert sum(summary.interval) / 2 == pytest.approx(summary.metrics["perception"])


def test_interval_ends_where_the_points_do(tmp_path):
    scores = mme_scores(20, wrong=0.0)
    scores[0] = replace(scores[0], value=0.0)
    low, high = summarize(MME(data_dir=tmp_path), scores, {}).interval
    assert low < 1992.5
    assert high == 2000.0


def test_points_that_are_all_reached_leave_points_open(tmp_path):
    summary = summarize(MME(data_dir=tmp_path), mme_scores(3, wrong=0.0), {})
    low, high = summary.interval
    assert summary.interval_method == "binomial"
    assert low < 1990.0
    assert high == summary.metrics["perception"] == 2000.0


def test_interval_of_circular_accuracy_is_the_clustered_one_over_questions(tmp_path):
    scores = mmbench_scores(150)
    summary = summarize(MMBench(data_dir=tmp_path), scores, {})
    hits = np.min(np.array([s.value for s in scores]).reshape(4, 150), axis=0)
    error = clustered_standard_error(hits, np.arange(150))
    assert half_width(summary.interval) == pytest.approx(Z_95 * error)


def test_interval_of_a_share_of_the_reference_may_go_beyond_it(tmp_path):
    generator = np.random.default_rng(0)
    points = [int(number) for number in generator.integers(5, 11, 24)]
    scores = [
        make_score(n, n, 0, groups={"category": "conv"}, details=Graded([f"8 {number}"], None))
        for n, number in enumerate(points)
    ]
    summary = summarize(LLaVABench(data_dir=tmp_path), scores, {})
    error = np.std([number / 8 for number in points], ddof=1) / 24**0.5
    assert summary.metrics["score"] < 1 < summary.interval[1]
    assert half_width(summary.interval) == pytest.approx(Z_95 * error, rel=0.01)
    unjudged = [replace(score, details=Graded([], None)) for score in scores]
    assert summarize(LLaVABench(data_dir=tmp_path), unjudged, {}).interval is None


def test_cut_groups_and_figures_that_hang_on_one_image_have_no_interval(tmp_path):
    task = MME(data_dir=tmp_path)
    cut = summarize(task, mme_scores(20), {}, limit_cuts_groups=True)
    assert (cut.metrics["perception"], cut.interval) == (None, None)
    thin = summarize(task, mme_scores(1), {})  # without its image a category has no score
    assert thin.metrics["perception"] is not None
    assert thin.interval is None
    assert summarize(POPE(data_dir=tmp_path), pope_scores(1), {}).interval is None


@pytest.mark.parametrize(("num_images", "has_interval"), [(1, False), (2, True)])
def test_mean_over_categories_has_no_interval_if_one_of_them_hangs_on_an_image(
    tmp_path, num_images, has_interval
):
    last = list(OBJECT_CATEGORIES)[-1]
    scores = [
        score
        for score in pope_scores(20)
        if score.groups["category"] != last or int(score.cluster) < num_images
    ]
    summary = summarize(POPE(data_dir=tmp_path), scores, {})
    assert summary.metrics["f1"] is not None
    assert (summary.interval is not None) is has_interval


@pytest.mark.few_cases(1)
@pytest.mark.parametrize(
    ("benchmark", "make_scores", "size"),
    [(POPE, pope_scores, 495), (MME, mme_scores, 85), (MMBench, mmbench_scores, 1_100)],
)
def test_intervals_of_real_sizes_take_no_more_than_seconds(tmp_path, benchmark, make_scores, size):
    task, scores = benchmark(data_dir=tmp_path), make_scores(size)
    started = time.process_time()
    assert summarize(task, scores, {}).interval is not None
    assert time.process_time() - started < 10  # about 1 s
