"""What a question costs the process that reads, deals and stores, and what opening a run costs.

    python -m tests.benchmarks.parent_cost [--resume 450000] [--output results/bench/parent.json]

Runs of generated questions in the shapes of GQA and VQAv2 go through `runners.eval` with a worker
whose engine answers at once. What is measured is the processor time of the parent, by part. With
`--resume`, a run of VQAv2's test split with so many stored answers is opened again, once with a few
questions that are still to be asked and once with none.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from llava.generation.request import Request
from runners.environment import installed_version
from runners.storage.answer_lines import answer_line, trace_line
from runners.storage.files import json_line, sha256_of_json
from tests.benchmarks.instant_engine import completion

CHECKOUT = Path(__file__).parents[2]
QUESTIONS_PER_IMAGE = {"gqa": 31, "vqav2": 5}
WORDS = re.findall(
    r"\S+",
    "What color is the man's shirt that stands to left of a wooden table near some small white "
    "dogs holding umbrella behind two large windows which kind animal are there any people wearing "
    "hats on both sides of this picture or does it look like sunny weather is how many",
)
MIB = 2**20


def write_gqa(folder: Path, num_questions: int) -> list[str]:
    """Writes the files of a split; returns the options that name it."""
    draw, questions = random.Random(0), {}
    for number in range(num_questions):
        words = ask(draw)
        questions[f"{number:08d}"] = {
            "question": words,
            "answer": "yes",
            "imageId": f"n{number // QUESTIONS_PER_IMAGE['gqa']}",
            "isBalanced": True,
            "groups": {"global": None, "local": f"06-{words[:8]}"},
            "entailed": [],
            "types": {"structural": "query", "semantic": "attr", "detailed": "chooseAttr"},
            "semantic": [
                {"operation": "select", "dependencies": [], "argument": "table (1058517)"},
                {"operation": "relate", "dependencies": [0], "argument": "man,left,s (1058529)"},
                {"operation": "query", "dependencies": [1], "argument": "color"},
            ],
            "annotations": {"question": {"2": "1058517"}, "answer": {}, "fullAnswer": {}},
        }
    names = {f"{question['imageId']}.jpg" for question in questions.values()}
    place_images(folder / "data/images", names)
    (folder / "data/demo_questions.json").write_text(json.dumps(questions))
    return ["task=gqa", f"tasks.gqa.data_dir={folder}", "tasks.gqa.split=demo"]


def write_vqav2(folder: Path, num_questions: int) -> list[str]:
    """Writes the files of an annotated split; returns the options that name it."""
    draw, questions, annotations = random.Random(0), [], []
    for number in range(num_questions):
        image_id = number // QUESTIONS_PER_IMAGE["vqav2"] + 1
        ids = {"question_id": 1000 * image_id + number, "image_id": image_id}
        questions.append({**ids, "question": ask(draw)})
        said = [draw.choice(["yes", "no", "a red hat", "2"]) for _ in range(10)]
        annotations.append(
            {
                **ids,
                "question_type": draw.choice(["what is", "is the", "how many"]),
                "answer_type": draw.choice(["yes/no", "number", "other"]),
                "multiple_choice_answer": said[0],
                "answers": [
                    {"answer": answer, "answer_confidence": "yes", "answer_id": place}
                    for place, answer in enumerate(said, start=1)
                ],
            }
        )
    names = {f"COCO_demo_{question['image_id']:012d}.jpg" for question in questions}
    place_images(folder / "demo", names)
    for name, content in (
        ("v2_OpenEnded_mscoco_demo_questions.json", {"questions": questions}),
        ("v2_mscoco_demo_annotations.json", {"annotations": annotations}),
    ):
        (folder / name).write_text(json.dumps(content))
    return ["task=vqav2", f"tasks.vqav2.data_dir={folder}", "tasks.vqav2.split=demo"]


def write_vqav2_test(folder: Path, num_questions: int) -> list[str]:
    """Writes LLaVA's question file of the split that a server scores; returns the options."""
    draw, names = random.Random(0), {}
    folder.mkdir(parents=True)
    with (folder / "llava_vqav2_mscoco_test2015.jsonl").open("w", encoding="utf-8") as file:
        for number in range(num_questions):
            image = number // QUESTIONS_PER_IMAGE["vqav2"] + 1
            names[name := f"COCO_test2015_{image:012d}.jpg"] = None
            text = f"{ask(draw)}\nAnswer the question using a single word or phrase."
            line = {"question_id": 1000 * image + number, "image": name, "text": text}
            file.write(json.dumps({**line, "category": "default"}) + "\n")
    place_images(folder / "test2015", names)
    return [
        *("task=vqav2", f"tasks.vqav2.data_dir={folder}", "tasks.vqav2.split=test2015"),
        "check_counts=false",
    ]


def ask(draw: random.Random) -> str:
    """A question of about eight words."""
    return " ".join(draw.choices(WORDS, k=draw.randint(4, 12))) + "?"


def place_images(folder: Path, names: Any) -> None:
    """Puts a file where each image is looked for; nobody opens it."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(b"")


def measure(folder: Path, options: list[str]) -> dict[str, Any]:
    """The report of one run of the program, in a process of its own."""
    report = folder / "report.json"
    common = ["engine=instant", "canary=off", "runner.num_threads=1", "run=r"]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "XDG_CACHE_HOME": str(folder)}
    command = [sys.executable, "-m", "tests.benchmarks.measured_eval", str(report)]
    done = subprocess.run(
        [*command, *options, *common, f"results_dir={folder / 'results'}"],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"the run ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return found


def whole_run(
    write: Callable[[Path, int], list[str]], num_questions: int, pause_s: float
) -> dict[str, Any]:
    """The figures of a run from its first question to its table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = write(folder / "data", num_questions)
        found = measure(folder, [*options, f"engine.pause_s={pause_s}"])
    parts = found["parts"]
    start_up = parts.pop("start-up")
    each = {part: round(1e3 * seconds / num_questions, 4) for part, seconds in parts.items()}
    return {
        "num_questions": num_questions,
        "ms_per_question": round(sum(each.values()), 4),
        "ms_per_question_by_part": each,
        "start_up_s": round(start_up, 2),
        "cpu_s": round(found["cpu_s"], 2),
        "peak_mib": round(found["peak_bytes"] / MIB),
    }


def resumed_run(num_answers: int) -> dict[str, Any]:
    """The figures of opening a run again with a few questions to be asked, and with none."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = write_vqav2_test(folder / "data", num_answers)
        measure(folder, [*options, "limit=8"])
        stored = folder / "results/r/vqav2"
        (stored / "summary.json").unlink()
        store_answers(folder / "data", stored, num_answers - 8)
        pending = measure(folder, options)
        attempts = (stored / "trace.jsonl").read_text(encoding="utf-8").splitlines()
        whole = measure(folder, options)
    if len(attempts) != num_answers:
        sys.exit(f"{len(attempts)} answers are stored, not {num_answers}")
    return {
        "num_answers": num_answers,
        "num_pending": 8,
        "until_pending_is_known": _shown(pending["until_pending"]),
        "with_pending": _shown(pending) | {"parts_s": _rounded(pending["parts"])},
        "all_stored": _shown(whole) | {"parts_s": _rounded(whole["parts"])},
    }


def store_answers(data: Path, folder: Path, num_answers: int) -> None:
    """Writes so many answers into a run that has none of its own yet, as a program would have."""
    from evals.tasks.vqav2 import VQAv2

    samples = VQAv2(data_dir=data, split="test2015").samples()
    model_id = json.loads((folder / "predictions.jsonl").read_text().splitlines()[0])["model_id"]
    with (
        (folder / "predictions.jsonl").open("w", encoding="utf-8") as lines,
        (folder / "trace.jsonl").open("w", encoding="utf-8") as traces,
    ):
        for sample in islice(samples, num_answers):
            done = completion(Request(key=sample.key, prompt_ids=range(60), images=sample.images))
            line = answer_line(sample, done, model_id)
            stats = list(_states(sample.images[0].path))
            trace = trace_line(done, worker="local-0", attempts=1, image_stat=stats)
            traces.write(json_line({**trace, "line_sha256": sha256_of_json(line)}))
            lines.write(json_line(line))


def _states(path: Path) -> Iterator[list[int]]:
    from llava.content_hash import state_of

    yield state_of(path.stat())


def _shown(found: dict[str, Any]) -> dict[str, Any]:
    return {"cpu_s": round(found["cpu_s"], 1), "peak_mib": round(found["peak_bytes"] / MIB)}


def _rounded(parts: dict[str, float]) -> dict[str, float]:
    return {part: round(seconds, 2) for part, seconds in parts.items()}


def main() -> None:
    """Measures and writes the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--num-questions", type=int, default=20_000)
    parser.add_argument("--pause-s", type=float, default=0.0, help="between two answers")
    parser.add_argument("--resume", type=int, default=0, help="stored answers of a run; 0 for none")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    report: dict[str, Any] = {
        "device": {"name": "CPU", "machine": platform.machine()},
        "versions": {
            "python": platform.python_version(),
            "transformers": installed_version("transformers"),
            "sentencepiece": installed_version("sentencepiece"),
        },
    }
    if options.num_questions:
        report["whole_run"] = {
            "gqa": whole_run(write_gqa, options.num_questions, options.pause_s),
            "vqav2": whole_run(write_vqav2, options.num_questions, options.pause_s),
        }
    if options.resume:
        report["resume"] = resumed_run(options.resume)
    text = json.dumps(report, indent=2) + "\n"
    sys.stdout.write(text)
    if options.output:
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
