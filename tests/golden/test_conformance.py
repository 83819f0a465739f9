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
FAMILY = SHARED / "conformance_family"
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
FAMILY_PARTS = (
    *("ov_native", "ov_range", "ov_original", "next_qwen", "next_llama3", "vicuna_tuned"),
    *("vicuna_frozen", "s2", "next_native_llama3", "next_native_qwen2", "interleave_native"),
    *("internvl_chat", "q_gptq", "q_awq", "q_nf4", "q_int8", "q_compressed_tensors"),
    *("q_llm_awq", "functions"),
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
    """Every part of the first recording by its id."""
    return read_parts(tool, GOLDENS.resolve())


@pytest.fixture(scope="module")
def family_parts(tool):
    """Every part of the recording of other models of the family."""
    return read_parts(tool, FAMILY.resolve())


def read_parts(tool, root):
    """The parts of a recording by their ids; checkpoints load when they are first used."""
    report, library = tool.Report(kinds=None), tool.Library()
    adapter = tool.ModernAdapter(library, root / "models")
    index = json.loads((root / "index.json").read_text(encoding="utf-8"))
    variants = [tool.Variant(entry, root, library, adapter, report) for entry in index["variants"]]
    named = {variant.id: variant for variant in variants}
    named["functions"] = tool.Functions(root, library, variants, report)
    if (root / "evaluation").is_dir():
        named["evaluation"] = tool.Evaluation(root, library, variants, report)
    return named


@pytest.mark.few_cases(2)
@pytest.mark.parametrize("part", PARTS)
def test_every_recorded_output_is_reproduced(parts, part):
    run(parts[part])


@pytest.mark.slow
@pytest.mark.parametrize("part", FAMILY_PARTS)
@pytest.mark.skipif(not FAMILY.is_dir(), reason="the recorded outputs of the family are not here")
def test_every_recorded_output_of_the_family_is_reproduced(family_parts, part):
    run(family_parts[part])


def run(part):
    report = part.report
    report.results.clear()

    with contextlib.redirect_stderr(io.StringIO()):
        part.run()

    failed = [result for result in report.results if not result["ok"]]
    for result in failed:
        print(f"{result['name']}: {result['problem']}")
    assert report.results, "nothing was checked"
    assert not failed, f"{len(failed)} of {len(report.results)} checks failed, see above"
