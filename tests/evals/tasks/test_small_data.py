"""Every benchmark from its own official files to its figures."""

import json
import pickle

import pytest

from evals.errors import DataError
from evals.figures.summary import summarize, summarize_unscored
from evals.records import Failure
from tests.evals.small_data import SMALL_DATA
from tests.evals.small_files import picture

TASKS = sorted(SMALL_DATA)


@pytest.fixture(params=TASKS)
def case(request, tmp_path):
    data = SMALL_DATA[request.param]
    data.write(tmp_path)
    return data, data.build(data_dir=tmp_path, **data.options)


def lines_of(samples, texts):
    return [
        {"question_id": sample.question_id, "prompt": sample.prompt, "text": text}
        for sample, text in zip(samples, texts, strict=True)
    ]


def test_samples_are_complete_and_images_open_in_a_worker(case):
    data, task = case
    samples = task.samples()
    assert len(samples) == len(data.right)
    assert len({sample.key for sample in samples}) == len(samples)
    for sample in samples:
        assert sample.text
        assert sample.cluster
        assert sample.images
        for image in pickle.loads(pickle.dumps(sample.images)):
            assert image.exists()
            assert image.open().mode == "RGB"
            assert image.open().height == picture(0).height


def test_right_answers_get_the_full_score(case):
    data, task = case
    scores = task.score(task.match(lines_of(task.samples(), data.right)))
    summary = summarize(task, scores, {})
    assert summary.metrics[task.primary_metric] == pytest.approx(data.perfect)
    assert [score.value for score in scores] == pytest.approx(
        [0.8 if task.name == "llavabench" else 1.0] * len(scores)
    )
    assert summary.coverage == 1
    json.dumps(summary.to_json(), allow_nan=False)


def test_keys_of_samples_are_those_of_scores(case):
    data, task = case
    samples = task.samples()
    predictions = task.match(lines_of(samples, data.right))
    keys = [sample.key for sample in samples]
    assert list(predictions) == keys
    assert [score.key for score in task.score(predictions)] == keys
    assert [score.cluster for score in task.score(predictions)] == [s.cluster for s in samples]


def test_order_of_answers_does_not_matter(case):
    data, task = case
    lines = lines_of(task.samples(), data.right)
    figures = [task.aggregate(task.score(task.match(order(lines)))) for order in (list, reversed)]
    assert figures[0] == figures[1]


def test_last_answer_of_a_question_wins(case):
    data, task = case
    if task.name == "textvqa":
        pytest.skip("TextVQA counts every answer line")
    lines = lines_of(task.samples(), data.right)
    wrong = {**lines[0], "text": "no such thing"}
    assert task.match([wrong, *lines]) == task.match(lines)
    assert task.match([*lines, wrong])[task.samples()[0].key].text == "no such thing"


def test_missing_answer_scores_zero_and_is_counted(case):
    data, task = case
    lines = lines_of(task.samples(), data.right)
    scores = task.score(task.match(lines[1:]))
    missing = [score for score in scores if not score.answered]
    assert [(score.value, score.answer) for score in missing] == [(0.0, None)]
    failures = {missing[0].key: Failure(key=missing[0].key, cause="error", message="m")}
    summary = summarize(task, scores, failures)
    assert summary.num_answered == len(scores) - 1
    json.dumps(summary.to_json(), allow_nan=False)


def test_no_answer_at_all_still_has_figures(case):
    _, task = case
    scores = task.score({})
    assert not any(score.answered or score.value for score in scores)
    json.dumps(summarize(task, scores, {}).to_json(), allow_nan=False)


def test_any_part_of_the_scores_can_be_aggregated(case):
    data, task = case
    scores = task.score(task.match(lines_of(task.samples(), data.right)))
    for score in scores:
        summary = summarize(task, [score], {}, limit_cuts_groups=True)
        assert all(
            summary.metrics[name] is None for name in task.grouped_metrics & set(summary.metrics)
        )
    with pytest.raises(ValueError, match="at least one score"):
        task.aggregate([])


def test_answers_of_another_benchmark_are_refused(case):
    _, task = case
    prompt = "Is it?\nAnswer the question using a single word or phrase."
    with pytest.raises(DataError, match="that they were given for"):
        task.match([{"question_id": "another-1", "prompt": prompt, "text": "yes"}])


def test_stored_key_of_another_benchmark_is_refused(case):
    data, task = case
    (prediction, *_) = task.match(lines_of(task.samples(), data.right)).values()
    with pytest.raises(DataError, match="keys that are not in"):
        task.score({"another-1": prediction})


@pytest.mark.parametrize(
    "text",
    ["", " ", "\0", "\n\t", "🙂" * 9, "שלום עולם", "x" * 100_000, "yes\tno\nyes", "{", "\ud800"],
)
def test_odd_answers_are_judged_and_written(case, text):
    data, task = case
    lines = lines_of(task.samples(), [text] * len(data.right))
    scores = task.score(task.match(lines))
    assert all(score.answered and 0 <= score.value <= 1 for score in scores)
    json.dumps([score.to_line() for score in scores], allow_nan=False)


def test_data_files_name_what_is_there(case, tmp_path):
    data, task = case
    files = task.data_files()
    assert files
    assert all(path.is_file() and tmp_path in path.parents for path in files)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert data.build(data_dir=empty, **data.options).data_files() == []


def test_missing_files_are_named_with_their_origin(case, tmp_path):
    data, _ = case
    task = data.build(data_dir=tmp_path / "nowhere", **data.options)
    with pytest.raises(DataError, match=r"(does not exist|lacks the categories).*https?://"):
        task.samples()


def test_summary_tells_the_published_count_and_files_have_an_origin(case):
    data, task = case
    release = task.releases[task.split]
    assert release.num_questions > len(data.right)
    summary = summarize_unscored(task, len(data.right), 0, {})
    assert summary.expected_num_questions == release.num_questions
    assert all(where.startswith("http") or "http" in where for where in release.files.values())
