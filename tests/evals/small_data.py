"""Small data sets in the official file format of each benchmark, with images, made on the spot."""

import base64
import csv
from pathlib import Path
from typing import Any

from evals.benchmark import Benchmark
from evals.reading.mme import CATEGORIES
from evals.tasks.llavabench import LLaVABench
from evals.tasks.mmbench import MMBench
from evals.tasks.mme import MME
from evals.tasks.mmvet import MMVet
from evals.tasks.pope import POPE
from evals.tasks.seedbench import SeedBench
from evals.tasks.textvqa import TextVQA
from evals.tasks.vizwiz import VizWiz
from tests.evals.small_files import SmallData, encode, put_image, put_json, put_lines
from tests.evals.small_newer import NEWER
from tests.evals.small_reasoning import REASONING


def textvqa_records() -> list[dict[str, Any]]:
    """Three questions on two images."""
    rows = [("0a", "what is the brand?", "nokia"), ("0a", "what time is it?", "10:08")]
    rows.append(("1b", "what does it say?", "stop"))
    return [
        {"question_id": n, "image_id": image, "question": question, "answers": [answer] * 10}
        for n, (image, question, answer) in enumerate(rows)
    ]


def write_textvqa(folder: Path) -> None:
    """The official file, the OCR file and the images."""
    put_json(folder / "TextVQA_0.5.1_val.json", {"data": textvqa_records()})
    ocr = [
        {"image_id": "0a", "ocr_tokens": ["NOKIA", "10:08"]},
        {"image_id": "1b", "ocr_tokens": []},
    ]
    put_json(folder / "TextVQA_Rosetta_OCR_v0.2_val.json", {"data": ocr})
    for number, name in enumerate(("0a", "1b")):
        put_image(folder / f"train_images/{name}.jpg", number)


def vizwiz_records() -> list[dict[str, Any]]:
    """Three questions."""
    rows = [("what is this?", "soup", "other"), ("is it on?", "no", "yes/no")]
    rows.append(("what now?", "unanswerable", "unanswerable"))
    return [
        {
            "image": f"VizWiz_val_{7 + n:08d}.jpg",
            "question": question,
            "answers": [{"answer": answer, "answer_confidence": "yes"}] * 10,
            "answer_type": kind,
            "answerable": int(kind != "unanswerable"),
        }
        for n, (question, answer, kind) in enumerate(rows)
    ]


def write_vizwiz(folder: Path) -> None:
    """The official file of val and the images."""
    put_json(folder / "val.json", vizwiz_records())
    for number, record in enumerate(vizwiz_records()):
        put_image(folder / "val" / record["image"], number)


def pope_records(category: str) -> list[dict[str, Any]]:
    """Two questions of a category on one image."""
    return [
        {
            "question_id": number,
            "image": "COCO_val2014_000000000042.jpg",
            "text": f"Is there a {category} thing {number} in the image?",
            "label": label,
        }
        for number, label in ((1, "yes"), (2, "no"))
    ]


def write_pope(folder: Path) -> None:
    """The three official files and the image."""
    for category in ("adversarial", "random", "popular"):
        put_lines(folder / f"coco/coco_pope_{category}.json", pope_records(category))
    put_image(folder / "val2014/COCO_val2014_000000000042.jpg", 1)


def write_mme(folder: Path) -> None:
    """One image for each category, in both layouts."""
    for number, category in enumerate(CATEGORIES):
        place = folder / "MME_Benchmark_release_version" / category
        nested = number % 2 == 0
        texts = place / "questions_answers_YN" if nested else place
        texts.mkdir(parents=True)
        lines = [f"Is it {category}? Please answer yes or no.\tYes"]
        lines.append("Is it another thing?  Please answer yes or no.\tNo")
        (texts / "0001.txt").write_text("\n".join(lines) + "\n")
        put_image((place / "images" if nested else place) / "0001.png", number)


def mmbench_rows() -> list[dict[str, Any]]:
    """Two questions: one with a hint in three passes, one with an empty option in two."""
    rows = []
    options = ["a frog", "N/A cup", "7"]
    for turn in range(3):
        turned = options[-turn:] + options[:-turn] if turn else options
        rows.append(
            (5 + turn * 10**6, "Which one?", "Look at\nit.", turned, turned.index("a frog"))
        )
    for turn, turned in enumerate((["left", "right"], ["right", "left"])):
        rows.append((8 + turn * 10**6, "Where?", "", [*turned, "None"], turned.index("right")))
    return [
        {
            "index": index,
            "question": question,
            "hint": hint,
            **dict(zip("ABCD", [*cells, "", ""], strict=False)),
            "answer": "ABCD"[answer],
            "category": f"kind {index % 10**6}",
            "image": base64.b64encode(encode(index)).decode(),
            "source": "made",
            "l2-category": "seeing",
            "comment": "",
            "split": "dev",
        }
        for index, question, hint, cells, answer in rows
    ]


def write_tsv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes a table with tabs, quoted where need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_mmbench(folder: Path) -> None:
    """The table of dev_20230712."""
    write_tsv(folder / "mmbench_dev_20230712.tsv", mmbench_rows())


def write_mmbench_cn(folder: Path) -> None:
    """The table of dev_cn_20231003."""
    write_tsv(folder / "mmbench_dev_cn_20231003.tsv", mmbench_rows())


def seed_records() -> list[dict[str, Any]]:
    """Two questions on images and one on a video."""
    return [
        {
            "question_id": question_id,
            "question": f"What is in {question_id}?",
            **{f"choice_{letter}": f"{letter} thing" for letter in "abcd"},
            "answer": answer,
            "data_id": data_id,
            "data_type": kind,
            "question_type_id": number,
        }
        for question_id, answer, data_id, kind, number in (
            ("101", "A", "77_88", "image", 1),
            ("102", "D", "77_99", "image", 2),
            ("v1", "B", "clip.png", "video", 2),
        )
    ]


def write_seedbench(folder: Path) -> None:
    """The official file and the images."""
    types = {"Scene Understanding": 1, "Instance Identity": 2}
    put_json(folder / "SEED-Bench.json", {"questions": seed_records(), "question_type": types})
    for number, record in enumerate(seed_records()):
        kind = "image" if record["data_type"] == "image" else "video-image"
        put_image(folder / f"SEED-Bench-{kind}" / record["data_id"], number)


def write_mmvet(folder: Path) -> None:
    """The official file, the images, and the grades of two runs."""
    rows = [("1<AND>2", ["ocr", "math"]), ("a cat", ["rec"])]
    content = {
        f"v1_{n}": {
            "imagename": f"v1_{n}.png",
            "question": f"Question {n}?",
            "answer": answer,
            "capability": capability,
        }
        for n, (answer, capability) in enumerate(rows)
    }
    put_json(folder / "mm-vet.json", content)
    grades = {key: {"model": ["j", "j"], "content": ["1.0", "1.0"]} for key in content}
    put_json(folder / "grades.json", grades)
    for number in range(2):
        put_image(folder / f"images/v1_{number}.png", number)


def write_llavabench(folder: Path) -> None:
    """Questions, contexts, reference answers, images, and one review each."""
    kinds = ("conv", "detail", "complex")
    lines = [
        {"question_id": n, "image": f"{n:03d}.jpg", "category": kind, "text": f"Question {n}?"}
        for n, kind in enumerate(kinds)
    ]
    put_lines(folder / "questions.jsonl", lines)
    put_lines(
        folder / "context.jsonl",
        [{"image": f"{n:03d}.jpg", "caption": f"Caption {n}."} for n in range(3)],
    )
    put_lines(
        folder / "answers_gpt4.jsonl",
        [{"question_id": n, "text": f"Reference {n}."} for n in range(3)],
    )
    put_lines(
        folder / "reviews.jsonl",
        [{"question_id": n, "content": "8 8\nBoth are fine."} for n in range(3)],
    )
    for number in range(3):
        put_image(folder / f"images/{number:03d}.jpg", number)


def build_mmvet(data_dir: Path, **options: Any) -> Benchmark:
    """The task with its grades."""
    return MMVet(data_dir=data_dir, judge="j", replies=data_dir / "grades.json", **options)


def build_llavabench(data_dir: Path, **options: Any) -> Benchmark:
    """The task with its reviews."""
    return LLaVABench(data_dir=data_dir, replies=data_dir / "reviews.jsonl", **options)


SMALL_DATA = {
    "textvqa": SmallData(TextVQA, write_textvqa, ["Nokia.", "10:08", "Stop"], 1.0),
    "vizwiz": SmallData(
        VizWiz, write_vizwiz, ["Soup", "No.", "Unanswerable"], 1.0, {"split": "val"}
    ),
    "pope": SmallData(POPE, write_pope, ["Yes", "No, it is not"] * 3, 1.0),
    "mme": SmallData(MME, write_mme, ["Yes", "No"] * 14, 2000.0),
    "mmbench": SmallData(MMBench, write_mmbench, ["A", "(B)", "C. a frog", "B", "A"], 1.0),
    "mmbench_cn": SmallData(
        MMBench,
        write_mmbench_cn,
        ["A", "B", "C", "B", "A"],
        1.0,
        {"split": "dev_cn_20231003", "language": "cn"},
    ),
    "seedbench": SmallData(SeedBench, write_seedbench, ["A", "D", "B"], 1.0),
    "mmvet": SmallData(build_mmvet, write_mmvet, ["1 and 2", "A cat."], 1.0),
    "llavabench": SmallData(build_llavabench, write_llavabench, ["One.", "Two.", "Three."], 1.0),
    **NEWER,
    **REASONING,
}
