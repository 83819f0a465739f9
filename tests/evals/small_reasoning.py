"""Small data sets of MMMU, MMStar, HallusionBench and MathVista."""

from pathlib import Path
from typing import Any

from evals.tasks.hallusionbench import HallusionBench
from evals.tasks.mathvista import MathVista
from evals.tasks.mmmu import MMMU
from evals.tasks.mmstar import MMStar
from tests.evals.small_files import SmallData, cell, put_image, put_json, put_parquet


def mmmu_row(
    name: str, options: list[str], answer: str, question: str = "What is in <image 1>?"
) -> dict[str, Any]:
    """A question of val with three images, open if it has no options."""
    return {
        "id": f"validation_{name}",
        "question": question,
        "options": repr(options),
        "explanation": "",
        **{f"image_{n}": cell(n) if n <= 3 else None for n in range(1, 8)},
        "answer": answer,
        "question_type": "multiple-choice" if options else "open",
        "subfield": "made",
    }


def mmmu_rows() -> list[dict[str, Any]]:
    """Three questions, the second one about two images and the third one open."""
    return [
        mmmu_row("Sociology_1", ["class", "party"], "B"),
        mmmu_row("Art_7", ["Monet", "<image 3>"], "A"),
        mmmu_row("Math_2", [], "['24/7', '3.429']", "How long is <image 2>?"),
    ]


def write_mmmu(folder: Path) -> None:
    """The table of val."""
    put_parquet(folder / "data/validation-00000-of-00001.parquet", mmmu_rows())


def mmstar_rows() -> list[dict[str, Any]]:
    """Three questions of two categories and three smaller groups."""
    groups = [("math", "geometry"), ("math", "statistics"), ("perception", "emotion")]
    return [
        {
            "index": n,
            "question": f" What is {n}?\nOptions: A: one, B: two, C: three, D: four ",
            "image": cell(n),
            "answer": "CAD"[n],
            "category": category,
            "l2_category": group,
        }
        for n, (category, group) in enumerate(groups)
    ]


def write_mmstar(folder: Path) -> None:
    """The table."""
    put_parquet(folder / "mmstar.parquet", mmstar_rows())


def hallusionbench_records() -> list[dict[str, Any]]:
    """Two questions on a picture, one of them also on the edited one; one without a picture."""
    rows = [
        ("VD", "ocr", "1", "0", "0", "1", "./hallusion_bench/VD/ocr/0_0.png"),
        ("VD", "ocr", "1", "0", "1", "0", "./hallusion_bench/VD/ocr/0_0.png"),
        ("VD", "ocr", "2", "1", "0", "0", "./hallusion_bench/VD/ocr/0_1.png"),
        ("VS", "map", "0", "0", "0", "1", None),
    ]
    return [
        {
            "category": category,
            "subcategory": kind,
            "visual_input": visual,
            "set_id": "0",
            "figure_id": figure,
            "sample_note": "made",
            "question_id": number,
            "question": f"Is line {number} of {kind} longer?",
            "gt_answer_details": f"Details of {kind} {figure} {number}.",
            "gt_answer": answer,
            "filename": file,
        }
        for category, kind, visual, figure, number, answer, file in rows
    ]


def write_hallusionbench(folder: Path) -> None:
    """The official file and the images."""
    put_json(folder / "HallusionBench.json", hallusionbench_records())
    for number in range(2):
        put_image(folder / f"hallusion_bench/VD/ocr/0_{number}.png", number)


def mathvista_records() -> dict[str, dict[str, Any]]:
    """A question of each kind, two of them about one image."""
    rows = [
        (["Yes", "No"], None, "text", "No", "1.png"),
        (None, None, "integer", "12", "1.png"),
        (None, 1.0, "float", "1.2", "2.png"),
        (None, 2.0, "float", "1.25", "3.png"),
        (None, None, "list", "[1, 2]", "4.png"),
    ]
    metadata = {"language": "english", "source": "made", "category": "general-vqa"}
    metadata |= {"task": "geometry problem solving", "context": "bar chart", "grade": "college"}
    return {
        str(n): {
            "pid": str(n),
            "question": f"What is {n}?",
            "image": f"images/{image}",
            "choices": choices,
            "unit": "cm" if n == 3 else None,
            "precision": precision,
            "answer": answer,
            "question_type": "multi_choice" if choices else "free_form",
            "answer_type": kind,
            "metadata": {**metadata, "skills": ["logic", "algebra"][: n % 2 + 1]},
        }
        for n, (choices, precision, kind, answer, image) in enumerate(rows, start=1)
    }


def write_mathvista(folder: Path) -> None:
    """The official file and the images."""
    put_json(folder / "testmini.json", mathvista_records())
    for number in range(1, 5):
        put_image(folder / f"images/{number}.png", number)


REASONING = {
    "mmmu": SmallData(MMMU, write_mmmu, ["(B)", "A", "It is 3.43"], 1.0),
    "mmstar": SmallData(MMStar, write_mmstar, ["c", "(A)", "The answer is D"], 1.0),
    "hallusionbench": SmallData(
        HallusionBench, write_hallusionbench, ["Yes.", "No, it is not", "no"], 1.0
    ),
    "mathvista": SmallData(MathVista, write_mathvista, ["B", "12", "1.2", "1.25", "[1, 2]"], 1.0),
}
