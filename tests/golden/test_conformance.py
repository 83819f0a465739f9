"""The library gives the recorded outputs of the reference, stage by stage."""

import contextlib
import importlib.util
import io
import json
from pathlib import Path

import pytest
from transformers import logging as transformers_logging

SHARED = Path(__file__).parents[2] / "../shared"
GOLDENS = SHARED / "conformance"
TOOL = SHARED / "tools/conformance.py"
PARTS = (
    "v15_pad",
    "v15_pad_sharded",
    "v1_startend",
    "v16_anyres_unpad",
    "v15_lora",
    "v15_pretrain",
    "plain_lm",
    "plain_lm_adapter",
    "functions",
    "evaluation",
)
pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    pytest.mark.skipif(
        not (GOLDENS / "index.json").is_file() or not TOOL.is_file(),
        reason="the recorded outputs of the reference are not here",
    ),
]


@pytest.fixture(scope="module")
def tool():
    """The checking program as a module."""
    spec = importlib.util.spec_from_file_location("conformance_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    yield module
    transformers_logging.set_verbosity(verbosity)
    transformers_logging.enable_progress_bar()


@pytest.fixture(scope="module")
def parts(tool):
    """Every part of the recording by its id; checkpoints load when they are first used."""
    root = GOLDENS.resolve()
    report, library = tool.Report(kinds=None), tool.Library()
    adapter = tool.ModernAdapter(library, root / "models")
    index = json.loads((root / "index.json").read_text(encoding="utf-8"))
    variants = [tool.Variant(entry, root, library, adapter, report) for entry in index["variants"]]
    named = {variant.id: variant for variant in variants}
    named["functions"] = tool.Functions(root, library, variants, report)
    named["evaluation"] = tool.Evaluation(root, library, variants, report)
    return named


@pytest.mark.few_cases(3)
@pytest.mark.parametrize("part", PARTS)
def test_every_recorded_output_is_reproduced(parts, part):
    report = parts[part].report
    report.results.clear()

    with contextlib.redirect_stderr(io.StringIO()):
        parts[part].run()

    failed = [result for result in report.results if not result["ok"]]
    for result in failed:
        print(f"{result['name']}: {result['problem']}")
    assert report.results, "nothing was checked"
    assert not failed, f"{len(failed)} of {len(report.results)} checks failed, see above"
