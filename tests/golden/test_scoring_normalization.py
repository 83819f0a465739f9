"""The normalizers agree with the official ones on recorded strings."""

import json
from pathlib import Path

import pytest

from evals import normalize

SCORING = Path(__file__).parents[2] / "../shared/scoring"
pytestmark = pytest.mark.skipif(not SCORING.is_dir(), reason="the recorded cases are not here")


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("normalize_vqa", "vqa_eval.jsonl"),
        ("normalize_m4c", "m4c.jsonl"),
        ("normalize_vizwiz", "vizwiz_eval.jsonl"),
    ],
)
def test_every_recorded_string_is_normalized_as_officially(name, file):
    function = getattr(normalize, name)
    rows = read_lines(SCORING / "normalization" / file)
    different = [
        (row, function(row["raw"]))
        for row in rows
        if function(row["raw"]) not in (row["normalized"], row.get("normalized_python3"))
    ]
    assert len(rows) > 500
    assert different == []


def test_vqav2_upload_holds_m4c_text():
    place = SCORING / "vqav2/submission"
    texts = {}
    for line in (place / "merge.jsonl").read_text(encoding="utf-8").split("\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        texts[row["question_id"]] = row["text"]
    upload = json.loads((place / "expected_upload.json").read_text(encoding="utf-8"))
    answered = [row for row in upload if row["question_id"] in texts]
    assert answered
    for row in answered:
        assert normalize.normalize_m4c(texts[row["question_id"]]) == row["answer"]
