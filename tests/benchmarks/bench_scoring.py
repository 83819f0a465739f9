"""Scoring 214,354 VQAv2 answers: time, memory and imports beside a direct reading of the rules.

    python -m tests.benchmarks.bench_scoring [--output results/bench/scoring.json]

The set is made from the recorded cases in `../shared/scoring/vqav2`, or, without them, from answers
made up here: each question has the annotators and the answer of a recorded one, and one text in
twenty gets a number after it, so that texts do not merely repeat. Each side runs in a process of
its own, from the files to the figure, and reports its processor time and its peak memory. `ratio`
compares what is left after reading the two files with the standard library;
`ratio_with_reading` compares everything.
"""

import argparse
import json
import platform
import random
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
RECORDED = CHECKOUT / "../shared/scoring/vqav2"
NUM_QUESTIONS = 214_354
ANNOTATIONS = "v2_mscoco_val2014_annotations.json"
WORDS = ["yes", "no", "two", "red", "the cat, man.", "dog's hat", "dont", "5,000", "left-hand"]
GIB = 2**30
_SHARE_VARIED = 0.05

OURS = """
from evals.reading.answers import read_answers
from evals.figures.summary import summarize
from evals.tasks.vqav2 import VQAv2
task = VQAv2(data_dir=folder, split="val")
scores = task.score(task.match(read_answers(answers).answers))
figure = summarize(task, scores, {}).metrics["vqa_accuracy"]
"""
DIRECT = """
from pathlib import Path
from tests.benchmarks.direct_vqa import score_files
figure = score_files(Path(folder), Path(answers))
"""
READING = """
import json
from pathlib import Path
content = json.loads((Path(folder) / "v2_mscoco_val2014_annotations.json").read_text())
lines = [json.loads(line) for line in open(answers)]
figure = None
"""
MEASURE = """
import json, resource, sys, time
folder, answers = sys.argv[1:]
begin = time.process_time()
{body}
seconds = time.process_time() - begin
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({{"accuracy": figure, "cpu_seconds": seconds, "peak_memory_bytes": peak,
                   "imports_torch": "torch" in sys.modules}}))
"""


def recorded_cases() -> list[tuple[dict, str]]:
    """Annotations, each with an answer."""
    if not RECORDED.is_dir():
        draw = random.Random(0)
        texts = [[draw.choice(WORDS) for _ in range(11)] for _ in range(300)]
        return [(_annotation(words[1:]), words[0]) for words in texts]
    annotations = json.loads((RECORDED / ANNOTATIONS).read_text())["annotations"]
    lines = map(json.loads, (RECORDED / "answers.jsonl").read_text().splitlines())
    texts = {line["question_id"]: line["text"] for line in lines}
    return [(annotation, texts[annotation["question_id"]]) for annotation in annotations]


def _annotation(answers: list[str]) -> dict:
    records = [
        {"answer": answer, "answer_confidence": "yes", "answer_id": number}
        for number, answer in enumerate(answers, start=1)
    ]
    return {
        "question_type": "what",
        "answer_type": "other",
        "multiple_choice_answer": answers[0],
        "answers": records,
    }


def write_set(folder: Path, num_questions: int) -> Path:
    """Writes annotations and answers and returns the path of the answers."""
    cases, draw = recorded_cases(), random.Random(1)
    annotations = []
    answers = folder / "answers.jsonl"
    with answers.open("w", encoding="utf-8") as file:
        for number in range(num_questions):
            annotation, text = cases[number % len(cases)]
            ids = {"question_id": 1000 + number, "image_id": number // 5}
            records = [{**x, "answer": _vary(x["answer"], draw)} for x in annotation["answers"]]
            annotations.append({**annotation, **ids, "answers": records})
            line = {**ids, "prompt": "What?", "text": _vary(text, draw)}
            file.write(json.dumps(line) + "\n")
    (folder / ANNOTATIONS).write_text(json.dumps({"annotations": annotations}), encoding="utf-8")
    return answers


def _vary(text: str, draw: random.Random) -> str:
    return f"{text} {draw.randrange(100_000)}" if draw.random() < _SHARE_VARIED else text


def measure(body: str, folder: Path, answers: Path) -> dict:
    """The report of one side, which runs in a process of its own."""
    command = [sys.executable, "-c", MEASURE.format(body=body), str(folder), str(answers)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    """Measures both sides and writes the report."""
    parser = argparse.ArgumentParser(description="Measure the scoring of VQAv2.")
    parser.add_argument("--output", type=Path, default=CHECKOUT / "results/bench/scoring.json")
    parser.add_argument("--num-questions", type=int, default=NUM_QUESTIONS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        answers = write_set(Path(name), options.num_questions)
        ours = measure(OURS, Path(name), answers)
        direct = measure(DIRECT, Path(name), answers)
        reading = measure(READING, Path(name), answers)["cpu_seconds"]
    if abs(ours["accuracy"] - direct["accuracy"]) > 1e-9:
        sys.exit(f"the two sides disagree: {ours['accuracy']} and {direct['accuracy']}")
    report = {
        "num_questions": options.num_questions,
        "ratio": (direct["cpu_seconds"] - reading) / (ours["cpu_seconds"] - reading),
        "ratio_with_reading": direct["cpu_seconds"] / ours["cpu_seconds"],
        "reading_cpu_seconds": reading,
        "scorer": ours,
        "direct": direct,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(
        f"{report['ratio']:.1f} times as fast ({report['ratio_with_reading']:.1f} with reading the "
        f"files, {reading:.1f} s): {ours['cpu_seconds']:.1f} s against "
        f"{direct['cpu_seconds']:.1f} s, peak {ours['peak_memory_bytes'] / GIB:.2f} GiB\n"
    )


if __name__ == "__main__":
    main()
