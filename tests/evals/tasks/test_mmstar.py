import pytest

from evals.errors import DataError
from evals.tasks.mmstar import MMStar
from tests.evals.small_files import put_parquet
from tests.evals.small_reasoning import mmstar_rows, write_mmstar


def score(folder, *texts):
    task = MMStar(data_dir=folder)
    scores = task.score(
        task.match([{"question_id": n, "text": text} for n, text in enumerate(texts)])
    )
    return scores, task.aggregate(scores)


def test_mean_over_groups_is_another_figure_than_that_over_questions(tmp_path):
    rows = mmstar_rows()
    rows[1]["l2_category"] = "geometry"
    put_parquet(tmp_path / "mmstar.parquet", rows)
    scores, figures = score(tmp_path, "Cat", "B", "option D")
    assert [(s.value, s.answer) for s in scores] == [(1.0, "C"), (0.0, "B"), (1.0, "D")]
    assert figures.metrics == {"accuracy": pytest.approx(2 / 3), "accuracy_l2_mean": 0.75}
    assert figures.breakdowns["category"]["math"] == {"accuracy": 0.5, "num_questions": 2}
    assert list(figures.breakdowns["l2_category"]) == ["emotion", "geometry"]


def test_answers_without_a_letter_are_counted(tmp_path):
    write_mmstar(tmp_path)
    scores, figures = score(tmp_path, "**C**", "")
    assert [s.answer for s in scores] == [None] * 3
    assert figures.num_unparsed == 2


def test_prompt_is_stripped_and_asks_for_the_letter_alone(tmp_path):
    rows = mmstar_rows()
    rows[0]["question"] = " Is it? Please answer yes or no.\nOptions: A: a, B: b "
    put_parquet(tmp_path / "mmstar.parquet", rows)
    first, second, _ = MMStar(data_dir=tmp_path).samples()
    ending = "\nAnswer with the option's letter from the given choices directly"
    assert first.text == f"Is it?\nOptions: A: a, B: b{ending}"
    assert second.text == f"What is 1?\nOptions: A: one, B: two, C: three, D: four{ending}"


@pytest.mark.parametrize("answer", ["E", "b", "", "AB"])
def test_answer_that_is_no_letter_is_refused(tmp_path, answer):
    put_parquet(tmp_path / "mmstar.parquet", [{**mmstar_rows()[0], "answer": answer}])
    with pytest.raises(DataError, match="row 0: `answer` must be one of the letters ABCD"):
        MMStar(data_dir=tmp_path).score({})
