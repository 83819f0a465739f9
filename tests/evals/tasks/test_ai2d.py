import pytest

from evals.errors import DataError
from evals.tasks.ai2d import AI2D
from tests.evals.small_files import cell, put_parquet


def build(folder, **changes):
    row = {"question": "Which?", "options": ["x", "fox", "c", "d"], "answer": "1", "image": cell(1)}
    put_parquet(folder / "data/test-00000-of-00001.parquet", [{**row, **changes}])
    return AI2D(data_dir=folder)


def score(task, text):
    return task.score(task.match([{"question_id": 0, "text": text}]))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        *((text, "b") for text in ("B", "b", "(B)", "**B**", "B:", "B.", "B. fox", "B.5")),
        *((text, "b") for text in (" B. fox", "\nB.x", "\u3000B. fox", "B. A. x", " b ")),
        ("b. fox", "b fox"),
        ("B) fox", "b fox"),
        ("Option B", "option b"),
        ("The answer is B", "the answer is b"),
        ("B .", "b "),
        ("fox", "fox"),
        ("B fox", "b fox"),
        ("Ｂ", "ｂ"),
        ("", ""),
    ],
)
def test_letter_first_or_alone_is_the_answer(tmp_path, text, answer):
    [scored] = score(build(tmp_path), text)
    assert (scored.answer, scored.value) == (answer, float(answer == "b"))


@pytest.mark.parametrize(
    ("text", "num_unparsed"), [("a", 0), ("D.", 0), ("E", 1), ("fox", 1), ("", 1), ("ab", 1)]
)
def test_what_is_no_letter_of_the_options_is_counted(tmp_path, text, num_unparsed):
    task = build(tmp_path)
    assert task.aggregate(score(task, text)).num_unparsed == num_unparsed
    assert task.aggregate(task.score({})).num_unparsed == 0


def test_prompt_has_a_line_an_option(tmp_path):
    [sample] = build(tmp_path, question=" Which ", options=["x", "y z "]).samples()
    assert sample.text == (
        " Which \nA. x\nB. y z \nAnswer with the option's letter from the given choices directly."
    )
    assert (sample.question_id, sample.key, sample.cluster) == (0, "0", "0")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": "4"}, r"test: row 0: `answer` must be the number of one of the 4 options"),
        ({"answer": "B"}, "`answer` must be the number"),
        ({"answer": "-1"}, "`answer` must be the number"),
        ({"options": ["x"] * 27}, "`options` must be 1 to 26 texts, but are 27"),
        ({"options": [1, 2]}, "`options` must be a list of texts"),
        ({"question": None}, "`question` must be str"),
    ],
)
def test_broken_row_is_located(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        build(tmp_path, **changes).score({})


def test_split_without_mask_is_another_table(tmp_path):
    with pytest.raises(DataError, match="lmms-lab/ai2d-no-mask"):
        AI2D(data_dir=tmp_path, split="test_no_mask").samples()
    with pytest.raises(ValueError, match="`split` of ai2d"):
        AI2D(data_dir=tmp_path, split="val")
