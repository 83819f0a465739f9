"""The model: images among token embeddings, losses, and answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForCausalLM

from llava.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from llava.images import process_images
from llava.model.builder import load_pretrained_model
from llava.model.checkpoint import inspect_checkpoint
from llava.model.language_model.llava_llama import (
    LlavaConfig,
    LlavaLlamaForCausalLM,
    LlavaLlamaModel,
)
from llava.model.llava_arch import LlavaMetaForCausalLM, LlavaMetaModel
from llava.model.multimodal_encoder import vision_tower
from llava.tokens import tokenizer_image_token
from runners.evaluation.work import image_tokens
from tests.checkpoints import make_checkpoint, make_tower
from tests.variants import make_family

NUM_PATCHES = 16
QUESTION = "USER: <image>\nWhat color is the dog? ASSISTANT:"
LONGER = "USER: <image>\nIs there a red ball near the house on the street? ASSISTANT:"
TEXT = "USER: How many dogs are there? ASSISTANT:"
TWO_IMAGES = "USER: <image> or <image>? ASSISTANT:"


def picture(seed, size=(56, 56)):
    """An image of large random patches."""
    colors = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(colors).resize(size, Image.Resampling.NEAREST)


def pixels_of(loaded, *images):
    return process_images(images, loaded.image_processor, loaded.model.config)


def ids_of(loaded, prompt):
    return tokenizer_image_token(prompt, loaded.tokenizer, return_tensors="pt")[None]


def greedy(model, ids, num_tokens=8, **options):
    return model.generate(ids, do_sample=False, max_new_tokens=num_tokens, **options).tolist()


def fused(model, ids, images, mask=None, labels=None, positions=None, sizes=None):
    with torch.no_grad():
        return model.prepare_inputs_labels_for_multimodal(
            ids, positions, mask, None, labels, images, sizes
        )


def left_padded(*rows):
    """Rows (1, S_i) of ids as one batch with its mask, padding on the left."""
    longest = max(row.shape[1] for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, longest - row.shape[1] :] = row
        mask[i, longest - row.shape[1] :] = 1
    return ids, mask


@pytest.mark.few_cases(2)
@pytest.mark.parametrize("safetensors", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize("sharded", [True, False], ids=["shards", "one file"])
def test_every_file_layout_gives_the_same_weights(
    tiny_model, tiny_tower, tmp_path, safetensors, sharded
):
    path = make_checkpoint(tmp_path / "llava", tiny_tower, safetensors=safetensors, sharded=sharded)
    _, model, _, context_len = load_pretrained_model(str(path), None, "llava", device="cpu")
    expected = tiny_model.model.state_dict()
    assert context_len == 2048
    assert model.state_dict().keys() == expected.keys()
    assert all(torch.equal(values, expected[name]) for name, values in model.state_dict().items())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_auto_classes_give_the_model_and_it_answers_with_images(tiny_model, tiny_checkpoint):
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint, dtype=torch.float32).eval()
    ids, images = ids_of(tiny_model, QUESTION), pixels_of(tiny_model, picture(0))
    assert type(model) is LlavaLlamaForCausalLM
    assert type(model.get_model()) is LlavaLlamaModel
    assert isinstance(model, LlavaMetaForCausalLM)
    assert isinstance(model.get_model(), LlavaMetaModel)
    assert isinstance(AutoConfig.from_pretrained(tiny_checkpoint), LlavaConfig)
    assert greedy(model, ids, images=images) == greedy(tiny_model.model, ids, images=images)


def test_tuned_tower_counts_and_a_frozen_one_does_not(tiny_model, tiny_tower, tmp_path):
    path = make_checkpoint(tmp_path / "llava", tiny_tower, unfreeze_mm_vision_tower=True)
    tuned = load_pretrained_model(str(path), None, "llava", device="cpu")[1]
    images = pixels_of(tiny_model, picture(0))
    tower, frozen = tuned.get_vision_tower(), tiny_model.model.get_vision_tower()
    with torch.no_grad():
        assert not torch.allclose(tower(images), frozen(images))
    config = (path / "config.json").read_text(encoding="utf-8")
    (path / "config.json").write_text(
        config.replace('"unfreeze_mm_vision_tower": true', '"unfreeze_mm_vision_tower": false')
    )
    again = load_pretrained_model(str(path), None, "llava", device="cpu")[1]
    with torch.no_grad():
        assert torch.equal(again.get_vision_tower()(images), frozen(images))


def test_features_take_the_place_of_the_placeholder(tiny_model):
    model, ids = tiny_model.model, ids_of(tiny_model, QUESTION)
    images = pixels_of(tiny_model, picture(0))
    place = ids[0].tolist().index(IMAGE_TOKEN_INDEX)
    no_ids, positions, mask, cache, embeds, labels = fused(model, ids, images)
    with torch.no_grad():
        features = model.get_model().mm_projector(model.get_vision_tower()(images))[0]
        text = model.get_input_embeddings()(ids[0, place + 1 :])
    assert (no_ids, positions, mask, cache, labels) == (None,) * 5
    assert embeds.shape == (1, ids.shape[1] - 1 + NUM_PATCHES, 64)
    assert torch.equal(embeds[0, place : place + NUM_PATCHES], features)
    assert torch.equal(embeds[0, place + NUM_PATCHES :], text)


def test_positions_and_mask_are_given_where_they_were_given(tiny_model):
    ids = ids_of(tiny_model, QUESTION)
    length = ids.shape[1] - 1 + NUM_PATCHES
    given = {
        "mask": torch.ones_like(ids, dtype=torch.bool),
        "positions": torch.arange(ids.shape[1])[None],
        "labels": torch.where(ids == IMAGE_TOKEN_INDEX, IGNORE_INDEX, ids),
    }
    images = pixels_of(tiny_model, picture(0))
    _, positions, mask, _, _, labels = fused(tiny_model.model, ids, images, **given)
    assert positions.tolist() == [list(range(length))]
    assert mask.dtype == torch.bool
    assert mask.all()
    assert labels.shape == (1, length)
    assert int((labels == IGNORE_INDEX).sum()) == NUM_PATCHES


@pytest.mark.parametrize("case", ["no images", "one token"])
def test_nothing_is_fused_without_images_or_while_decoding(tiny_model, case):
    ids = ids_of(tiny_model, TEXT)
    images = None if case == "no images" else pixels_of(tiny_model, picture(0))
    ids = ids if case == "no images" else ids[:, :1]
    mask = torch.ones_like(ids)
    out = fused(tiny_model.model, ids, images, mask=mask, labels=ids)
    assert out[0] is ids
    assert out[1] is None
    assert out[2] is mask
    assert out[4] is None
    assert out[5] is ids


def test_forms_of_images_give_the_same_features(tiny_model):
    model = tiny_model.model
    images = pixels_of(tiny_model, picture(0), picture(1))
    with torch.no_grad():
        expected = model.image_features(images, None)
        for form in (list(images), images[:, None], [image[None] for image in images]):
            features = model.image_features(form, [(56, 56)] * 2)
            for got, wanted in zip(features, expected, strict=True):
                torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(56, 56), (100, 40), (30, 120)])
def test_padded_image_takes_as_many_embeddings_as_it_has_features(tiny_model, size):
    images = pixels_of(tiny_model, picture(0, size))
    with torch.no_grad():
        features = tiny_model.model.image_features(images, [size])
    assert tiny_model.model.num_image_tokens(images[0], size) == len(features[0]) == NUM_PATCHES


@pytest.mark.parametrize(
    ("size", "num_tokens"),
    [
        ((112, 112), 16 + 8 * 9),
        ((100, 100), 16 + 8 * 9),
        ((112, 56), 16 + 4 * 9),
        ((56, 112), 16 + 8 * 5),
        ((300, 100), 16 + 4 * 13),
        ((400, 90), 16 + 2 * 13),  # int(2.7) = 2 rows, (4 - 2) // 2 = 1 cut on each side
        ((3000, 20), 16),  # int(0.08) = 0 rows
    ],
)
def test_tiled_image_takes_as_many_embeddings_as_it_has_features(anyres_model, size, num_tokens):
    images = pixels_of(anyres_model, picture(0, size))
    with torch.no_grad():
        features = anyres_model.model.image_features(images, [size])
    assert anyres_model.model.num_image_tokens(images[0], size) == len(features[0])
    assert len(features[0]) == num_tokens


@pytest.mark.parametrize(
    "fields",
    [
        {"image_aspect_ratio": "pad"},
        {"image_grid_pinpoints": [[56, 168], [112, 56], [168, 168]]},
        {"image_grid_pinpoints": "(1x1),...,(2x3)", "mm_patch_merge_type": "spatial_unpad_nobase"},
        {"image_grid_pinpoints": [[112, 168]], "mm_patch_merge_type": "spatial_maxpool2x2"},
        {"image_grid_pinpoints": "(1x1),...,(3x3)", "image_aspect_ratio": "anyres_max_2"},
        {"image_grid_pinpoints": "56,112", "image_aspect_ratio": "highres"},
    ],
    ids=["pad", "three rows", "nobase", "pooled", "at most 2", "highres"],
)
def test_checkpoint_tells_the_fewest_and_most_embeddings_of_an_image(
    fields, tiny_checkpoint, tiny_model, monkeypatch
):
    tiled = {"image_aspect_ratio": "anyres", "mm_patch_merge_type": "spatial_unpad"} | fields
    checkpoint = inspect_checkpoint(str(tiny_checkpoint))
    least, most = image_tokens(replace(checkpoint, config=checkpoint.config | tiled), 1)
    for name, value in tiled.items():
        monkeypatch.setattr(tiny_model.model.config, name, value, raising=False)
    numbers = []
    for size in [(56, 56), (168, 168), (400, 90), (90, 400), (3000, 20), (20, 3000)]:
        (pixels,) = pixels_of(tiny_model, picture(0, size))
        numbers.append(tiny_model.model.num_image_tokens(pixels, size))
    assert least <= min(numbers)
    assert max(numbers) <= most


def test_class_token_counts_where_it_is_a_feature(tiny_model, monkeypatch):
    model, images = tiny_model.model, pixels_of(tiny_model, picture(0))
    with torch.no_grad():
        patches = model.get_vision_tower()(images)
        monkeypatch.setattr(model.get_vision_tower(), "select_feature", "cls_patch")
        with_class = model.get_vision_tower()(images)
        features = model.image_features(images, None)
    assert torch.equal(with_class[:, 1:], patches)
    assert model.num_image_tokens(images[0], (56, 56)) == len(features[0]) == NUM_PATCHES + 1


def test_selected_layer_is_taken(tiny_model, monkeypatch):
    tower = tiny_model.model.get_vision_tower()
    images = pixels_of(tiny_model, picture(0))
    with torch.no_grad():
        states = tower.vision_tower.vision_model(images, output_hidden_states=True).hidden_states
        for layer in (-4, -2, -1, 0, 1):
            monkeypatch.setattr(tower, "select_layer", layer)
            assert torch.equal(tower(images), states[layer][:, 1:])
    assert len(states) == 4
    assert len(tower.vision_tower.vision_model.encoder.layers) == 3


def test_many_images_go_through_the_tower_in_parts(tiny_model, monkeypatch):
    tower, seen = tiny_model.model.get_vision_tower(), []
    embeddings = tower.vision_tower.vision_model.embeddings
    hook = embeddings.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    images = torch.cat([pixels_of(tiny_model, picture(number)) for number in range(5)])
    monkeypatch.setattr(vision_tower, "MAX_IMAGES", 2)
    parts = tower(images)
    hook.remove()
    assert seen == [2, 2, 1]
    monkeypatch.undo()
    torch.testing.assert_close(parts, tower(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("prompt", [QUESTION, TWO_IMAGES])
def test_loss_is_the_mean_cross_entropy_of_the_tokens_that_count(tiny_model, prompt):
    model, ids = tiny_model.model, ids_of(tiny_model, prompt)
    num_images = int((ids == IMAGE_TOKEN_INDEX).sum())
    images = pixels_of(tiny_model, *map(picture, range(num_images)))
    labels = ids.clone()
    labels[ids == IMAGE_TOKEN_INDEX] = IGNORE_INDEX
    labels[0, :3] = IGNORE_INDEX
    with torch.no_grad():
        out = model(input_ids=ids, images=images, labels=labels)
    targets = []
    for token, label in zip(ids[0].tolist(), labels[0].tolist(), strict=True):
        targets += [IGNORE_INDEX] * NUM_PATCHES if token == IMAGE_TOKEN_INDEX else [label]
    losses = [
        -float(out.logits[0, place].double().log_softmax(-1)[target])
        for place, target in enumerate(targets[1:])
        if target != IGNORE_INDEX
    ]
    assert out.logits.shape[1] == len(targets)
    assert float(out.loss) == pytest.approx(sum(losses) / len(losses), abs=1e-5)


def test_loss_of_a_padded_batch_counts_every_token_once(tiny_model):
    model = tiny_model.model
    rows = [ids_of(tiny_model, QUESTION), ids_of(tiny_model, LONGER)]
    images = pixels_of(tiny_model, picture(0), picture(1))
    longest = max(row.shape[1] for row in rows)
    ids = torch.zeros(2, longest, dtype=torch.long)
    mask = torch.zeros(2, longest, dtype=torch.bool)
    labels = torch.full((2, longest), IGNORE_INDEX)
    sums, counts = [], []
    for i, row in enumerate(rows):
        length = row.shape[1]
        ids[i, :length], mask[i, :length] = row[0], True
        labels[i, length - 5 : length] = row[0, -5:]
        with torch.no_grad():
            alone = model(
                input_ids=row, images=images[i : i + 1], labels=labels[i : i + 1, :length]
            )
        sums.append(float(alone.loss) * 5)
        counts.append(5)
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask, images=images, labels=labels)
    assert float(out.loss) == pytest.approx(sum(sums) / sum(counts), abs=1e-5)


def test_gradients_reach_the_projector_and_not_the_tower(tiny_model):
    model, ids = tiny_model.model, ids_of(tiny_model, QUESTION)
    images = pixels_of(tiny_model, picture(0))
    labels = torch.where(ids == IMAGE_TOKEN_INDEX, IGNORE_INDEX, ids)
    model(input_ids=ids, images=images, labels=labels).loss.backward()
    projector = list(model.get_model().mm_projector.parameters())
    tower = list(model.get_vision_tower().parameters())
    found = [parameter.grad is not None for parameter in (*projector, *tower)]
    nonzero = all(bool(parameter.grad.abs().sum() > 0) for parameter in projector)
    model.zero_grad(set_to_none=True)
    assert nonzero
    assert found == [True] * len(projector) + [False] * len(tower)


@pytest.mark.parametrize("prompt", [QUESTION, TEXT, TWO_IMAGES])
def test_greedy_answer_is_the_argmax_without_a_cache(tiny_model, prompt):
    model, ids = tiny_model.model, ids_of(tiny_model, prompt)
    num_images = int((ids == IMAGE_TOKEN_INDEX).sum())
    images = pixels_of(tiny_model, *map(picture, range(num_images))) if num_images else None
    expected = []
    with torch.no_grad():
        embeds = fused(model, ids, images)[4]
        embeds = model.get_input_embeddings()(ids) if embeds is None else embeds
        for _ in range(8):
            logits = model(inputs_embeds=embeds, use_cache=False).logits[0, -1]
            token = logits.argmax()
            expected.append(int(token))
            embeds = torch.cat((embeds, model.get_input_embeddings()(token)[None, None]), dim=1)
    assert greedy(model, ids, images=images) == [expected]
    assert greedy(model, ids, images=images, use_cache=False) == [expected]
    assert len(set(expected)) > 2, "a constant answer would show nothing"


def test_left_padded_batch_answers_as_one_by_one(tiny_model, monkeypatch):
    model = tiny_model.model
    monkeypatch.setattr(model.config, "tokenizer_padding_side", "left", raising=False)
    rows = [ids_of(tiny_model, prompt) for prompt in (QUESTION, LONGER, TEXT)]
    images = pixels_of(tiny_model, picture(0), picture(1))
    alone = [
        greedy(model, rows[0], images=images[:1])[0],
        greedy(model, rows[1], images=images[1:])[0],
        greedy(model, rows[2])[0],
    ]
    ids, mask = left_padded(*rows)
    blank = torch.zeros_like(images[:1])  # the row without an image takes one all the same
    together = greedy(model, ids, images=torch.cat((images, blank)), attention_mask=mask)
    assert together == alone


def test_text_row_in_the_middle_takes_an_image(tiny_model, monkeypatch):
    model = tiny_model.model
    monkeypatch.setattr(model.config, "tokenizer_padding_side", "left", raising=False)
    rows = [ids_of(tiny_model, prompt) for prompt in (QUESTION, TEXT, QUESTION)]
    ids, mask = left_padded(*rows)
    images = pixels_of(tiny_model, picture(0), picture(1), picture(2))
    embeds = fused(model, ids, images, mask=mask)[4]
    with torch.no_grad():
        last = model.image_features(images[2:], None)[0]
    place = rows[2][0].tolist().index(IMAGE_TOKEN_INDEX)
    torch.testing.assert_close(embeds[2, place : place + NUM_PATCHES], last, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="3 in all, but holds 2"):
        fused(model, ids, images[:2], mask=mask)


def test_rows_are_cut_where_the_config_says(tiny_model, monkeypatch):
    ids, images = ids_of(tiny_model, LONGER), pixels_of(tiny_model, picture(0))
    whole = fused(tiny_model.model, ids, images)[4]
    monkeypatch.setattr(tiny_model.model.config, "tokenizer_model_max_length", 20, raising=False)
    cut = fused(tiny_model.model, ids, images)[4]
    assert torch.equal(cut, whole[:, :20])


def test_answer_depends_on_the_image_and_on_the_order_of_images(tiny_model):
    model = tiny_model.model

    def last_logits(prompt, *seeds):
        images = pixels_of(tiny_model, *map(picture, seeds))
        with torch.no_grad():
            return model(input_ids=ids_of(tiny_model, prompt), images=images).logits[0, -1]

    for prompt, seeds, others in ((QUESTION, [0], [1]), (TWO_IMAGES, [0, 1], [1, 0])):
        distance = (last_logits(prompt, *seeds) - last_logits(prompt, *others)).abs().max()
        assert float(distance) > 1e-2


def test_logits_of_the_last_position_only(tiny_model):
    ids, images = ids_of(tiny_model, QUESTION), pixels_of(tiny_model, picture(0))
    with torch.no_grad():
        whole = tiny_model.model(input_ids=ids, images=images).logits
        last = tiny_model.model(input_ids=ids, images=images, logits_to_keep=1).logits
    assert whole.shape[1] == ids.shape[1] - 1 + NUM_PATCHES
    assert last.shape[1] == 1
    torch.testing.assert_close(last[:, -1], whole[:, -1], rtol=0, atol=1e-5)


def test_input_ids_may_be_named(tiny_model):
    ids, images = ids_of(tiny_model, QUESTION), pixels_of(tiny_model, picture(0))
    named = tiny_model.model.generate(
        input_ids=ids, images=images, do_sample=False, max_new_tokens=4
    )
    assert named.tolist() == greedy(tiny_model.model, ids, 4, images=images)


@pytest.mark.parametrize("arguments", [{}, {"inputs_embeds": torch.zeros(1, 2, 64)}])
def test_generation_needs_token_ids(tiny_model, arguments):
    with pytest.raises(ValueError, match="`inputs` must be token ids"):
        tiny_model.model.generate(**arguments, max_new_tokens=1)


def test_too_few_images_are_refused_before_anything_is_computed(tiny_model):
    ids, images = ids_of(tiny_model, TWO_IMAGES), pixels_of(tiny_model, picture(0))
    with pytest.raises(ValueError, match="2 in all, but holds 1"):
        tiny_model.model.generate(ids, images=images, max_new_tokens=1)


def test_tower_of_another_width_fits_its_projector(tmp_path):
    tower = make_tower(tmp_path / "tower", image_size=28, hidden_size=96)
    path = make_checkpoint(tmp_path / "llava", tower, mm_projector_type="linear")
    _, model, processor, _ = load_pretrained_model(str(path), None, "llava", device="cpu")
    images = process_images([picture(0)], processor, model.config)
    with torch.no_grad():
        assert model.encode_images(images).shape == (1, 4, 64)


def test_gemma_reads_images_scaled_as_it_reads_text(tiny_tower: Path, tmp_path: Path) -> None:
    folder = make_family(tmp_path / "llava-gemma", tiny_tower, "gemma")
    _, model, _, _ = load_pretrained_model(
        str(folder), None, folder.name, device="cpu", dtype="float32"
    )
    pixels = torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    scale = model.config.hidden_size**0.5
    (features,) = model.image_features(pixels, None)
    torch.testing.assert_close(features, model.encode_images(pixels)[0] * scale)
    table = model.get_input_embeddings()
    torch.testing.assert_close(table(torch.tensor([5]))[0], table.weight[5] * scale)
