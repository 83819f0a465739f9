"""Odd image files: read as the reference reads them, or a failure with a cause; never a hang."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from evals.reading.images import image_in
from evals.records import Sample
from llava.content_hash import hash_image
from runners.evaluation.images import ImageFiles
from tests.faults.odd_images import ANSWERED, MISSING, ODD_IMAGES, PLAIN, UNREADABLE, OddImage
from tests.faults.unprivileged import run_unprivileged
from tests.runners.conftest import Finished, read_lines


def make(odd: OddImage, folder: Path) -> Path:
    """Puts an image, and what it may point to, below `folder/images`; returns that folder."""
    images = folder / "images"
    (images / "below").mkdir(parents=True)
    for image in {PLAIN, odd}:
        image.make(images / image.name)
    return images


def reference(path: Path) -> Image.Image:
    """What the reference's evaluation scripts feed to the model."""
    with Image.open(path) as image:
        return image.convert("RGB")


# for root nothing is locked; it is tried in the run of the program
SMALL = [odd for odd in ODD_IMAGES if not odd.large and odd.name != "locked.png"]


@pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning")
@pytest.mark.parametrize("odd", SMALL, ids=[ascii(odd.name)[1:-1][:30] for odd in SMALL])
def test_image_is_read_as_by_the_reference_or_said_to_be_bad(odd: OddImage, tmp_path: Path) -> None:
    images = make(odd, tmp_path)
    image = image_in(images, odd.name)
    sample = Sample(key="1", question_id=1, text="What?", prompt="What?", images=(image,))
    missing = ImageFiles([sample]).missing
    assert (sample.key in missing) == (odd.outcome == MISSING)
    if odd.outcome == ANSWERED:
        assert hash_image(image.open()) == hash_image(reference(images / odd.name))
    else:
        with pytest.raises(OSError, match=r"Image|No such file|File name|symbolic link"):
            image.open()


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One run over all images, with permissions that hold."""
    workspace = tmp_path_factory.mktemp("odd_images")
    images = workspace / "images"
    (images / "below").mkdir(parents=True)
    questions = []
    for number, odd in enumerate(ODD_IMAGES):
        odd.make(images / odd.name)
        questions.append({"question_id": number, "image": odd.name, "text": "What color is it?"})
    lines = "".join(json.dumps(question) + "\n" for question in questions)
    (workspace / "questions.jsonl").write_text(lines)
    return run_unprivileged(
        *("-m", "runners.eval", "task=custom", "model=llava-demo", "run=odd"),
        *("tasks.custom.questions=questions.jsonl", "tasks.custom.images=images"),
        *("runner.num_threads=1", "generation.max_new_tokens=4"),
        workspace=workspace,
    )


@pytest.mark.slow
def test_failures_make_the_run_incomplete_and_nothing_else(everything: Finished) -> None:
    assert everything.code == 1, everything.stderr
    assert "Traceback" not in everything.stderr
    summary = everything.json("results/odd/custom/summary.json")
    outcomes = Counter(odd.outcome for odd in ODD_IMAGES)
    assert summary["num_failed"] == {
        MISSING: outcomes[MISSING],
        UNREADABLE: outcomes[UNREADABLE],
    }
    assert summary["num_answered"] == outcomes[ANSWERED]


@pytest.mark.slow
def test_each_image_comes_out_as_decided(everything: Finished) -> None:
    lines = everything.lines("results/odd/custom/predictions.jsonl")
    outcomes = {
        odd.name: line["metadata"].get("error", {"cause": ANSWERED})["cause"]
        for odd, line in zip(ODD_IMAGES, lines, strict=True)
    }
    assert outcomes == {odd.name: odd.outcome for odd in ODD_IMAGES}
    for line in lines:
        assert ("error" in line["metadata"]) == (line["text"] == "")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning")
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_model_saw_what_the_reference_would_show_it(everything: Finished) -> None:
    traces = read_lines(everything.workspace / "results/odd/custom/trace.jsonl")
    for odd, trace in zip(ODD_IMAGES, traces, strict=True):
        if odd.outcome == ANSWERED:
            path = everything.workspace / "images" / odd.name
            assert trace["image_sha256"] == [hash_image(reference(path))], odd.name
