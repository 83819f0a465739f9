"""An adapter is what its tensors say, and answers as the model that it was merged into."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from llava.errors import CheckpointError
from llava.images import process_images
from llava.model.builder import load_pretrained_model
from llava.model.checkpoint import inspect_checkpoint
from llava.tokens import tokenizer_image_token
from tests.broken_checkpoints import edit_config
from tests.checkpoints import make_checkpoint
from tests.variants import make_base, make_lora, make_native, make_projector, write_adapter

PROMPT = "USER: <image>\nIs the dog on the table? ASSISTANT:"
SIZE = (90, 50)
LANGUAGE = r"model\.layers.*\.(q_proj|up_proj)"
EVERYWHERE = r".*\.(q_proj|k_proj)"
TOKENS_OF_EACH = {"embed_tokens": [5, 6], "lm_head": [3, 4]}
PROJECTOR = ["mm_projector.0", "mm_projector.2", "o_proj"]


def load(path: Path, base: Path | None = None) -> Any:
    return load_pretrained_model(
        str(path), None if base is None else str(base), path.name, device="cpu", dtype="float32"
    )


def logits_of(loaded: Any) -> torch.Tensor:
    tokenizer, model, image_processor, _ = loaded
    ids = tokenizer_image_token(PROMPT, tokenizer, return_tensors="pt")
    image = Image.radial_gradient("L").convert("RGB").resize(SIZE)
    pixel_values = process_images([image], image_processor, model.config)
    with torch.no_grad():
        return model(input_ids=ids[None], images=pixel_values, image_sizes=[SIZE]).logits[0, -1]


def train(model: Any, folder: Path, base: str, **options: Any) -> Any:
    """Lays an adapter with random matrices over a model, saves it, and returns the merged model."""
    from peft import get_peft_config, get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = get_peft_config({"peft_type": "LORA", "r": 4} | options)
        tuned = get_peft_model(model, config)
        draw = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for name, value in tuned.named_parameters():
                if "lora_" in name or "modules_to_save" in name:
                    value.add_(0.3 * torch.randn(value.shape, generator=draw))
        if options.get("peft_type") == "ADALORA":  # which has dropped ranks, of one layer all
            inner = tuned.base_model.model
            found = [n.removesuffix(".default") for n, _ in inner.named_parameters()]
            names = enumerate(n for n in found if n.endswith(".lora_E"))
            config.rank_pattern = {n: [k % 4 < i % 4 for k in range(12)] for i, n in names}
            tuned.base_model.rankallocator.mask_using_rank_pattern(inner, config.rank_pattern)
        tuned.peft_config["default"].base_model_name_or_path = base
        tuned.save_pretrained(folder, save_embedding_layers="embed" in str(options))
        return tuned.eval().merge_and_unload()


@pytest.mark.few_cases(4)
@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["q_proj", "lm_head", "embed_tokens"], "exclude_modules": r".*tower.*"},
        {"target_modules": ["v_proj", "embed_tokens"], "exclude_modules": ["vision_tower"]},
        {"target_modules": LANGUAGE, "modules_to_save": ["mm_projector", "norm"]},
        {"target_modules": LANGUAGE, "rank_pattern": {"up_proj": 2}, "use_dora": True},
        {"target_modules": EVERYWHERE, "alpha_pattern": {"vision_model.*k_proj": 32}},
        {"target_modules": r".*(patch_embedding|vision_model.*q_proj)"},
        {"target_modules": PROJECTOR, "use_rslora": True},
        {"target_modules": LANGUAGE, "init_lora_weights": "pissa"},
        {"target_modules": LANGUAGE, "init_lora_weights": "olora"},
        {"target_modules": LANGUAGE, "peft_type": "ADALORA", "r": 8, "total_step": 9},
    ],
    ids=[
        *("head", "embeddings", "saved modules", "dora", "frozen tower", "patches", "projector"),
        *("principal part taken off the base", "orthonormal part taken off the base", "adalora"),
    ],
)
def test_adapter_answers_as_the_model_that_it_was_merged_into(
    tiny_checkpoint: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    tokenizer, model, image_processor, _ = load(tiny_checkpoint)
    before = logits_of((tokenizer, model, image_processor, 0))
    if isinstance(options.get("exclude_modules"), list):
        tower = [name for name, _ in model.named_modules() if "vision_tower" in name]
        options = options | {"exclude_modules": tower}
    merged = train(model, tmp_path / "adapter", tiny_checkpoint.name, **options)
    expected = logits_of((tokenizer, merged, image_processor, 0))
    answer = logits_of(load(tmp_path / "adapter", tiny_checkpoint))
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-4)
    assert not torch.allclose(expected, before, atol=0.05)


def test_adapter_with_a_projector_needs_no_second_file(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    tokenizer, model, image_processor, _ = load(tiny_checkpoint)
    folder = tmp_path / "llava-adapter"
    options = {"target_modules": LANGUAGE, "modules_to_save": ["mm_projector"]}
    merged = train(model, folder, "llava", **options)
    shutil.copy(tiny_checkpoint / "config.json", folder)
    edit_config(folder, mm_vision_tower=str(tiny_checkpoint.parent / "clip-tiny-56"))
    base = make_base(tmp_path / "vicuna-tiny", tiny_checkpoint)
    expected = logits_of((tokenizer, merged, image_processor, 0))
    torch.testing.assert_close(logits_of(load(folder, base)), expected, rtol=0, atol=1e-4)


@pytest.mark.few_cases(3)
@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": r".*language_model.*\.(v_proj|o_proj)"},
        {"target_modules": ["q_proj", "linear_1"], "alpha_pattern": {"language_model.*q_proj": 2}},
        {"target_modules": ["up_proj"], "modules_to_save": ["multi_modal_projector"]},
        {"target_modules": ["up_proj", "linear_1"], "modules_to_save": ["multi_modal_projector"]},
        {"target_modules": ["k_proj", "linear_1"], "peft_type": "ADALORA", "r": 8, "total_step": 9},
    ],
    ids=[
        *("language", "projector and tower", "saved projector", "saved and named as a target"),
        "adalora",
    ],
)
def test_adapter_over_transformers_own_format(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    from transformers import LlavaForConditionalGeneration

    base = make_native(tmp_path / "llava-1.5-hf", tiny_checkpoint, tiny_tower)
    model = LlavaForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    merged = train(model, tmp_path / "sft", base.name, **options)
    shutil.copytree(base, tmp_path / "merged")
    merged.save_pretrained(tmp_path / "merged")
    expected = logits_of(load(tmp_path / "merged"))
    answer = logits_of(load(tmp_path / "sft", base))
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-4)
    assert not torch.allclose(expected, logits_of(load(base)), atol=0.05)


@pytest.mark.parametrize("version", ["model.language_model.", "language_model.model."])
def test_layer_that_a_pattern_leaves_out_by_its_name_in_training(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path, version: str
) -> None:
    from transformers import LlavaForConditionalGeneration

    base = make_native(tmp_path / "llava-1.5-hf", tiny_checkpoint, tiny_tower)
    model = LlavaForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    names = {"target_modules": ["q_proj", "up_proj"], "exclude_modules": r".*tower.*|.*layers\.0.*"}
    merged = train(model, tmp_path / "sft", base.name, **names)
    file = tmp_path / "sft/adapter_model.safetensors"
    adapter = load_file(file)
    save_file({n.replace("model.language_model.", version): adapter[n] for n in adapter}, file)
    layer = rf"{version}layers.0.".replace(".", r"\.")
    edit_adapter(tmp_path / "sft", exclude_modules=rf".*vision_tower.*|{layer}.*")
    shutil.copytree(base, tmp_path / "merged")
    merged.save_pretrained(tmp_path / "merged")
    expected = logits_of(load(tmp_path / "merged"))
    torch.testing.assert_close(logits_of(load(tmp_path / "sft", base)), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("prefix", ["base_model.model.model.", "base_model.model."])
def test_what_was_trained_beside_an_adapter_over_transformers_own_format_counts(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path, prefix: str
) -> None:
    from transformers import LlavaForConditionalGeneration

    base = make_native(tmp_path / "llava-1.5-hf", tiny_checkpoint, tiny_tower)
    model = LlavaForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    language = r".*language_model.*\.(v_proj|o_proj)"
    merged = train(model, tmp_path / "sft", base.name, target_modules=language)
    shutil.copy(base / "config.json", tmp_path / "sft")
    projector = merged.model.multi_modal_projector.state_dict()
    trained = {name: 2 * tensor for name, tensor in projector.items()}
    merged.model.multi_modal_projector.load_state_dict(trained)
    named = {f"{prefix}multi_modal_projector.{name}": t for name, t in trained.items()}
    torch.save(named, tmp_path / "sft/non_lora_trainables.bin")
    shutil.copytree(base, tmp_path / "merged")
    merged.save_pretrained(tmp_path / "merged")
    expected = logits_of(load(tmp_path / "merged"))
    torch.testing.assert_close(logits_of(load(tmp_path / "sft", base)), expected, rtol=0, atol=1e-4)


def test_tower_trained_under_its_original_names_goes_over_transformers_own_format(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    base = make_native(tmp_path / "llava-1.5-hf", tiny_checkpoint, tiny_tower)
    folder = make_lora(tmp_path / "llava-lora", tiny_checkpoint)
    edit_config(folder, mm_vision_tower=str(tiny_tower))
    file, tower = folder / "non_lora_trainables.bin", load_file(tiny_tower / "model.safetensors")
    names = {f"base_model.model.model.vision_tower.vision_tower.{name}": name for name in tower}
    beside = torch.load(file, weights_only=True)
    torch.save(beside | {long: tower[name] for long, name in names.items()}, file)
    same = logits_of(load(folder, base))
    assert torch.equal(same, logits_of(load(folder, tiny_checkpoint)))
    torch.save(beside | {long: 1.5 * tower[name] for long, name in names.items()}, file)
    assert not torch.allclose(logits_of(load(folder, base)), same, atol=0.05)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_do_not_count(
    tiny_checkpoint: Path, tmp_path: Path, wrapper: str
) -> None:
    base = make_base(tmp_path / "vicuna-tiny", tiny_checkpoint)
    tower = {"mm_vision_tower": str(tiny_checkpoint.parent / "clip-tiny-56")}
    folder = make_projector(tmp_path / "llava-pretrain", tiny_checkpoint, **tower)
    projector = torch.load(folder / "mm_projector.bin", weights_only=True)
    torch.save({wrapper + name: t for name, t in projector.items()}, folder / "mm_projector.bin")
    weights = load_file(base / "model.safetensors")
    wrapped = {
        name.replace("model.layers.", f"model.{wrapper}layers."): weights[name] for name in weights
    }
    save_file(wrapped, base / "model.safetensors")
    assert torch.equal(logits_of(load(folder, base)), logits_of(load(tiny_checkpoint)))


@pytest.mark.parametrize("file", ["adapter_model.bin", "non_lora_trainables.bin", "base"])
def test_tensors_without_values_are_refused_by_their_file(
    tiny_checkpoint: Path, tmp_path: Path, file: str
) -> None:
    base = make_base(tmp_path / "vicuna-tiny", tiny_checkpoint)
    folder = make_lora(tmp_path / "llava-lora", tiny_checkpoint)
    edit_config(folder, mm_vision_tower=str(tiny_checkpoint.parent / "clip-tiny-56"))
    if file == "base":
        file = "vicuna-tiny/model.safetensors"
        weights = load_file(base / "model.safetensors")
        save_file(weights | {"model.norm.weight": torch.zeros(0)}, base / "model.safetensors")
    else:
        tensors = torch.load(folder / file, weights_only=True)
        torch.save({name: tensor.new_zeros(0) for name, tensor in tensors.items()}, folder / file)
    with pytest.raises(CheckpointError, match=r"tensors that are empty.*gathered") as caught:
        load(folder, base)
    assert file in str(caught.value)
    assert "model.base" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda t: t.update({"model.mm_projector.4.bias": torch.zeros(2)}), "no place"),
        (lambda t: t.update({"model.mm_projector.0.bias": torch.zeros(2)}), "another shape"),
    ],
    ids=["name", "shape"],
)
def test_file_that_does_not_fit_is_blamed_itself(
    tiny_checkpoint: Path, tmp_path: Path, change: Any, part: str
) -> None:
    base = make_base(tmp_path / "vicuna-tiny", tiny_checkpoint)
    tower = {"mm_vision_tower": str(tiny_checkpoint.parent / "clip-tiny-56")}
    folder = make_projector(tmp_path / "llava-pretrain", tiny_checkpoint, **tower)
    projector = torch.load(folder / "mm_projector.bin", weights_only=True)
    change(projector)
    torch.save(projector, folder / "mm_projector.bin")
    with pytest.raises(
        CheckpointError, match=rf"llava-pretrain/mm_projector\.bin .*{part}"
    ) as caught:
        load(folder, base)
    assert "model.base" not in str(caught.value)


def test_shard_that_does_not_fit_is_blamed_itself(tiny_tower: Path, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "llava-tiny", tiny_tower, sharded=True)
    shard = folder / "model-00002-of-00003.safetensors"
    save_file(load_file(shard) | {"model.extra.weight": torch.zeros(2)}, shard)
    with pytest.raises(CheckpointError, match=r"model-00002-of-00003\.safetensors holds 1 tensors"):
        load(folder)


def test_projector_that_no_file_holds_is_missed_by_name(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    base = make_base(tmp_path / "vicuna-tiny", tiny_checkpoint)
    folder = make_lora(tmp_path / "llava-lora", tiny_checkpoint)
    edit_config(folder, mm_vision_tower=str(tiny_checkpoint.parent / "clip-tiny-56"))
    torch.save({}, folder / "non_lora_trainables.bin")
    with pytest.raises(CheckpointError, match=r"Neither .*non_lora_trainables\.bin holds the proj"):
        load(folder, base)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("recorded", "warned"),
    [
        ("lmsys/Vicuna-Tiny", False),
        ("/data/train/vicuna-tiny/", False),
        ("C:\\models\\vicuna-tiny", False),
        ("/hub/models--lmsys--vicuna-tiny/snapshots/0a1b", False),
        (None, False),
        ("lmsys/vicuna-tiny-v2", True),
        ("/data/train/base-of-mine", True),
    ],
)
@pytest.mark.parametrize("kind", ["adapter", "projector"])
def test_base_is_compared_with_the_recorded_one(
    tiny_checkpoint: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    recorded: str | None,
    warned: bool,
) -> None:
    base = make_base(tmp_path / "vicuna-tiny", tiny_checkpoint)
    tower = str(tiny_checkpoint.parent / "clip-tiny-56")
    if kind == "projector":
        names = {"mm_vision_tower": tower, "_name_or_path": recorded}
        folder = make_projector(tmp_path / "llava-pretrain", tiny_checkpoint, **names)
    else:
        folder = make_lora(tmp_path / "llava-lora", tiny_checkpoint)
        edit_config(folder, mm_vision_tower=tower)
        path = folder / "adapter_config.json"
        content = json.loads(path.read_text()) | {"base_model_name_or_path": recorded}
        path.write_text(json.dumps(content))
    inspect_checkpoint(str(folder), str(base))
    assert [repr(recorded) in line and str(base) in line for line in told(caplog)] == [
        True
    ] * warned


@pytest.mark.parametrize("safetensors", [True, False])
def test_lora_without_projector_over_a_llava_is_told(
    tiny_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, safetensors: bool
) -> None:
    tensors = load_file(tiny_checkpoint / "model.safetensors")
    folder = write_adapter(tmp_path / "mine/checkpoint-9", tensors)
    content = json.loads((folder / "adapter_config.json").read_text())
    content["base_model_name_or_path"] = tiny_checkpoint.name
    (folder / "adapter_config.json").write_text(json.dumps(content))
    adapter = torch.load(folder / "adapter_model.bin", weights_only=True)
    if safetensors:
        (folder / "adapter_model.bin").unlink()
        save_file(adapter, folder / "adapter_model.safetensors")
    else:  # as torch wrote it before its zip format
        torch.save(adapter, folder / "adapter_model.bin", _use_new_zipfile_serialization=False)
    inspect_checkpoint(str(folder), str(tiny_checkpoint))
    (line,) = told(caplog)
    assert "non_lora_trainables.bin" in line
    assert "projector" in line
    inspect_checkpoint(str(folder), str(tiny_checkpoint))
    assert len(told(caplog)) == 1


@pytest.mark.parametrize("kind", ["adapter", "projector"])
def test_what_needs_a_base_is_none(tiny_checkpoint: Path, tmp_path: Path, kind: str) -> None:
    make = {"adapter": make_lora, "projector": make_projector}[kind]
    folder = make_lora(tmp_path / "llava-lora", tiny_checkpoint)
    base = make(tmp_path / "given", tiny_checkpoint)
    with pytest.raises(CheckpointError, match=rf"`model\.base` is .*{kind} itself") as caught:
        inspect_checkpoint(str(folder), str(base))
    assert "Copy" not in str(caught.value)
    (base / "model.safetensors").touch()  # a merged model beside what it was made of is one
    with pytest.raises(CheckpointError, match="No tokenizer"):
        inspect_checkpoint(str(folder), str(base))


@pytest.mark.parametrize(("more", "remedy"), [(2, "merge_and_unload"), (-40, "one training")])
def test_embeddings_of_another_vocabulary_are_refused(
    tiny_checkpoint: Path, tmp_path: Path, more: int, remedy: str
) -> None:
    tensors = load_file(tiny_checkpoint / "model.safetensors")
    folder = write_adapter(tmp_path / "adapter", tensors)
    adapter = torch.load(folder / "adapter_model.bin", weights_only=True)
    rows, width = tensors["model.embed_tokens.weight"].shape
    embeddings = {"base_model.model.model.embed_tokens.weight": torch.zeros(rows + more, width)}
    torch.save(adapter | embeddings, folder / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=rf"adapter_model\.bin have another shape.*{remedy}"):
        load(folder, tiny_checkpoint)


def edit_adapter(folder: Path, **fields: Any) -> None:
    """Changes fields of adapter_config.json; `...` removes one."""
    path = folder / "adapter_config.json"
    content = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))


@pytest.mark.few_cases(3)
@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["q_proj", "lm_head"], "ensure_weight_tying": True},
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": LANGUAGE, "modules_to_save": ["embed_tokens"]},
        {"target_modules": LANGUAGE, "modules_to_save": ["lm_head"]},
        {"target_modules": LANGUAGE, "trainable_token_indices": [5, 6]},
        {"target_modules": LANGUAGE, "trainable_token_indices": {"lm_head": [*range(200)]}},
        {"target_modules": r".*(layers.*q_proj|embed_tokens)", "ensure_weight_tying": True},
        {"target_modules": LANGUAGE, "modules_to_save": ["lm_head"], "ensure_weight_tying": True},
        {"target_modules": LANGUAGE, "trainable_token_indices": TOKENS_OF_EACH},
        {"target_modules": LANGUAGE, "bias": "all"},
        {"target_modules": ["mm_projector.0", "o_proj"], "bias": "lora_only"},
        {"target_modules": ["q_proj", "lm_head"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj", "lm_head"], "peft_type": "LOHA"},
    ],
    ids=[
        *("tied head", "head", "embeddings", "saved embeddings", "saved head", "tokens"),
        *("tokens of the head", "tied embeddings", "saved tied", "tokens of each", "biases"),
        *("lora biases", "saved and named as a target", "head of another kind"),
    ],
)
def test_adapter_answers_as_it_did_in_training(
    tiny_tower: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Over a model whose head is its embeddings, where a merge by peft would change both."""
    base = make_checkpoint(tmp_path / "llava-tied", tiny_tower, tie_word_embeddings=True)
    tokenizer, model, image_processor, _ = load(base)
    from peft import get_peft_config, get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = get_peft_config({"peft_type": "LORA", "r": 4} | options)
        tuned = get_peft_model(model, config)
        draw = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for value in tuned.parameters():
                if value.requires_grad:
                    value.add_(0.3 * torch.randn(value.shape, generator=draw))
        tuned.save_pretrained(tmp_path / "adapter")
    expected = logits_of((tokenizer, tuned.eval(), image_processor, 0))
    answer = logits_of(load(tmp_path / "adapter", base))
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-3)


def test_rows_under_matrices_on_a_tied_head_are_refused(tiny_tower: Path, tmp_path: Path) -> None:
    base = make_checkpoint(tmp_path / "llava-tied", tiny_tower, tie_word_embeddings=True)
    options = {"target_modules": ["q_proj", "lm_head"], "trainable_token_indices": [5, 6]}
    train(load(base)[1], tmp_path / "adapter", base.name, **options)
    with pytest.raises(CheckpointError, match=r"`trainable_token_indices` must be left out beside"):
        load(tmp_path / "adapter", base)


@pytest.mark.parametrize("over_llava", [True, False])
def test_all_biases_are_saved_beside_matrices_on_the_language_model_alone(
    tiny_checkpoint: Path, tmp_path: Path, over_llava: bool
) -> None:
    """LLaVA's training lays the matrices before there is a tower, and saves all biases after."""
    base = tiny_checkpoint if over_llava else make_base(tmp_path / "vicuna-tiny", tiny_checkpoint)
    folder = make_lora(tmp_path / "llava-lora", tiny_checkpoint)
    edit_config(folder, mm_vision_tower=str(tiny_checkpoint.parent / "clip-tiny-56"))
    expected = logits_of(load(folder, base))
    edit_adapter(folder, bias="all")
    torch.testing.assert_close(logits_of(load(folder, base)), expected)
    file = folder / "adapter_model.bin"
    own = load_file(tiny_checkpoint.parent / "clip-tiny-56/model.safetensors")
    tower = "base_model.model.model.vision_tower.vision_tower."
    biases = {f"{tower}{name}": t for name, t in own.items() if name.endswith(".bias")}
    torch.save(torch.load(file, weights_only=True) | biases, file)
    torch.testing.assert_close(logits_of(load(folder, base)), expected)
    lost = {
        n: t for n, t in torch.load(file, weights_only=True).items() if "k_proj.lora_B" not in n
    }
    torch.save(lost, file)
    with pytest.raises(CheckpointError, match="not applied completely"):
        load(folder, base)


@pytest.mark.parametrize(
    ("lost", "told"),
    [("mm_projector", "names mm_projector, but .*hold nothing"), ("mm_projector.2", "lack model")],
)
def test_module_that_was_saved_whole_must_be_there(
    tiny_checkpoint: Path, tmp_path: Path, lost: str, told: str
) -> None:
    _, model, _, _ = load(tiny_checkpoint)
    options = {"target_modules": LANGUAGE, "modules_to_save": ["mm_projector"]}
    train(model, tmp_path / "adapter", tiny_checkpoint.name, **options)
    file = tmp_path / "adapter/adapter_model.safetensors"
    save_file({name: t for name, t in load_file(file).items() if lost not in name}, file)
    with pytest.raises(CheckpointError, match=rf"`modules_to_save` in .*{told}"):
        load(tmp_path / "adapter", tiny_checkpoint)
    if lost == "mm_projector":  # in a dry run, too
        with pytest.raises(CheckpointError, match="modules_to_save"):
            inspect_checkpoint(str(tmp_path / "adapter"), str(tiny_checkpoint))


@pytest.mark.parametrize("over_llava", [True, False])
def test_projector_saved_in_part_is_refused(
    tiny_checkpoint: Path, tmp_path: Path, over_llava: bool
) -> None:
    base = tiny_checkpoint if over_llava else make_base(tmp_path / "vicuna-tiny", tiny_checkpoint)
    folder = make_lora(tmp_path / "llava-lora", tiny_checkpoint)
    edit_config(folder, mm_vision_tower=str(tiny_checkpoint.parent / "clip-tiny-56"))
    file = folder / "non_lora_trainables.bin"
    rest = torch.load(file, weights_only=True)
    torch.save({name: t for name, t in rest.items() if "mm_projector.2" not in name}, file)
    with pytest.raises(CheckpointError, match=r"non_lora_trainables\.bin holds the projector with"):
        load(folder, base)


def test_projector_that_peft_saved_whole_beside_the_adapter(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    base = make_base(tmp_path / "vicuna-tiny", tiny_checkpoint)
    folder = make_lora(tmp_path / "llava-lora", tiny_checkpoint)
    edit_config(folder, mm_vision_tower=str(tiny_checkpoint.parent / "clip-tiny-56"))
    expected = logits_of(load(folder, base))
    file, wrapped = folder / "non_lora_trainables.bin", {}
    for name, tensor in torch.load(file, weights_only=True).items():
        for part, value in (("modules_to_save.default", tensor), ("original_module", tensor * 0)):
            wrapped[name.replace("mm_projector.", f"mm_projector.{part}.")] = value
    torch.save(wrapped, file)
    assert torch.equal(logits_of(load(folder, base)), expected)


@pytest.mark.parametrize("lost", ["layers.1.", "layers.1.self_attn.v_proj", "lora_B"])
def test_half_an_adapter_over_transformers_own_format_is_refused(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path, lost: str
) -> None:
    from transformers import LlavaForConditionalGeneration

    base = make_native(tmp_path / "llava-1.5-hf", tiny_checkpoint, tiny_tower)
    model = LlavaForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    train(model, tmp_path / "sft", base.name, target_modules=r".*language_model.*\.(v|o)_proj")
    file = tmp_path / "sft/adapter_model.safetensors"
    save_file({name: t for name, t in load_file(file).items() if lost not in name}, file)
    with pytest.raises(CheckpointError, match="not applied completely"):
        load(tmp_path / "sft", base)


@pytest.mark.parametrize(
    "fields",
    [
        *({"lora_alpha": value} for value in (..., None, 0, -16, True, "16", float("nan"))),
        *({"r": value} for value in (..., 0, "4", 4.0)),
        *({"peft_type": value} for value in (..., None, "HRA", "lora", "PROMPT_TUNING", ["LORA"])),
        *({name: "false"} for name in ("use_rslora", "use_dora", "fan_in_fan_out", "lora_bias")),
        *({"alpha_pattern": value} for value in ([], {"q_proj": "3"}, {"q_proj": None})),
        *({"rank_pattern": {"q_proj": 2.5}}, {"bias": "some"}, {"target_modules": 5}),
        {"rank_pattern": {"q_proj": [True]}},
        *({"alora_invocation_tokens": [5]}, {"megatron_config": {}}, {"use_qalora": True}),
        *({"arrow_config": {}}, {"use_bdlora": {"nblocks": 2}}),
        *({"init_lora_weights": each} for each in ("pissa_niter_16", "lora_ga", "corda", "", 1)),
    ],
    ids=str,
)
def test_every_field_of_an_adapter_is_understood_or_refused(
    tiny_checkpoint: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    tensors = load_file(tiny_checkpoint / "model.safetensors")
    folder = write_adapter(tmp_path / "adapter", tensors)
    edit_adapter(folder, **fields)
    with pytest.raises(CheckpointError, match=rf"`{next(iter(fields))}.*adapter_config\.json"):
        inspect_checkpoint(str(folder), str(tiny_checkpoint))


def test_biases_of_matrices_on_layers_without_are_refused(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(target_modules=PROJECTOR, lora_bias=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        get_peft_model(load(tiny_checkpoint)[1], config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(CheckpointError, match=r"`lora_bias` must be false, as .*o_proj has no"):
        load(tmp_path / "adapter", tiny_checkpoint)


@pytest.mark.parametrize("field", ["alpha_pattern", "exclude_modules"])
def test_pattern_that_is_none_is_refused(tiny_checkpoint: Path, tmp_path: Path, field: str) -> None:
    tensors = load_file(tiny_checkpoint / "model.safetensors")
    folder = write_adapter(tmp_path / "adapter", tensors)
    edit_adapter(folder, **{field: {"[": 3} if field == "alpha_pattern" else "["})
    with pytest.raises(CheckpointError, match="unterminated character set"):
        load(folder, tiny_checkpoint)


@pytest.mark.skipif(torch.cuda.is_available(), reason="peft follows it there")
def test_adapter_that_peft_can_only_start_on_a_gpu_is_refused(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "adapter", load_file(tiny_checkpoint / "model.safetensors"))
    loftq = {"loftq_bits": 4, "loftq_iter": 1}
    edit_adapter(folder, init_lora_weights="loftq", loftq_config=loftq)
    with pytest.raises(CheckpointError, match=r"cannot be applied: .*(CUDA|NVIDIA)"):
        load(folder, tiny_checkpoint)


def test_folder_of_named_adapters_names_them(tiny_checkpoint: Path, tmp_path: Path) -> None:
    tensors = load_file(tiny_checkpoint / "model.safetensors")
    write_adapter(tmp_path / "adapters/vision", tensors)
    with pytest.raises(CheckpointError, match=r"No model, adapter or .*adapters/vision`"):
        inspect_checkpoint(str(tmp_path / "adapters"), str(tiny_checkpoint))
    inspect_checkpoint(str(tmp_path / "adapters/vision"), str(tiny_checkpoint))


def test_base_that_its_own_configuration_contradicts_is_told(
    tiny_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = make_base(tmp_path / "the-base", tiny_checkpoint)
    folder = make_lora(tmp_path / "llava-lora", tiny_checkpoint)
    edit_config(folder, mm_vision_tower=str(tiny_checkpoint.parent / "clip-tiny-56"))
    inspect_checkpoint(str(folder), str(base))
    assert not told(caplog)
    edit_config(base, rms_norm_eps=1e-06)  # LLaMA's, where Llama 2 has 1e-05
    inspect_checkpoint(str(folder), str(base))
    (line,) = told(caplog)
    assert "`rms_norm_eps` is 1e-05, there 1e-06" in line


def test_lora_whose_second_file_has_no_projector_is_told(
    tiny_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = Path(shutil.copytree(tiny_checkpoint, tmp_path / "the-base"))
    folder = make_lora(tmp_path / "llava-lora", tiny_checkpoint)
    for each in (base, folder):
        edit_config(each, mm_vision_tower=str(tiny_checkpoint.parent / "clip-tiny-56"))
    inspect_checkpoint(str(folder), str(base))
    assert not told(caplog)
    torch.save({}, folder / "non_lora_trainables.bin")
    inspect_checkpoint(str(folder), str(base))
    assert "projector of" in told(caplog)[0]


def test_step_without_its_projector_answers_as_its_remedy_says(
    tiny_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = make_base(tmp_path / "the-base", tiny_checkpoint)
    folder = make_lora(tmp_path / "checkpoint-100", tiny_checkpoint)
    for each in (folder, make_projector(tmp_path / "pretrain", tiny_checkpoint)):
        edit_config(each, mm_vision_tower=str(tiny_checkpoint.parent / "clip-tiny-56"))
    trainables = folder / "non_lora_trainables.bin"
    trainables.unlink()
    with pytest.raises(CheckpointError, match=r"last step alone: .*`torch\.save") as refusal:
        load(folder, tiny_checkpoint)
    assert f"`torch.save({{}}, {str(trainables)!r})` says so" in str(refusal.value)
    torch.save({}, trainables)
    load(folder, tiny_checkpoint)
    assert "projector of" in " ".join(told(caplog))
    with pytest.raises(CheckpointError, match=r"non_lora_trainables\.bin that .* this step; if"):
        load(folder, base)
    shutil.copy(tmp_path / "pretrain/mm_projector.bin", trainables)
    load(folder, base)
