r"""DocVQA: questions about scanned documents (Mathew et al., arXiv:2007.00398).

Files, in `data_dir`: `val_v1.0_withQT.json` or `test_v1.0.json`, images in `documents/`; or the
tables `DocVQA/validation-*.parquet` and `DocVQA/test-*.parquet` of `lmms-lab/DocVQA`.

One question: `{"questionId": 337, "question": "What is the date?", "question_types": ["form"],
"image": "documents/ffbf0227_1.png", "docId": 279, "ucsf_document_id": "ffbf0227",
"ucsf_document_page_no": "1", "answers": ["1/8/93"], "data_split": "val"}`; the prompt: the question
and a line that asks for a single word or phrase.

Metric: ANLS, the similarity to the nearest answer by edits, 0 below a half; also by type of
question, where a question counts in each of its types. Official code: `infographicsvqa_eval.py` of
rrc.cvc.uab.es as in QwenLM/Qwen-VL @ aa00ed04. Test is scored by the server.

Known deviations: a missing answer scores 0 and is counted, where the official script stops.

Published: LLaVA-OneVision-0.5B 73.7, 72B-SI 93.5 (val or test is not stated).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from evals.benchmark import Benchmark, Upload, each, rebuildable
from evals.errors import check_choice
from evals.figures.metrics import mean_figures_by_label
from evals.reading.documents import SERVER, document_entries, parse_document, render_upload
from evals.reading.entries import files_of
from evals.reading.files import require
from evals.reading.hub import HubLocation, find_table, releases_here
from evals.reading.questions import SHORT_ANSWER_SUFFIX
from evals.reading.releases import Release
from evals.scorers.anls import judge_anls

ORIGIN = f"{SERVER} (task 1)"
_FILES = {"val": "val_v1.0_withQT.json", "test": "test_v1.0.json"}
_HUB_SPLITS = {"val": "validation", "test": "test"}
RELEASES: Mapping[str, Release] = {
    "val": Release(num_questions=5_349, files={_FILES["val"]: ORIGIN, "documents": ORIGIN}),
    "test": Release(num_questions=5_188, files={_FILES["test"]: ORIGIN, "documents": ORIGIN}),
}
_FIELDS = ("question_types",)


@rebuildable
def DocVQA(  # noqa: N802 - stored manifests and configurations name it so
    *,
    data_dir: str | Path,
    source: str = "files",
    split: str = "val",
    max_new_tokens: int = 32,
    prompt_suffix: str = SHORT_ANSWER_SUFFIX,
) -> Benchmark:
    """DocVQA on `val` or `test`."""
    check_choice("`split` of docvqa", split, RELEASES)
    folder, has_answers = Path(data_dir), split == "val"
    path = folder / _FILES[split]
    location = HubLocation(repo="lmms-lab/DocVQA", config="DocVQA", split=_HUB_SPLITS[split])
    table = find_table("docvqa", source, location, folder, [path])
    return Benchmark(
        name="docvqa",
        split=split,
        hub=location,
        definition="anls/1",
        primary_metric="anls",
        max_new_tokens=max_new_tokens,
        data_files=files_of(table, path),
        read=lambda: [
            parse_document(entry, _image_name, _FIELDS, has_answers=has_answers)
            for entry in document_entries(table, path, location.serves_for(ORIGIN))
        ],
        judge=each(judge_anls) if has_answers else None,
        figures=partial(mean_figures_by_label, metric="anls", fields=_FIELDS),
        upload=None if has_answers else Upload(suffix=".json", server=SERVER, render=render_upload),
        releases=releases_here(RELEASES, table),
        official_suffix=SHORT_ANSWER_SUFFIX,
        prompt_suffix=prompt_suffix,
    )


def _image_name(record: dict[str, Any], place: str) -> str:
    """The name in the official files; the table has its parts."""
    if "image" in record:
        return require(record, "image", str, place)
    page = require(record, "ucsf_document_page_no", str, place)
    return f"documents/{require(record, 'ucsf_document_id', str, place)}_{page}.png"
