"""Small data sets of the benchmarks that LLaVA-NeXT and LLaVA-OneVision publish."""

from pathlib import Path
from typing import Any

from evals.tasks.ai2d import AI2D
from evals.tasks.chartqa import ChartQA
from evals.tasks.cvbench import CVBench
from evals.tasks.docvqa import DocVQA
from evals.tasks.infovqa import InfoVQA
from evals.tasks.okvqa import OKVQA
from evals.tasks.realworldqa import RealWorldQA
from tests.evals.small_files import SmallData, cell, put_image, put_json, put_parquet

ANSWER_BRIEFLY = "Please answer directly with a single word or number."


def ai2d_rows() -> list[dict[str, Any]]:
    """Three questions, of which one has five options."""
    rows = [("Which stage?", ["egg", "pupa"], "1"), ("What is C?", ["a", "b", "c", "d", "e"], "4")]
    rows.append(("Which eats grass?", ["rabbit", "fox", "owl"], "0"))
    return [
        {"question": question, "options": options, "answer": answer, "image": cell(n)}
        for n, (question, options, answer) in enumerate(rows)
    ]


def write_ai2d(folder: Path) -> None:
    """The table, in two files."""
    rows = ai2d_rows()
    put_parquet(folder / "data/test-00000-of-00002.parquet", rows[:2])
    put_parquet(folder / "data/test-00001-of-00002.parquet", rows[2:])


def chartqa_records() -> dict[str, list[dict[str, Any]]]:
    """Two questions of people and one made from a text, on two charts."""
    human = [("1.png", "How many bars?", "20"), ("1.png", "Is it rising?", "Yes")]
    augmented = [("2.png", "Which share is red?", "5%")]
    return {
        half: [{"imgname": name, "query": query, "label": label} for name, query, label in rows]
        for half, rows in (("human", human), ("augmented", augmented))
    }


def write_chartqa(folder: Path) -> None:
    """The official files and the charts."""
    for half, records in chartqa_records().items():
        put_json(folder / f"test/test_{half}.json", records)
        for record in records:
            put_image(folder / "test/png" / record["imgname"], int(record["imgname"][0]))


def docvqa_records() -> list[dict[str, Any]]:
    """Three questions on two pages."""
    rows = [("a_1", "Who?", ["J. Doe"], ["form", "layout"]), ("a_1", "When?", ["1/8/93"], ["form"])]
    rows.append(("b_2", "Where?", ["New York", "N.Y."], []))
    return [
        {
            "questionId": 340 + n,
            "question": question,
            "question_types": types,
            "image": f"documents/{page}.png",
            "docId": 7,
            "ucsf_document_id": page[0],
            "ucsf_document_page_no": page[2],
            "answers": answers,
            "data_split": "val",
        }
        for n, (page, question, answers, types) in enumerate(rows)
    ]


def write_docvqa(folder: Path) -> None:
    """The official files of val and test, and the pages."""
    records = docvqa_records()
    put_json(folder / "val_v1.0_withQT.json", {"dataset_name": "docvqa", "data": records})
    hidden = ("answers", "question_types")
    asked = [{k: v for k, v in one.items() if k not in hidden} for one in records]
    put_json(folder / "test_v1.0.json", {"dataset_name": "docvqa", "data": asked})
    for number, record in enumerate(records):
        put_image(folder / record["image"], number)


def infovqa_records() -> list[dict[str, Any]]:
    """Three questions on two infographics."""
    rows = [
        (1, "Which share?", ["65%"], ["image span"], ["table/list", "textual"], []),
        (1, "How many?", ["4", "four"], ["non span"], ["map"], ["counting"]),
        (2, "Which?", ["red, blue"], ["multiple spans", "image span"], ["figure"], []),
    ]
    return [
        {
            "questionId": 100 + n,
            "question": question,
            "image_local_name": f"{image}.jpg",
            "image_url": f"https://a.org/{image}.jpg",
            "answers": answers,
            "answer_type": kinds,
            "evidence": evidence,
            "operation/reasoning": operations,
        }
        for n, (image, question, answers, kinds, evidence, operations) in enumerate(rows)
    ]


def write_infovqa(folder: Path) -> None:
    """The official file of val and the infographics."""
    records = infovqa_records()
    put_json(folder / "infographicsVQA_val_v1.0_withQT.json", {"data": records})
    for number, record in enumerate(records):
        put_image(folder / "images" / record["image_local_name"], number)


def realworldqa_rows() -> list[dict[str, Any]]:
    """Two questions with options, one with a space too many, and one without."""
    letter = "Please answer directly with only the letter of the correct option and nothing else."
    rows = [
        (f"Where to?\n\nA. Left\nB. Straight\nC. Right\n{letter}", "B"),
        (f"How many cars?\n{ANSWER_BRIEFLY}", "3"),
        (f" May I turn?\n\nA. Yes\nB. No\n{letter} ", "B"),
    ]
    return [
        {"image": cell(n), "question": question, "answer": answer}
        for n, (question, answer) in enumerate(rows)
    ]


def write_realworldqa(folder: Path) -> None:
    """The table, in two files."""
    rows = realworldqa_rows()
    put_parquet(folder / "data/test-00000-of-00002.parquet", rows[:2])
    put_parquet(folder / "data/test-00001-of-00002.parquet", rows[2:])


def cvbench_rows() -> list[dict[str, Any]]:
    """A question about each source."""
    asked = [("2D", "ADE20K", "B"), ("2D", "COCO", "A"), ("3D", "Omni3D", "A")]
    row = {"task": "Count", "choices": ["2", "3"], "prompt": "How many?\n(A) 2\n(B) 3"}
    return [
        {**row, "idx": n, "image": cell(n), "type": kind, "source": source, "answer": f"({right})"}
        for n, (kind, source, right) in enumerate(asked)
    ]


def write_cvbench(folder: Path) -> None:
    """Both tables."""
    rows = cvbench_rows()
    put_parquet(folder / "test_2d.parquet", rows[:2])
    put_parquet(folder / "test_3d.parquet", rows[2:])


def okvqa_files() -> tuple[dict[str, Any], dict[str, Any]]:
    """Questions and annotations: three questions on two images."""
    rows = [(12, "What sport?", ["race"] * 7 + ["ride"] * 3, "four")]
    rows += [(12, "What breed?", ["collie"] * 10, "six"), (13, "Which year?", ["1990"] * 10, "one")]
    asked = [
        {"image_id": image, "question": question, "question_id": image * 10 + n}
        for n, (image, question, _, _) in enumerate(rows)
    ]
    said = [
        {
            "image_id": image,
            "question_id": image * 10 + n,
            "question_type": kind,
            "answer_type": "other",
            "answers": [
                {"answer_id": m, "raw_answer": f"{one}s", "answer": one}
                for m, one in enumerate(answers, start=1)
            ],
        }
        for n, (image, _, answers, kind) in enumerate(rows)
    ]
    return {"questions": asked}, {"annotations": said}


def write_okvqa(folder: Path) -> None:
    """The official files and the images."""
    questions, annotations = okvqa_files()
    put_json(folder / "OpenEnded_mscoco_val2014_questions.json", questions)
    put_json(folder / "mscoco_val2014_annotations.json", annotations)
    for number in (12, 13):
        put_image(folder / f"val2014/COCO_val2014_{number:012d}.jpg", number)


NEWER = {
    "ai2d": SmallData(AI2D, write_ai2d, ["B", "(e)", "A. rabbit"], 1.0),
    "chartqa": SmallData(ChartQA, write_chartqa, ["21", "yes", "0.05"], 1.0),
    "docvqa": SmallData(DocVQA, write_docvqa, ["j. doe", "1/8/93", "N.Y."], 1.0),
    "infovqa": SmallData(InfoVQA, write_infovqa, ["65%", "Four", "Red,  blue"], 1.0),
    "realworldqa": SmallData(RealWorldQA, write_realworldqa, ["Straight on.", "Three", "b"], 1.0),
    "cvbench": SmallData(CVBench, write_cvbench, ["Blue", "(a) 2", "A"], 1.0),
    "okvqa": SmallData(OKVQA, write_okvqa, ["Race.", "collie", "1990"], 1.0),
}
