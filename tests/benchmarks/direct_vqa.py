"""VQAv2's published scoring rules, applied one question at a time as they are written down.

This is what the scorer of the package is measured against: every step on every string, every
regular expression compiled in the call that uses it (which Python answers from its own cache).
"""

import json
import re
from pathlib import Path

from evals.normalize import VQA_CONTRACTIONS

MARKS = [";", "/", "[", "]", '"', "{", "}", "(", ")", "=", "+", "\\", "_", "-", ">", "<", "@"]
MARKS += ["`", ",", "?", "!"]
ARTICLES = ["a", "an", "the"]
NUMBERS = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4"}
NUMBERS |= {"five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10"}


def strip_punctuation(text: str) -> str:
    """The text after the punctuation and the period step."""
    result = text
    for mark in MARKS:
        thousands = re.compile(r"(\d)(\,)(\d)").search(text)
        touches_space = mark + " " in text or " " + mark in text
        result = result.replace(mark, "" if touches_space or thousands else " ")
    return re.compile(r"(?!<=\d)(\.)(?!\d)").sub("", result, 32)


def normalize_words(text: str) -> str:
    """The text after the word step."""
    words = []
    for word in text.lower().split():
        word = NUMBERS.get(word, word)  # noqa: PLW2901 - step by step, as the rules are written
        if word not in ARTICLES:
            words.append(word)
    for position, word in enumerate(words):
        if word in VQA_CONTRACTIONS:
            words[position] = VQA_CONTRACTIONS[word]
    return " ".join(words)


def score_question(text: str, annotation: dict) -> float:
    """The accuracy of one answer."""
    records = annotation["answers"]
    for record in records:
        record["answer"] = record["answer"].replace("\n", " ").replace("\t", " ").strip()
    text = text.replace("\n", " ").replace("\t", " ").strip()
    if len({record["answer"] for record in records}) > 1:
        for record in records:
            record["answer"] = normalize_words(strip_punctuation(record["answer"]))
        text = normalize_words(strip_punctuation(text))
    accuracies = []
    for record in records:
        others = [other for other in records if other != record]
        matching = [other for other in others if other["answer"] == text]
        accuracies.append(min(1, len(matching) / 3))
    return sum(accuracies) / len(accuracies)


def score_files(folder: Path, answers: Path) -> float:
    """The accuracy of an answer file on val, from the files to the figure."""
    name = "v2_mscoco_val2014_annotations.json"
    content = json.loads((folder / name).read_text())["annotations"]
    annotations = {annotation["question_id"]: annotation for annotation in content}
    texts = {}
    with answers.open() as file:
        for line in file:
            record = json.loads(line)
            texts[record["question_id"]] = record["text"]
    by_type: dict[str, list[float]] = {}
    values = []
    for question_id, annotation in annotations.items():
        value = score_question(texts[question_id], annotation)
        values.append(value)
        for field in ("question_type", "answer_type"):
            by_type.setdefault(annotation[field], []).append(value)
    return sum(values) / len(values)
