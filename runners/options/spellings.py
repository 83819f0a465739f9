"""What other programs call the options and values of this one, and near misses of its own."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

NAMES: Mapping[str, str] = {
    **dict.fromkeys(("conv", "conv_mode", "conv_template", "chat_template"), "conversation"),
    **dict.fromkeys(("template", "prompt_template", "conv_version"), "conversation"),
    **dict.fromkeys(("model_path", "pretrained", "model_name_or_path", "model_id"), "model.path"),
    **dict.fromkeys(("checkpoint", "ckpt", "ckpt_path", "model_dir", "hf_model"), "model.path"),
    "model_args": "model.path",
    **dict.fromkeys(("model_base", "base_model", "lora_base"), "model.base"),
    **dict.fromkeys(("attn_implementation", "attn"), "model.attention"),
    **dict.fromkeys(("torch_dtype", "precision", "data_type"), "dtype"),
    **dict.fromkeys(("max_tokens", "max_length", "max_gen_toks"), "generation.max_new_tokens"),
    **dict.fromkeys(("max_output_tokens", "max_new_token"), "generation.max_new_tokens"),
    **dict.fromkeys(("beams", "beam_size", "n_beams"), "generation.num_beams"),
    **dict.fromkeys(("tasks", "benchmark", "benchmarks", "dataset", "datasets"), "task"),
    **dict.fromkeys(("num_samples", "max_samples", "num_examples", "n_samples"), "limit"),
    **dict.fromkeys(("num_questions", "max_questions", "subset"), "limit"),
    **dict.fromkeys(("output_dir", "output_path", "out_dir", "save_dir"), "results_dir"),
    **dict.fromkeys(("output", "work_dir", "results"), "results_dir"),
    **dict.fromkeys(("run_name", "exp_name", "experiment_name", "name"), "run"),
    **dict.fromkeys(("random_seed", "manual_seed"), "seed"),
    **dict.fromkeys(("gpu", "cuda", "gpu_id"), "device"),
    **dict.fromkeys(("data_dir", "data_path", "data_root", "dataset_dir"), "data.root"),
    **dict.fromkeys(("image_folder", "image_dir", "images"), "tasks.custom.images"),
    **dict.fromkeys(("question_file", "questions"), "tasks.custom.questions"),
    **dict.fromkeys(("answers_file", "answers", "result_file"), "predictions"),
    **dict.fromkeys(("base", "reference", "old"), "baseline"),
    **dict.fromkeys(("new", "model"), "candidate"),
}
"""The option that a name of another program stands for, where a program here has it."""

_FOUR, _EIGHT = "quantization=nf4", "quantization=int8"
SWITCHES: Mapping[str, str] = {
    **dict.fromkeys(("load_in_4bit", "load_4bit", "use_4bit", "4bit", "int4", "nf4"), _FOUR),
    **dict.fromkeys(("load_in_8bit", "load_8bit", "use_8bit", "8bit", "int8"), _EIGHT),
    **dict.fromkeys(("fp16", "half", "float16"), "dtype=float16"),
    **dict.fromkeys(("bf16", "bfloat16"), "dtype=bfloat16"),
    **dict.fromkeys(("fp32", "float32"), "dtype=float32"),
    **dict.fromkeys(("do_sample", "sample", "sampling"), "generation=sample"),
    **dict.fromkeys(("greedy", "greedy_decoding"), "generation=greedy"),
    **dict.fromkeys(("cpu", "use_cpu", "no_cuda"), "device=cpu"),
    "dryrun": "dry_run=true",
    **dict.fromkeys(("force", "rerun", "no_cache"), "overwrite=true"),
}
"""What a switch of another program stands for where it is on; where it is off, nothing."""

_NO_BATCHES = (
    "No batch size is needed: engine=packed fills the device's memory by itself. Leave it out; "
    "engine.max_rows=N bounds how many prompts are computed at once."
)
_ALL_GPUS = (
    "No number is needed: every visible GPU is used. Leave it out; CUDA_VISIBLE_DEVICES=0,1 "
    "chooses GPUs, runner.num_workers=N how many processes."
)
NEEDLESS: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("batch_size", "bs", "batch", "per_device_batch_size"), ("engine", _NO_BATCHES)
    ),
    **dict.fromkeys(("eval_batch_size", "max_batch_size"), ("engine", _NO_BATCHES)),
    **dict.fromkeys(("num_gpus", "gpus", "n_gpu", "ngpus", "n_gpus"), ("runner", _ALL_GPUS)),
    **dict.fromkeys(("num_processes", "nproc_per_node", "num_chunks"), ("runner", _ALL_GPUS)),
    **dict.fromkeys(
        ("resume", "cont", "resume_from"),
        ("retry_failed", "Nothing is needed: the same command goes on with a run. Leave it out."),
    ),
}
"""An option of the programs that this is about, and why there is none of that name."""

_VALUES: Mapping[str, str] = {
    **dict.fromkeys(("bf16", "bfloat", "brain"), "bfloat16"),
    **dict.fromkeys(("fp16", "half", "f16"), "float16"),
    **dict.fromkeys(("fp32", "float", "full", "f32", "single"), "float32"),
    **dict.fromkeys(("4bit", "int4", "4", "w4", "bnb4", "loadin4bit", "bnb"), "nf4"),
    **dict.fromkeys(("8bit", "8", "w8", "loadin8bit", "llmint8"), "int8"),
    **dict.fromkeys(("yes", "true", "always"), "on"),
    **dict.fromkeys(("no", "false", "never"), "off"),
    **dict.fromkeys(
        ("flash", "flashattention", "flashattn", "flashattn2", "fa2"), "flash_attention_2"
    ),
    **dict.fromkeys(("gpu", "gpus", "nvidia"), "cuda"),
    **dict.fromkeys(("sqa", "sqai"), "scienceqa"),
    **dict.fromkeys(("vqa", "vqa2"), "vqav2"),
    "vizwizvqa": "vizwiz",
    **dict.fromkeys(("mmb", "mmbenchen"), "mmbench"),
    "mmbcn": "mmbench_cn",
    **dict.fromkeys(("seed", "seedb"), "seedbench"),
    **dict.fromkeys(("llavaw", "llavawild", "llavainthewild", "llavabenchinthewild"), "llavabench"),
    **dict.fromkeys(("infographicvqa", "infographicsvqa", "infographic"), "infovqa"),
}
# what lmms-eval and VLMEvalKit append to the names of benchmarks
_SPLIT = re.compile(
    r"[-_](en|dev|testdev|val\d*|test|testmini|mini|balanced|lite|img|image|full)(?=[-_]|$)"
)
_DROPPED = str.maketrans("", "", "-_ .:")


def squash(text: str) -> str:
    """Returns a word as it is compared: without case and punctuation.

    >>> squash("Llava_v1.5-7B")
    'llavav157b'
    """
    return text.lower().removeprefix("torch.").translate(_DROPPED)


def near(value: str, known: Iterable[str]) -> str | None:
    """Returns the known word that was meant by one that is not; None if none is close.

    >>> near("bf16", ["float16", "bfloat16"]), near("GQA", ["gqa", "okvqa"]), near("x", ["gqa"])
    ('bfloat16', 'gqa', None)
    >>> near("SQA", ["gqa", "scienceqa"])
    'scienceqa'
    """
    squashed = {squash(word): word for word in known}
    asked = squash(_SPLIT.sub("", value.lower()))
    if (alias := _VALUES.get(asked)) in squashed.values():
        return alias
    # a letter of a short word is much of it; long ones have their beginning or end in common
    cutoff = 0.6 if len(asked) <= 4 else 0.81
    found = difflib.get_close_matches(asked, squashed, n=1, cutoff=cutoff)
    return squashed[found[0]] if found else None
