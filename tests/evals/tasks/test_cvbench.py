"""CV-Bench: golden rows."""

from evals.tasks.cvbench import CVBench
from tests.evals.small_files import cell, put_parquet

# Source, right letter, answer, and the letter that the official code reads.
GOLDEN = [("ADE20K", "B", " (b) two", "B"), ("ADE20K", "C", "The answer is C", "T")]
GOLDEN += [("COCO", "B", "Blue", "B"), ("COCO", "A", "3", None), ("Omni3D", "A", "((a)", "A")]
NOTE = "Note: You only need to respond with A, B, C, D, E, F without providing any additional "
NOTE += "information.\n\n"


def test_golden_rows(tmp_path):
    row = {"type": "2D", "task": "Count", "choices": list("234567"), "prompt": "How many?\n(A) 2"}
    own = [{"source": source, "answer": f"({right})"} for source, right, *_ in GOLDEN]
    rows = [row | fields | {"idx": n, "image": cell(n)} for n, fields in enumerate(own)]
    put_parquet(tmp_path / "test_2d.parquet", rows[:4])
    put_parquet(tmp_path / "test_3d.parquet", rows[4:])
    task = CVBench(data_dir=tmp_path)
    assert {sample.text for sample in task.samples()} == {NOTE + row["prompt"]}
    answers = [{"question_id": n, "text": text} for n, (_, _, text, _) in enumerate(GOLDEN)]
    scores = task.score(task.match(answers))
    assert [score.answer for score in scores] == [letter for *_, letter in GOLDEN]
    assert task.aggregate(scores).metrics == {"accuracy_by_source": 0.75, "accuracy": 0.6}
