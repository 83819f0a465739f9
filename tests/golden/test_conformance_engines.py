"""Both engines give the recorded answers of the reference, and the same to every other question."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from llava.generation.packed import PackedEngine
from llava.generation.plan import prefix_end
from llava.generation.request import Completion, GenerationConfig, Request
from llava.generation.sequential import SequentialEngine
from llava.model.builder import load_pretrained_model
from llava.tiling import read_layout
from tests.checkpoints import LoadedModel

SHARED = (Path(__file__).parents[2] / "../shared").resolve()
VARIANTS = [
    {**entry, "root": index.parent}
    for index in sorted(SHARED.glob("conformance*/index.json"))
    for entry in json.loads(index.read_text(encoding="utf-8"))["variants"]
]
GREEDY = GenerationConfig(max_new_tokens=16)
pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    pytest.mark.skipif(not VARIANTS, reason="the recorded outputs of the reference are not here"),
]


@dataclass(frozen=True)
class RecordedImage:
    """An image of the recording, opened as the reference's scripts do."""

    key: str
    folder: Path

    def open(self) -> Image.Image:
        with Image.open(self.folder / self.key) as image:
            return image.convert("RGB")


@dataclass(frozen=True)
class Variant:
    """A checkpoint with its recorded questions and answers."""

    model: LoadedModel
    requests: list[Request]
    answers: dict[str, tuple[int, ...]]

    @property
    def mixed(self) -> list[Request]:
        """Each recorded beginning with the end of every recorded question: groups to share."""
        ends = [request.prompt_ids[prefix_end(request.prompt_ids) :] for request in self.requests]
        return [
            replace(
                request,
                key=f"{request.key} {number}",
                prompt_ids=np.concatenate(
                    [request.prompt_ids[: prefix_end(request.prompt_ids)], end]
                ),
            )
            for request in self.requests
            for number, end in enumerate(ends)
            if prefix_end(request.prompt_ids)
        ]


def askable(case: dict[str, Any], config: Any) -> bool:
    """Whether the engines take it: an image for each placeholder, the checkpoint's own settings.

    Several images, where one is tiled up to a limit, are put to a model padded: recorded are they
    so with the newline (given as a list) and without it.
    """
    layout, override = read_layout(vars(config)), case.get("config_override")
    if len(case["images"]) > 1 and layout.limit is not None:
        is_closed = case["images_argument"] == "list"
        is_own = override == {"image_aspect_ratio": "pad"} and is_closed == layout.closes_whole
    else:
        is_own = not override
    return is_own and sum(token < 0 for token in case["input_ids"]) == len(case["images"])


@pytest.fixture(scope="module", params=VARIANTS, ids=[entry["id"] for entry in VARIANTS])
def variant(request: pytest.FixtureRequest) -> Variant:
    entry = request.param
    root = entry["root"]
    path, base = root / entry["model"], entry["model_base"]
    loaded = load_pretrained_model(
        str(path), base and str(root / base), path.name, device="cpu", dtype=torch.float32
    )
    cases = json.loads((root / entry["folder"] / "cases.json").read_text(encoding="utf-8"))
    cases = [case for case in cases["cases"] if askable(case, loaded[1].config)]
    return Variant(
        model=LoadedModel(*loaded),
        requests=[
            Request(
                key=case["id"],
                prompt_ids=np.array(case["input_ids"], dtype=np.int32),
                images=tuple(RecordedImage(name, root / "images") for name in case["images"]),
                generation=GREEDY,
            )
            for case in cases
        ],
        answers={case["id"]: tuple(case["greedy"]["ids"]) for case in cases},
    )


def tokens(engine: Any, requests: list[Request]) -> dict[str, tuple[int, ...]]:
    results = list(engine.run(requests))
    assert all(isinstance(result, Completion) for result in results)
    return {result.key: result.token_ids for result in results}


@pytest.mark.few_cases(3)
def test_sequential_answers_are_the_recorded_ones(variant: Variant) -> None:
    assert len(variant.requests) >= 3
    assert tokens(SequentialEngine(*variant.model), variant.requests) == variant.answers


@pytest.mark.few_cases(4)
@pytest.mark.parametrize(
    "options", [{}, {"max_tokens": 1}, {"max_tokens": 2000, "max_rows": 2}], ids=str
)
def test_packed_answers_are_the_recorded_ones(variant: Variant, options: dict[str, Any]) -> None:
    engine = PackedEngine(*variant.model, replay="off", **options)
    assert tokens(engine, variant.requests) == variant.answers


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("num_mixed", [8, pytest.param(40, marks=pytest.mark.slow)])
def test_shared_beginnings_change_no_answer(variant: Variant, num_mixed: int) -> None:
    requests = variant.requests + variant.mixed[:: max(1, len(variant.mixed) // num_mixed)]
    packed = PackedEngine(*variant.model)
    expected = tokens(SequentialEngine(*variant.model), requests)
    assert tokens(packed, requests) == expected
    if packed._can_pack(requests[0]):
        assert packed.stats.num_replayed < len(requests) / 2
