"""TextVQA scores agree with LLaVA's script, answer line by answer line."""

import json
from pathlib import Path

import pytest

from evals.reading.answers import read_answers
from evals.reading.questions import read_question_lines
from evals.reading.textvqa import question_of_prompt, render_question
from evals.tasks.textvqa import TextVQA

SHARED = Path(__file__).parents[2] / "../shared"
SCORING = SHARED / "scoring/textvqa"
LLAVA = SHARED / "data/llava_eval/textvqa/llava_textvqa_val_v051_ocr.jsonl.gz"
SUFFIX = "\nAnswer the question using a single word or phrase."
pytestmark = pytest.mark.skipif(not SCORING.is_dir(), reason="the recorded cases are not here")


@pytest.mark.parametrize("order", [list, reversed])
def test_every_line_scores_as_officially(order):
    expected = json.loads((SCORING / "expected.json").read_text())
    task = TextVQA(data_dir=SCORING)
    answers = order(read_answers(SCORING / "answers.jsonl").answers)

    scores = task.score(task.match(answers))

    wanted = list(order(expected["per_line"]))
    got = [(score.question_id, score.answer) for score in scores]
    assert got == [(row["image_id"], row["prediction"]) for row in wanted]
    values = [score.value for score in scores]
    assert values == pytest.approx([row["score"] for row in wanted], abs=1e-9)
    accuracy = task.aggregate(scores).metrics["vqa_accuracy"]
    assert accuracy == pytest.approx(expected["accuracy"], abs=1e-9)


def test_real_prompts_are_rebuilt_from_question_and_tokens():
    if not LLAVA.is_file():
        pytest.skip("the real question file is not here")
    lines = list(read_question_lines(LLAVA))
    assert len(lines) == 5_000
    for line in lines:
        question = question_of_prompt(line.text)
        _, tokens, _ = line.text.split("\n")
        words = tokens.removeprefix("Reference OCR token: ").split(", ")
        assert render_question(question.lower(), words) + SUFFIX == line.text
        assert line.image_names == (f"{line.question_id}.jpg",)
