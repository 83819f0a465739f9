import pytest

from evals.errors import DataError
from evals.tasks.realworldqa import RealWorldQA
from tests.evals.small_files import cell, put_parquet

DIRECTION = "Where to?\n\nA. Left\nB. Straight\nC. Right\nSay the letter."
SIGN = "What is it?\n\nA. Slow down.\nB. Stop.\nC. No parking"
TURN = "May I turn?\n\nA. Yes\nB. No\nC. Not enough information"
OPEN = "How many?\nPlease answer directly with a single word or number."


def build(folder, question=OPEN, answer="3"):
    rows = [{"image": cell(1), "question": question, "answer": answer}]
    put_parquet(folder / "data/test-00000-of-00001.parquet", rows)
    return RealWorldQA(data_dir=folder)


@pytest.mark.parametrize(
    ("question", "target", "text", "answer", "is_right"),
    [
        # Numbers: a whole reply in words becomes digits; signs and points are lost.
        (OPEN, "3", "Three", "3", True),
        (OPEN, "3", "Three.", "three", False),
        (OPEN, "three", "3", "3", False),
        (OPEN, "10", "TEN", "10", True),
        (OPEN, "1", "-1", "1", True),
        (OPEN, "15", "1.5", "15", True),
        (OPEN, "1.5", "15", "15", True),
        (OPEN, "Dark red", "dark-red", "darkred", False),
        # Texts of options are searched, in their case, wherever they stand.
        (DIRECTION, "A", "A", "a", True),
        (DIRECTION, "A", "(A)", "a", True),
        (DIRECTION, "A", "B. Left", "a", True),
        (DIRECTION, "A", "It goes Left, then Right", "a", True),
        (DIRECTION, "A", "Right, not Left", "c", False),
        (DIRECTION, "A", "left", "left", False),
        (DIRECTION, "B", "The answer is B", "the answer is b", False),
        (DIRECTION, "B", "B\n", "b", True),
        (TURN, "B", "North", "b", True),
        (TURN, "B", "Nothing", "b", True),
        # `No` stands before the longer option that it begins.
        (TURN, "C", "Not enough information", "b", False),
        # An option that ends in punctuation is never found.
        (SIGN, "B", "Stop.", "stop", False),
        (SIGN, "B", "B. Stop.", "b stop", False),
        (SIGN, "C", "No parking", "c", True),
        # Letters count in order, and of equal texts the later one.
        ("Q\nB. x\nC. y", "A", "x", "a", True),
        ("Q\nA. x\nB. x", "B", "x", "b", True),
        # An empty option is found in anything.
        ("Q\nA. x\nB. ", "B", "zzz", "b", True),
    ],
)
def test_reply_is_filtered_and_compared(tmp_path, question, target, text, answer, is_right):
    task = build(tmp_path, question, target)
    [score] = task.score(task.match([{"question_id": 0, "text": text}]))
    assert (score.answer, score.value) == (answer, float(is_right))


def test_prompt_is_the_question_alone(tmp_path):
    [sample] = build(tmp_path, f" {OPEN}\n").samples()
    assert sample.text == OPEN


def test_broken_row_is_located(tmp_path):
    with pytest.raises(DataError, match=r"row 0: `answer` must be str, but is null"):
        build(tmp_path, answer=None).score({})
