"""Every field of a checkpoint's JSON files is understood, without effect, or refused by name."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from llava.errors import CheckpointError
from llava.mm_utils import process_images, tokenizer_image_token
from llava.model.builder import load_pretrained_model
from llava.model.checkpoint import inspect_checkpoint
from llava.model.native import translate_config
from tests.checkpoints import LLAVA_CONFIG, make_checkpoint
from tests.variants import make_family, make_mistral, make_mpt, make_native, write_adapter

JUNK: tuple[Any, ...] = (
    *(None, True, "nonsense", "16", -1, 0, 3.5, float("nan"), 10**12, [], [3], {}, {"a": 1}, ...),
)
"""What no field can be, or only some; `...` stands for leaving it out."""

STEERS = (
    *("quantization_config", "auto_map", "attn_implementation", "_attn_implementation"),
    *("output_attentions", "output_hidden_states", "return_dict", "torchscript", "is_decoder"),
    *("is_encoder_decoder", "chunk_size_feed_forward", "pruned_heads", "num_labels", "id2label"),
    *("base_model_tp_plan", "attribute_map", "layer_types", "attention_chunk_size", "to_dict"),
    *("text_config", "decoder", "cache_implementation", "problem_type", "trust_remote_code"),
    *("rope_parameters", "rope_theta", "sliding_window", "head_dim", "attention_bias", "mlp_bias"),
    *("num_return_sequences", "dtype", "s2", "s2_scales", "mm_resampler_type", "vision_tower"),
    *("max_sequence_length", "tokenizer_model_max_length", "tokenizer_padding_side"),
    *(
        "mm_patch_merge_type",
        "mm_tunable_parts",
        "image_grid_pinpoints",
        "do_sample",
        "temperature",
        "num_beams",
    ),
)
"""Fields that the tiny checkpoint does not have and that decide something, here or in a library."""

NATIVE_FIELDS = (
    *("text_config", "vision_config", "vision_feature_layer", "vision_feature_select_strategy"),
    *("projector_hidden_act", "multimodal_projector_bias", "image_seq_length", "pad_token_id"),
    *("tie_word_embeddings", "quantization_config", "dtype"),
)
TEXT_FIELDS = ("model_type", "hidden_size", "num_attention_heads", "rope_parameters", "vocab_size")
VISION_FIELDS = (
    *("model_type", "hidden_size", "image_size", "patch_size", "num_attention_heads"),
    *("num_hidden_layers", "hidden_act", "layer_norm_eps", "num_channels"),
)
PROCESSOR_FIELDS = (
    *("crop_size", "size", "do_center_crop", "do_resize", "do_rescale", "do_normalize"),
    *("do_convert_rgb", "image_mean", "image_std", "image_processor_type", "resample"),
    *("rescale_factor", "do_pad", "processor_class"),
)
GENERATION_FIELDS = (
    *("eos_token_id", "pad_token_id", "repetition_penalty", "num_return_sequences", "num_beams"),
    *("cache_implementation", "min_length", "suppress_tokens", "bad_words_ids", "temperature"),
    *("max_time", "max_new_tokens", "guidance_scale", "stop_strings", "force_words_ids"),
)

STATED = {
    **dict.fromkeys(("rms_norm_eps", "rope_theta", "layer_norm_eps"), (3.5, 10**12, True)),
    **dict.fromkeys(("mm_use_im_start_end", "mm_use_im_patch_token"), (True, None, ...)),
    **dict.fromkeys(("do_rescale", "do_normalize", "image_std", "rescale_factor"), JUNK),
    "mm_vision_select_layer": (-1, 0),
    "vision_feature_layer": (-1, 0),
    "image_aspect_ratio": (None, ...),
    **dict.fromkeys(("repetition_penalty", "min_length", "suppress_tokens"), JUNK),
    "hidden_act": (...,),
    "resample": (0,),
    "num_attention_heads": (...,),
}
"""Values of a field that describe a model, though another one."""

OTHERWISE_TOLD = re.compile(
    r"tensors .* another shape|lacks \d+ (of the|tensors of)|that have no place|`crop_size` must be"
)
"""What a size or a part is refused with that weights or the preparation of images do not have."""


def edit(folder: Path, file: str = "config.json", /, **fields: Any) -> None:
    """Changes fields of a JSON file; `...` removes one."""
    path = folder / file
    content = json.loads(path.read_text()) | fields
    kept = {name: value for name, value in content.items() if value is not ...}
    path.write_text(json.dumps(kept))


def copy(checkpoint: Path, tower: Path, home: Path) -> Path:
    """A copy with its tower beside it, both free to be changed."""
    shutil.copytree(tower, home / tower.name)
    return Path(shutil.copytree(checkpoint, home / checkpoint.name))


def load(folder: Path) -> tuple[Any, Any, Any, int]:
    return load_pretrained_model(str(folder), None, folder.name, device="cpu")


def logits_of(folder: Path) -> torch.Tensor:
    """The logits behind a question about an image that is no square."""
    tokenizer, model, processor, _ = load(folder)
    ids = tokenizer_image_token(
        "USER: <image>\nHow many? ASSISTANT:", tokenizer, return_tensors="pt"
    )
    image = Image.radial_gradient("L").convert("RGB").resize((90, 50))
    pixels = process_images([image], processor, model.config)
    with torch.no_grad():
        output = model(input_ids=ids[None], images=pixels, image_sizes=[(90, 50)])
    return output.logits[0, -1]


def check_mutations(
    folder: Path, path: Path, name: str, answers: Callable[[Path], Any], within: str | None = None
) -> None:
    """Checks that every value of a field gives the same answers, or a refusal that names it."""
    expected, original, wrong = answers(folder), json.loads(path.read_text()), []
    for value in JUNK:
        fields = json.loads(json.dumps(original))
        part = fields[within] if within else fields
        part[name] = value
        if value is ...:
            del part[name]  # what was there before is gone with it
        path.write_text(json.dumps(fields))
        try:
            found = answers(folder)
        except CheckpointError as error:
            if name not in str(error) and not OTHERWISE_TOLD.search(str(error)):
                wrong.append(f"{name}={value!r}: {error}")
        else:
            if value not in STATED.get(name, ()) and not torch.equal(found, expected):
                wrong.append(f"{name}={value!r}: other answers")
    assert not wrong, "\n".join(wrong)


def logits_and_end(folder: Path) -> torch.Tensor:
    """Logits of a question, and the tokens of an answer, which options of generation could turn."""
    tokenizer, model, _, _ = load(folder)
    ids = tokenizer_image_token("USER: How many? ASSISTANT:", tokenizer, return_tensors="pt")
    return model.generate(ids[None], do_sample=False, num_beams=1, max_new_tokens=4)


@pytest.mark.few_cases(3)
@pytest.mark.parametrize("name", [*LLAVA_CONFIG, *STEERS])
def test_every_field_is_understood_without_effect_or_refused(
    name: str, tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_checkpoint, tiny_tower, tmp_path)
    check_mutations(folder, folder / "config.json", name, logits_of)


@pytest.mark.few_cases(2)
@pytest.mark.parametrize(
    ("within", "name"),
    [
        *((None, name) for name in NATIVE_FIELDS),
        *(("text_config", name) for name in TEXT_FIELDS),
        *(("vision_config", name) for name in VISION_FIELDS),
    ],
)
def test_every_field_of_the_native_format(
    within: str | None, name: str, tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = make_native(tmp_path / "llava-1.5-tiny-hf", tiny_checkpoint, tiny_tower)
    check_mutations(folder, folder / "config.json", name, logits_of, within)


@pytest.mark.few_cases(4)
@pytest.mark.parametrize(
    ("file", "name"),
    [
        *(("config.json", name) for name in VISION_FIELDS),
        *(("preprocessor_config.json", name) for name in PROCESSOR_FIELDS),
    ],
)
def test_every_field_of_the_tower(
    file: str, name: str, tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_checkpoint, tiny_tower, tmp_path)
    check_mutations(folder, tmp_path / tiny_tower.name / file, name, logits_of)


def test_images_that_are_not_cropped_must_be_square_already(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_checkpoint, tiny_tower, tmp_path)
    edit(folder, image_aspect_ratio="pad")
    expected = logits_of(folder)
    edit(tmp_path / tiny_tower.name, "preprocessor_config.json", do_center_crop=False)
    assert torch.equal(logits_of(folder), expected)
    edit(folder, image_aspect_ratio="square")
    with pytest.raises(CheckpointError, match="`do_center_crop` must be true, but is False"):
        inspect_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("_attn_implementation", "flash_attention_2"), ("attn_implementation", "x")),
        *(("dtype", "x"), ("projection_dim", "x"), ("use_square_size", True)),
        ("default_to_square", True),
    ],
)
def test_other_fields_of_the_tower_steer_nothing(
    field: str, value: Any, tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_checkpoint, tiny_tower, tmp_path)
    for file in ("config.json", "preprocessor_config.json"):
        edit(tmp_path / tiny_tower.name, file, **{field: value})
    edit(tmp_path / tiny_tower.name, "preprocessor_config.json", size=56)
    assert torch.equal(logits_of(folder), logits_of(tiny_checkpoint))


def nest_processor(tower: Path, **fields: Any) -> None:
    """Writes how images are prepared as transformers writes it today."""
    processor = json.loads((tower / "preprocessor_config.json").read_text()) | fields
    (tower / "processor_config.json").write_text(json.dumps({"image_processor": processor}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("do_resize", False), ("image_processor_type", "SiglipImageProcessor")),
        *(("crop_size", {"height": 112, "width": 112}), ("image_mean", [0.5]), ("size", "56")),
    ],
)
def test_nested_preparation_of_images_is_checked(
    field: str, value: Any, tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder, tower = copy(tiny_checkpoint, tiny_tower, tmp_path), tmp_path / tiny_tower.name
    nest_processor(tower, **{field: value})
    message = refusal(folder)
    assert f"`image_processor.{field}` must be" in message
    assert str(tower / "processor_config.json") in message
    (tower / "processor_config.json").write_text('{"image_processor": "CLIP"}')
    assert "`image_processor` must be an object" in refusal(folder)


def test_nested_preparation_of_images_counts(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder, tower = copy(tiny_checkpoint, tiny_tower, tmp_path), tmp_path / tiny_tower.name
    nest_processor(tower)
    edit(tower, "preprocessor_config.json", image_mean=[0, 0, 0])
    assert torch.equal(logits_of(folder), logits_of(tiny_checkpoint))
    (tower / "preprocessor_config.json").unlink()
    assert torch.equal(logits_of(folder), logits_of(tiny_checkpoint))
    (tower / "processor_config.json").write_text('{"image_processor": null}')
    assert f"{tower / 'preprocessor_config.json'} is missing" in refusal(folder)


@pytest.mark.few_cases(2)
@pytest.mark.parametrize("name", GENERATION_FIELDS)
def test_every_option_of_generation(
    name: str, tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_checkpoint, tiny_tower, tmp_path)
    check_mutations(folder, folder / "generation_config.json", name, logits_and_end)


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("guidance_scale", 3.0), ("stop_strings", ["a"]), ("dola_layers", "low")),
        *(("max_time", 0.001), ("constraints", [1]), ("force_words_ids", [[5]])),
        *(("token_healing", True), ("assistant_early_exit", 1), ("forced_eos_token_id", 640)),
        *(("watermarking_config", {"greenlist_ratio": 0.5}), ("sequence_bias", [[[5], 5.0]])),
        *(("exponential_decay_length_penalty", [3, 1.5]), ("forced_bos_token_id", "</s>")),
        *(("encoder_no_repeat_ngram_size", 2), ("custom_generate", "x"), ("do_sample", "yes")),
    ],
)
def test_option_of_generation_that_no_request_can_follow_is_refused(
    file: str, option: str, value: Any, tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_checkpoint, tiny_tower, tmp_path)
    edit(folder, file, **{option: value})
    message = refusal(folder)
    assert f"`{option}` must be" in message
    assert str(folder / file) in message


def test_other_options_of_generation_steer_nothing(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_checkpoint, tiny_tower, tmp_path)
    others = {"is_assistant": True, "compile_config": {}, "disable_compile": "x"}
    others |= {"max_length": 1, "output_attentions": True}
    first = logits_and_end(folder)[0, 0].item()
    edit(folder, "generation_config.json", **others, begin_suppress_tokens=[first])
    tokens = logits_and_end(folder)
    assert tokens[0, 0] != first
    edit(folder, "generation_config.json", **dict.fromkeys(others, ...))
    assert torch.equal(tokens, logits_and_end(folder))


def refusal(folder: Path, base: Path | None = None) -> str:
    """What the inspection alone, which a dry run does too, refuses a checkpoint with."""
    with pytest.raises(CheckpointError) as caught:
        inspect_checkpoint(str(folder), None if base is None else str(base))
    return str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("image_aspect_ratio", value) for value in ("Pad", "padd", "anyres_max_09", "crop")),
        *(
            ("mm_patch_merge_type", value)
            for value in ("unpad", "spatial_maxpool", "spatial_unpad_unpad", None)
        ),
        *(("mm_projector_type", value) for value in ("mlp2x", "mlp0x_gelu", "cdpnet", None)),
        *(("mm_vision_select_feature", value) for value in ("cls", "slicefour_patch", None)),
        *(("s2", "true"), ("mm_resampler_type", "perceiver"), ("mm_use_im_start_end", "false")),
        *(("unfreeze_mm_vision_tower", "false"), ("torch_dtype", "nonsense"), ("dtype", "auto")),
        *(("hidden_act", "silo"), ("num_attention_heads", 6), ("num_key_value_heads", 3)),
        *(("rope_scaling", {"type": "linear", "factor": 0.5}), ("rope_scaling", {"factor": 2.0})),
        *(("rope_scaling", {"type": "su", "factor": 2.0}), ("eos_token_id", [2, 640])),
        *(("mm_tunable_parts", value) for value in (5, True, {"mm_vision_tower": 1}, "a;b", [3])),
        *(
            ("tokenizer_model_max_length", "2048"),
            ("sliding_window", 0),
            ("num_hidden_layers", 9e9),
        ),
    ],
)
def test_inspection_names_the_field_the_value_and_the_file(
    field: str, value: Any, tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_checkpoint, tiny_tower, tmp_path)
    edit(folder, **{field: value})
    message = refusal(folder)
    assert f"`{field}" in message
    assert str(folder / "config.json") in message
    assert field == "rope_scaling" or repr(value) in message


@pytest.mark.parametrize(
    "written", [..., [], [[56, 100]], "[[56, 112]", [[56, 112, 56]], "(1x1)", [["56", 112]]]
)
def test_tiles_that_cannot_be_cut_are_refused_at_inspection(
    written: Any, tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_checkpoint, tiny_tower, tmp_path)
    edit(folder, image_aspect_ratio="anyres", image_grid_pinpoints=written)
    assert "`image_grid_pinpoints` must be widths and heights in multiples" in refusal(folder)


TILED = {"image_aspect_ratio": "anyres", "image_grid_pinpoints": [[56, 112]]}


@pytest.mark.parametrize("native", [False, True])
def test_class_token_in_a_map_of_tiles_is_refused_by_the_field_that_is_there(
    native: bool, tiny_tower: Path, tmp_path: Path
) -> None:
    tiles = TILED | {"mm_patch_merge_type": "spatial_unpad"}
    folder = make_checkpoint(tmp_path / "llava", tiny_tower, **tiles)
    edit(folder, mm_vision_select_feature="cls_patch")
    field = "mm_vision_select_feature"
    if native:
        edit(folder, mm_vision_select_feature="patch")
        folder = make_native(tmp_path / "native", folder, tiny_tower)
        edit(folder, vision_feature_select_strategy="full")
        field = "vision_feature_select_strategy"
    assert f"`{field}` must be" in refusal(folder)


def test_messages_about_a_native_tower_name_its_own_fields(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = make_native(tmp_path / "native", tiny_checkpoint, tiny_tower)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["vision_config"]["num_hidden_layers"] += 1
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"vision tower.*`vision_config`") as e:
        load(folder)
    assert "mm_" not in str(e.value)
    config["text_config"]["eos_token_id"] = 10**6
    path.write_text(json.dumps(config))
    assert "`text_config.eos_token_id` must be" in refusal(folder)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
def test_file_in_another_encoding_is_to_be_saved_again(
    encoding: str, tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_checkpoint, tiny_tower, tmp_path)
    edit(folder, _name_or_path="é")
    written = json.dumps(json.loads((folder / "config.json").read_text()), ensure_ascii=False)
    (folder / "config.json").write_bytes(written.encode(encoding))
    assert "save it as UTF-8 without a byte order mark" in refusal(folder)
    (folder / "config.json").write_text(written, encoding="utf-8")
    inspect_checkpoint(str(folder))


def test_every_notation_of_the_same_tiles_gives_the_same_answers(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder, found = copy(tiny_checkpoint, tiny_tower, tmp_path), []
    pairs = [[56 * columns, 56 * rows] for columns in (1, 2) for rows in (1, 2)]
    for written in (pairs, str(pairs), "(1x1),...,(2x2)"):
        edit(folder, image_aspect_ratio="anyres", image_grid_pinpoints=written)
        assert inspect_checkpoint(str(folder)).config["image_grid_pinpoints"] == pairs
        found.append(logits_of(folder))
    edit(folder, image_aspect_ratio="square")
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], logits_of(folder))


QUANTIZED = {
    "hqq": ("HQQ", {"W_q": torch.uint8}),
    "quanto": ("quanto", {"weight._data": torch.int8, "weight._scale": torch.float32}),
    "aqlm": ("AQLM", {"codebooks": torch.float16}),
    "compressed-tensors": ("a sparse compressed-tensors", {"bitmask": torch.uint8}),
    "fp8": ("8 bit with scales", {"weight_scale_inv": torch.float32}),
    "fbgemm_fp8": ("8 bit with scales", {"weight_scale": torch.float32}),
    None: ("8 bit with scales", {"weight_scales": torch.float32}),
}


@pytest.mark.parametrize("safetensors", [True, False])
@pytest.mark.parametrize("method", QUANTIZED)
def test_quantized_weights_that_cannot_be_read_are_refused_by_their_method(
    method: str | None, safetensors: bool, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = make_checkpoint(tmp_path / "llava", tiny_tower, safetensors=safetensors)
    if method is not None:
        edit(folder, quantization_config={"quant_method": method, "bits": 4})
    told, parts = QUANTIZED[method]
    path = folder / ("model.safetensors" if safetensors else "pytorch_model.bin")
    tensors = load_file(path) if safetensors else torch.load(path, weights_only=True)
    for name, dtype in parts.items():
        tensors[f"model.layers.0.mlp.up_proj.{name}"] = torch.ones(4).to(dtype)
    save_file(tensors, path) if safetensors else torch.save(tensors, path)
    message = refusal(folder)
    assert f"stored quantized by {told}" in message
    assert "quantization=nf4" in message
    assert "Download" not in message


def test_weights_stored_as_whole_numbers_are_refused(tiny_tower: Path, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "llava", tiny_tower)
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name] = tensors[name].to(torch.int8)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"{name} .* stored as int8: .* quantized"):
        load(folder)


@pytest.mark.parametrize("pad", [640, 32000, -1, None])
def test_padding_decides_no_answer(
    pad: int | None, tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_checkpoint, tiny_tower, tmp_path)
    edit(folder, pad_token_id=pad)
    assert torch.equal(logits_of(folder), logits_of(tiny_checkpoint))


def test_head_of_its_own_contradicts_tied_embeddings(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_checkpoint, tiny_tower, tmp_path)
    edit(folder, tie_word_embeddings=True)
    with pytest.raises(CheckpointError, match=r"`tie_word_embeddings` must be false.*config\.json"):
        load(folder)


@pytest.mark.parametrize(("tiled", "length"), [(False, 4096), (True, 8192), (True, None)])
def test_native_format_states_its_own_context(
    tiled: bool, length: int | None, tiny_tower: Path, tmp_path: Path
) -> None:
    tiles = {"image_aspect_ratio": "anyres", "image_grid_pinpoints": [[56, 112]]}
    tiles |= {"mm_patch_merge_type": "spatial_unpad"}
    llava = make_checkpoint(tmp_path / "llava", tiny_tower, **(tiles if tiled else {}))
    folder = make_native(tmp_path / "native", llava, tiny_tower)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["text_config"]["max_position_embeddings"] = length
    if length is None:
        del config["text_config"]["max_position_embeddings"]
    path.write_text(json.dumps(config))
    checkpoint = inspect_checkpoint(str(folder))
    assert checkpoint.context_len == (length or 2048)  # transformers' own, where it is left out
    assert checkpoint.max_prompt_tokens == checkpoint.context_len - 1


def test_sizes_that_transformers_leaves_out_are_those_of_its_class(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = make_native(tmp_path / "native", tiny_checkpoint, tiny_tower)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] = {"model_type": "llama", "vocab_size": 32064, "rms_norm_eps": 1e-5}
    (folder / "config.json").write_text(json.dumps(config))
    found = inspect_checkpoint(str(folder)).config
    assert (found["hidden_size"], found["num_hidden_layers"]) == (4096, 32)
    config["text_config"] |= {"model_type": "mistral", "num_key_value_heads": 8}
    (folder / "config.json").write_text(json.dumps(config))
    assert inspect_checkpoint(str(folder)).config["intermediate_size"] == 14336


def pixels_of(folder: Path) -> torch.Tensor:
    """An image that is no square as a checkpoint prepares it."""
    _, model, processor, _ = load(folder)
    image = Image.radial_gradient("L").convert("RGB").resize((90, 50))
    return torch.as_tensor(process_images([image], processor, model.config))


@pytest.mark.few_cases(5)
@pytest.mark.parametrize("is_nested", [False, True])
@pytest.mark.parametrize(
    ("do_pad", "stated", "expected"),
    [
        *((True, ..., "pad"), (False, ..., "square"), (None, ..., "pad"), (..., ..., "pad")),
        *((..., "square", "square"), (False, "square", "square"), (True, "pad", "pad")),
    ],
)
def test_native_images_are_padded_unless_its_files_say_otherwise(
    do_pad: Any,
    stated: Any,
    expected: str,
    is_nested: bool,
    tiny_checkpoint: Path,
    tiny_tower: Path,
    tmp_path: Path,
) -> None:
    folder = make_native(tmp_path / "native", tiny_checkpoint, tiny_tower)
    original = copy(tiny_checkpoint, tiny_tower, tmp_path)
    edit(original, image_aspect_ratio=expected)
    edit(folder, "preprocessor_config.json", do_pad=do_pad)
    edit(folder, "preprocessor_config.json", image_processor_type="LlavaImageProcessor")
    edit(folder, image_aspect_ratio=stated)
    if is_nested:
        nest_processor(folder)
        edit(folder, "preprocessor_config.json", do_pad=expected != "pad")
    assert inspect_checkpoint(str(folder)).config["image_aspect_ratio"] == expected
    assert torch.equal(pixels_of(folder), pixels_of(original))


@pytest.mark.parametrize(("do_pad", "stated"), [(False, "pad"), (True, "square"), ("no", ...)])
def test_native_padding_that_contradicts_is_refused(
    do_pad: Any, stated: Any, tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = make_native(tmp_path / "native", tiny_checkpoint, tiny_tower)
    edit(folder, "preprocessor_config.json", do_pad=do_pad)
    edit(folder, image_aspect_ratio=stated)
    message = refusal(folder)
    assert "`do_pad` must be" in message
    assert str(folder / "preprocessor_config.json") in message
    edit(folder, "preprocessor_config.json", do_pad=False, do_center_crop=False)
    edit(folder, image_aspect_ratio=...)
    assert "`do_center_crop` must be true" in refusal(folder)


def test_native_padding_is_the_bases_below_an_adapter(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    base = make_native(tmp_path / "native", tiny_checkpoint, tiny_tower)
    edit(base, "preprocessor_config.json", do_pad=False)
    folder = write_adapter(tmp_path / "sft", load_file(tiny_checkpoint / "model.safetensors"))
    shutil.copy(base / "config.json", folder)
    config = inspect_checkpoint(str(folder), str(base)).config
    assert config["image_aspect_ratio"] == "square"


@pytest.mark.few_cases(1)
@pytest.mark.parametrize("do_pad", [True, False, None])
def test_padding_of_tiles_and_of_a_tower_beside_steers_nothing(
    do_pad: bool | None, tiny_tower: Path, tmp_path: Path
) -> None:
    tower = Path(shutil.copytree(tiny_tower, tmp_path / tiny_tower.name))
    tiles = TILED | {"mm_patch_merge_type": "spatial_unpad"}
    tiled = make_checkpoint(tmp_path / "llava-next", tower, **tiles)
    native = make_native(tmp_path / "native", tiled, tower)
    plain = make_checkpoint(tmp_path / "llava", tower)
    expected = {folder: pixels_of(folder) for folder in (tiled, native, plain)}
    for place in (tower, native):
        edit(place, "preprocessor_config.json", do_pad=do_pad)
    for folder, pixels in expected.items():
        assert torch.equal(pixels_of(folder), pixels)


@pytest.mark.parametrize(
    ("kind", "model_type"),
    [("llava", "llava_llama"), ("llava_next", "llava_llama"), ("llava_onevision", "llava_qwen")],
)
def test_language_model_that_transformers_leaves_out_is_that_of_its_class(
    kind: str, model_type: str
) -> None:
    config: dict[str, Any] = {"model_type": kind, "text_config": {}, "vision_config": {}}
    assert translate_config(config, Path("somewhere"))["model_type"] == model_type


def test_image_processor_is_to_come_from_where_the_tower_did(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_checkpoint, tiny_tower, tmp_path)
    native = make_native(tmp_path / "native", tiny_checkpoint, tiny_tower)
    for place in (tmp_path / tiny_tower.name, native):
        (place / "preprocessor_config.json").unlink()
    assert "is missing. Download the vision tower again" in refusal(folder)
    assert "is missing. Copy it from the model that the checkpoint was" in refusal(native)


def test_vocabulary_beside_merges_is_to_be_made_a_tokenizer(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_checkpoint, tiny_tower, tmp_path)
    (folder / "tokenizer.model").unlink()
    (folder / "vocab.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"neither tokenizer\.model .*\.save_pretrained\("):
        inspect_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("alibi", False), ("prefix_lm", True), ("qk_ln", True), ("softmax_scale", "x")),
        *(("attn_type", "multiquery_attention"), ("alibi_bias_max", 0)),
    ],
)
def test_attention_that_mpt_is_not_built_with_is_refused(
    field: str, value: Any, tiny_tower: Path, tmp_path: Path
) -> None:
    attention = {"alibi": True, "attn_impl": "torch", "alibi_bias_max": 8}
    folder = make_mpt(tmp_path / "llava-mpt", tiny_tower, attn_config=attention | {field: value})
    assert f"`attn_config.{field}` must be" in refusal(folder)


@pytest.mark.parametrize("family", ["mistral", "mpt"])
def test_other_families_are_inspected_alike(family: str, tiny_tower: Path, tmp_path: Path) -> None:
    make = make_mistral if family == "mistral" else make_mpt
    shutil.copytree(tiny_tower, tmp_path / tiny_tower.name)
    folder = make(tmp_path / f"llava-{family}", tiny_tower)
    assert inspect_checkpoint(str(folder)).family.name == family
    edit(folder, vocab_size="640")
    assert "`vocab_size` must be a whole number" in refusal(folder)


def test_tower_with_more_layers_than_it_says_is_refused(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_checkpoint, tiny_tower, tmp_path)
    edit(tmp_path / tiny_tower.name, num_hidden_layers=2)
    assert "`num_hidden_layers` must be 3, as the weights beside it" in refusal(folder)


def test_class_token_of_tiles_is_refused(tiny_tower: Path, tmp_path: Path) -> None:
    options = {"image_aspect_ratio": "anyres", "image_grid_pinpoints": [[56, 112]]}
    options |= {"mm_patch_merge_type": "spatial_unpad", "mm_vision_select_feature": "cls_patch"}
    folder = make_checkpoint(tmp_path / "llava-tiny", tiny_tower, **options)
    with pytest.raises(CheckpointError, match="`mm_vision_select_feature` must be patch, because"):
        inspect_checkpoint(str(folder))
    folder = make_checkpoint(
        tmp_path / "llava-flat", tiny_tower, **options | {"mm_patch_merge_type": "flat"}
    )
    assert logits_of(folder).isfinite().all()


@pytest.mark.parametrize("parts", [5, ["mm_vision_tower", 3], "mm_vision_tower;mm_mlp_adapter"])
def test_parts_that_nobody_knows_are_refused(
    parts: Any, tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_checkpoint, tiny_tower, tmp_path)
    edit(folder, mm_tunable_parts=parts)
    with pytest.raises(CheckpointError, match=r"`mm_tunable_parts` must be a list of .*config"):
        inspect_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("rope", "name"),
    [
        ({"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0] * 8}, "short"),
        ({"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [1.0] * 9}, "long"),
        (
            {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 4.0,
                "high_freq_factor": 1.0,
                "original_max_position_embeddings": 8192,
            },
            "low_freq",
        ),
    ],
)
def test_positions_that_contradict_the_model_are_refused(
    rope: dict[str, Any], name: str, tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_checkpoint, tiny_tower, tmp_path)
    edit(folder, rope_scaling=rope)
    with pytest.raises(CheckpointError, match=rf"`rope_scaling\.{name}_factor` must be"):
        inspect_checkpoint(str(folder))


@pytest.mark.parametrize("name", ["rope_scaling", "rope_parameters"])
def test_two_bases_of_the_positions_are_refused(
    name: str, tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_checkpoint, tiny_tower, tmp_path)
    rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5}
    edit(folder, rope_theta=1e4, **{name: rope})
    with pytest.raises(CheckpointError, match=rf"`rope_theta` must be the same as in `{name}`"):
        inspect_checkpoint(str(folder))
    edit(folder, rope_theta=5e5)
    inspect_checkpoint(str(folder))


def test_part_of_a_head_that_turns_counts_where_transformers_writes_it_today(
    tiny_tower: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_tower, tmp_path / tiny_tower.name)
    folder = make_family(tmp_path / "llava", tiny_tower, "phi3", partial_rotary_factor=0.75)
    tokenizer, model, _, _ = load(folder)
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved/config.json").read_text())
    assert saved["rope_parameters"]["partial_rotary_factor"] == 0.75
    edit(tmp_path / "saved", partial_rotary_factor=...)
    assert torch.equal(logits_of(tmp_path / "saved"), logits_of(folder))
    edit(tmp_path / "saved", partial_rotary_factor=0.5)
    words = "`partial_rotary_factor` must be the same as in `rope_parameters`, 0.75"
    assert words in refusal(tmp_path / "saved")
    rope = {**saved["rope_parameters"], "rope_type": "longrope", "long_factor": [1.0] * 6}
    edit(tmp_path / "saved", partial_rotary_factor=..., rope_parameters=rope)
    assert "`rope_parameters.short_factor` must be" in refusal(tmp_path / "saved")
    rope |= {"short_factor": [1.0] * 8}
    edit(tmp_path / "saved", rope_parameters=rope)
    assert "`rope_parameters.short_factor` must be a list of 6 numbers" in refusal(
        tmp_path / "saved"
    )


def test_part_of_a_head_that_turns_is_the_whole_elsewhere(
    tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_checkpoint, tiny_tower, tmp_path)
    edit(folder, rope_parameters={"rope_type": "default", "partial_rotary_factor": 0.75})
    assert "`rope_parameters.partial_rotary_factor` must be one of 1, 1.0" in refusal(folder)


def longrope(**fields: Any) -> dict[str, Any]:
    """A rotary scaling of a tiny Phi-3 whose half of 16 features a head turns."""
    factors = {"short_factor": [1.0, 1.1, 1.2, 1.4], "long_factor": [1.5, 2.0, 3.0, 4.0]}
    return {**fields, **factors}


@pytest.mark.few_cases(2)
@pytest.mark.parametrize("names", [("type",), ("rope_type",), ("type", "rope_type")])
@pytest.mark.parametrize("field", ["rope_scaling", "rope_parameters"])
def test_longrope_of_the_first_phi_3_has_another_name(
    field: str, names: tuple[str, ...], tiny_tower: Path, tmp_path: Path
) -> None:
    sizes = {"original_max_position_embeddings": 64, "max_position_embeddings": 512}
    folder = make_family(tmp_path / "llava-phi3", tiny_tower, "phi3", **sizes)
    plain = logits_of(folder)
    edit(folder, **{field: longrope(rope_type="longrope")})
    expected = logits_of(folder)
    edit(folder, **{field: longrope(**dict.fromkeys(names, "su"))})
    assert torch.equal(logits_of(folder), expected)
    assert not torch.equal(plain, expected)
    assert load(folder)[1].config.rope_parameters["rope_type"] == "longrope"
    assert inspect_checkpoint(str(folder)).config[field][names[0]] == "longrope"


@pytest.mark.parametrize("value", [None, ..., 0])
def test_length_before_scaling_is_asked_for_as_it_must_be(
    value: Any, tiny_checkpoint: Path, tiny_tower: Path, tmp_path: Path
) -> None:
    folder = copy(tiny_checkpoint, tiny_tower, tmp_path)
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    stated = {} if value is ... else {"original_max_position_embeddings": value}
    edit(folder, rope_scaling=rope | stated)
    words = "`rope_scaling.original_max_position_embeddings` must be a whole number >= 1, but"
    assert words in refusal(folder)
