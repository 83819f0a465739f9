import pytest

from evals.errors import DataError
from evals.tasks.chartqa import ChartQA
from tests.evals.small_files import cell, put_json, put_parquet
from tests.evals.small_newer import write_chartqa


def test_figures_are_told_by_half(tmp_path):
    write_chartqa(tmp_path)
    task = ChartQA(data_dir=tmp_path)
    lines = [{"question_id": n, "text": text} for n, text in enumerate(["19", "no", "5 %"])]
    scores = task.score(task.match(lines))
    assert [(s.value, s.answer) for s in scores] == [(1.0, "19"), (0.0, "no"), (1.0, "5 %")]
    assert task.aggregate(scores).metrics == {
        "relaxed_accuracy": pytest.approx(2 / 3),
        "relaxed_accuracy_human": 0.5,
        "relaxed_accuracy_augmented": 1.0,
    }
    assert task.aggregate(scores[:1]).metrics["relaxed_accuracy_augmented"] is None


def test_questions_are_numbered_from_human_to_augmented(tmp_path):
    write_chartqa(tmp_path)
    samples = ChartQA(data_dir=tmp_path).samples()
    assert [(s.question_id, s.cluster) for s in samples] == [
        (0, "1.png"),
        (1, "1.png"),
        (2, "2.png"),
    ]
    assert samples[0].text == "How many bars?\nAnswer the question with a single word."


def test_unknown_half_is_refused(tmp_path):
    row = {"type": "val", "question": "q", "answer": "a", "image": cell(1)}
    put_parquet(tmp_path / "data/test-00000-of-00001.parquet", [row])
    with pytest.raises(DataError, match=r"row 0: `type` must be human_test or augmented_test"):
        ChartQA(data_dir=tmp_path).score({})


def test_half_of_the_official_files_is_not_enough(tmp_path):
    write_chartqa(tmp_path)
    (tmp_path / "test/test_augmented.json").unlink()
    with pytest.raises(DataError, match=r"test_augmented\.json does not exist.*serves as well"):
        ChartQA(data_dir=tmp_path).score({})
    put_json(tmp_path / "test/test_augmented.json", {"a": 1})
    with pytest.raises(DataError, match="must be a list of questions"):
        ChartQA(data_dir=tmp_path).score({})
    put_json(tmp_path / "test/test_augmented.json", [{"query": "q", "label": "a"}])
    with pytest.raises(DataError, match=r"\[0\] lacks the field `imgname`"):
        ChartQA(data_dir=tmp_path).score({})
