"""Original checkpoints are tokenized as sentencepiece does it, to the id."""

import json
import subprocess
import sys

import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AddedToken, PreTrainedTokenizerFast, TextStreamer

from llava.errors import CheckpointError
from llava.model.checkpoint import inspect_checkpoint
from llava.tokenizer import (
    MergeTableTokenizer,
    SentencePieceTokenizer,
    add_image_tokens,
    load_checkpoint_tokenizer,
    load_tokenizer,
)
from llava.tokens import tokenizer_image_token
from tests.checkpoints import make_tokenizer
from tests.variants import make_base, make_mistral, write_byte_level_tokenizer

BOS, EOS, UNK = 1, 2, 0
WITH_IMAGE_TOKENS = {"mm_use_im_patch_token": True, "mm_use_im_start_end": True}

# no special token can come of these; the last ones have no piece of their own
PLAIN_TEXT = st.text(alphabet="adegot ▁?.,:'0123\nWAQ" + "éß狗\u3000\u200b🙂", max_size=40)
ANY_TEXT = st.lists(
    st.one_of(st.sampled_from(["<s>", "</s>", "<unk>", "<image>", " ", "\n", "dog"]), PLAIN_TEXT),
    max_size=6,
).map("".join)


def change_json(path, *, drop=(), **changes):
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    kept = {key: value for key, value in content.items() if key not in drop}
    path.write_text(json.dumps(kept), encoding="utf-8")


@pytest.fixture(scope="session", params=[False, True], ids=["new", "legacy"])
def folder(request, tmp_path_factory):
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"), legacy=request.param)


@pytest.fixture(scope="session")
def tokenizer(folder):
    return load_tokenizer(folder)


@pytest.fixture(scope="session")
def pieces_of(folder):
    """Sentencepiece itself, which puts a space before every text."""
    model = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
    return lambda text: model.encode(text, out_type=str)


@pytest.fixture(scope="session")
def bare_pieces_of(pieces_of):
    """Sentencepiece without the space: digits are pieces of their own, so one can stand before."""

    def bare(text):
        pieces = pieces_of("0" + text)
        assert pieces[:2] == ["▁", "0"]
        return pieces[2:]

    return bare


@settings(max_examples=200, deadline=None)
@given(text=PLAIN_TEXT)
@example(text="")
@example(text=" ")
@example(text="  two spaces  ")
@example(text="\n")
@example(text="▁")
def test_text_without_special_tokens_is_what_sentencepiece_makes_of_it(tokenizer, pieces_of, text):
    expected = tokenizer.convert_tokens_to_ids(pieces_of(text))
    assert tokenizer(text).input_ids == [BOS, *expected]


def test_ids_are_sentencepieces_own(tokenizer, folder):
    model = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
    text = "What color is the dog on the street?\nAnswer: 42 狗"
    assert tokenizer(text).input_ids == [BOS, *model.encode(text)]
    assert tokenizer.vocab_size == len(tokenizer) == model.get_piece_size()
    assert tokenizer.get_vocab()["▁the"] == model.piece_to_id("▁the")


@pytest.mark.parametrize("after", ["dog", " dog", "\ndog", "  dog"])
def test_text_after_a_special_token_gets_a_space_in_legacy_only(
    tokenizer, pieces_of, bare_pieces_of, after
):
    pieces = (pieces_of if tokenizer.legacy else bare_pieces_of)(after)
    assert tokenizer.tokenize("A cat</s>" + after) == [*pieces_of("A cat"), "</s>", *pieces]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("<s>", [BOS, BOS]),
        ("</s></s>", [BOS, EOS, EOS]),
        ("<unk>", [BOS, UNK]),
        ("<s></s>", [BOS, BOS, EOS]),
    ],
)
def test_special_tokens_in_text_are_their_ids(tokenizer, text, ids):
    assert tokenizer(text).input_ids == ids


def test_special_token_at_the_start_leaves_no_lone_space(tokenizer, pieces_of, bare_pieces_of):
    pieces = (pieces_of if tokenizer.legacy else bare_pieces_of)("dog")
    assert tokenizer.tokenize("<s>dog") == ["<s>", *pieces]


@settings(max_examples=200, deadline=None)
@given(text=ANY_TEXT)
@example(text="</s> dog<s>")
def test_short_way_gives_the_same_ids(tokenizer, text):
    assert tokenizer.encode_text(text) == tokenizer(text).input_ids


def test_ids_that_were_handed_out_can_be_changed(tokenizer):
    first = tokenizer.encode_text("What color?")
    expected = list(first)
    first.append(99)
    assert tokenizer.encode_text("What color?") == expected


@settings(max_examples=200, deadline=None)
@given(text=PLAIN_TEXT.filter(lambda text: not text.startswith((" ", "▁"))))
@example(text="A. red\nB. green  ")
def test_decoding_gives_the_text_back(tokenizer, text):
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text.replace("▁", " ")
    assert tokenizer.batch_decode([ids], skip_special_tokens=True) == [text.replace("▁", " ")]


def test_decoding_keeps_special_tokens_if_asked_to(tokenizer):
    assert tokenizer.decode([BOS, EOS]) == "<s></s>"
    assert tokenizer.decode(tokenizer("dog").input_ids).replace(" ", "") == "<s>dog"
    assert tokenizer.decode([BOS, EOS], skip_special_tokens=True) == ""


@pytest.mark.parametrize("kind", [SentencePieceTokenizer, MergeTableTokenizer])
def test_row_of_a_model_that_has_no_token_has_no_text(folder, kind):
    tokenizer = kind.from_pretrained(str(folder))
    ids = tokenizer("a red dog").input_ids
    for skip in (True, False):
        text = tokenizer.decode(ids, skip_special_tokens=skip)
        unknown = [len(tokenizer), *ids, len(tokenizer) + 63]
        assert tokenizer.decode(unknown, skip_special_tokens=skip) == text


def test_spaces_before_punctuation_are_not_cleaned_up(tokenizer):
    text = "Yes , it is n't ."
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


@pytest.fixture
def extended(folder):
    """A tokenizer of its own with image tokens added."""
    tokenizer = load_tokenizer(folder)
    tokenizer.encode_text("<im_start>dog")  # remembered from before the token was added
    assert tokenizer.add_tokens(["<im_start>", "<im_end>"], special_tokens=True) == 2
    return tokenizer


def test_added_tokens_come_after_the_pieces_and_stay_whole(extended):
    size = extended.vocab_size
    assert len(extended) == size + 2
    assert extended.convert_tokens_to_ids(["<im_start>", "<im_end>"]) == [size, size + 1]
    assert extended("<im_start><im_end>").input_ids == [BOS, size, size + 1]
    assert extended.encode_text("<im_start>dog")[:2] == [BOS, size]
    assert extended.encode_text("<im_start>dog") == extended("<im_start>dog").input_ids
    assert extended.decode([size], skip_special_tokens=True) == ""
    assert extended.decode([size]) == "<im_start>"


def test_added_token_that_is_not_special_is_decoded(folder):
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens([AddedToken("<grid>", normalized=False)])
    ids = tokenizer("dog<grid>").input_ids
    assert ids[-1] == tokenizer.vocab_size
    assert tokenizer.decode(ids, skip_special_tokens=True) == "dog <grid>"


@pytest.fixture
def listed(tmp_path):
    """The folder of a tokenizer whose `added_tokens.json` lists the image tokens already."""
    size = load_tokenizer(make_tokenizer(tmp_path)).vocab_size
    tokens = ("<im_patch>", "<im_start>", "<im_end>")
    content = {token: size + i for i, token in enumerate(tokens)}
    (tmp_path / "added_tokens.json").write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["<s>", "▁", "<im_end>", ":", "▁the", "<im_start>"], "<im_end> : the <im_start>"),
        (["▁", "<im_end>", "▁", "<im_patch>"], "<im_end> <im_patch>"),
        (["▁the", "<im_end>", "▁"], "the <im_end> "),
    ],
)
def test_nothing_stands_between_added_tokens_where_there_is_no_text(listed, pieces, text):
    tokenizer = load_tokenizer(listed)
    add_image_tokens(tokenizer, WITH_IMAGE_TOKENS)
    ids = tokenizer.convert_tokens_to_ids(pieces)
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_added_special_tokens_are_decoded_between_spaces_but_named_ones_are_not(extended):
    ids = extended.convert_tokens_to_ids(["<im_start>", "▁the", "<im_end>", "▁dog"])
    assert extended.decode(ids) == "<im_start> the <im_end> dog"
    assert extended.decode([BOS, BOS]) == "<s><s>"


@pytest.mark.parametrize("merge_table", [False, True])
def test_spaces_are_cleaned_up_if_the_configuration_says_so(tmp_path, merge_table):
    make_tokenizer(tmp_path)
    change_json(tmp_path / "tokenizer_config.json", clean_up_tokenization_spaces=True)
    tokenizer = load_tokenizer(tmp_path, merge_table=merge_table)
    ids = tokenizer("Is it red , or is n't it ?").input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "Is it red, or isn't it?"
    assert tokenizer.decode(
        ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
    ).endswith(" n't it ?")


@pytest.mark.parametrize(
    ("pieces", "kept", "skipped"),
    [
        (["▁the", "</s>", "▁dog", "<s>", "▁", "?"], "the</s> dog<s> ?", "the dog ?"),
        (["<s>", "▁the"], "<s> the", "the"),
        (["▁", "▁"], " ", " "),
        (["<s>", "▁", "▁the"], "<s>  the", " the"),
        # a run of bytes that is no UTF-8 is replaced byte for byte
        (["<0x1D>", "<0x95>"], "��", "��"),
        (["<0xC3>", "<0xA9>", "<0x0A>"], "é\n", "é\n"),
    ],
)
def test_merge_table_tokenizer_decodes_as_the_fast_one(folder, pieces, kept, skipped):
    tokenizer = load_tokenizer(folder, merge_table=True)
    ids = tokenizer.convert_tokens_to_ids(pieces)
    assert UNK not in ids
    assert tokenizer.decode(ids) == kept
    assert tokenizer.decode(ids, skip_special_tokens=True) == skipped
    assert tokenizer.batch_decode([ids], skip_special_tokens=True) == [skipped]


def test_merge_table_tokenizer_encodes_as_the_legacy_one(folder, tmp_path):
    tokenizer = load_tokenizer(folder, merge_table=True)
    legacy = load_tokenizer(make_tokenizer(tmp_path, legacy=True))
    for text in ("A cat</s>dog", "</s> dog", "  <s>\nred 2"):
        assert tokenizer.encode_text(text) == legacy.encode_text(text)


def test_merge_table_tokenizer_skips_image_tokens_that_were_listed_already(listed):
    tokenizer = load_tokenizer(listed, merge_table=True)
    ids = tokenizer.convert_tokens_to_ids(["▁the", "<im_patch>", "<im_end>", "▁dog"])
    assert tokenizer.decode(ids, skip_special_tokens=True) == "the<im_patch><im_end> dog"
    add_image_tokens(tokenizer, WITH_IMAGE_TOKENS)
    assert tokenizer.decode(ids, skip_special_tokens=True) == "the dog"
    assert tokenizer.decode(ids) == "the<im_patch><im_end> dog"
    assert len(tokenizer) == tokenizer.vocab_size + 3


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("llava-v1.6-Mistral-tiny", MergeTableTokenizer),
        ("BakLLaVA-1-tiny", SentencePieceTokenizer),
    ],
)
def test_complete_mistral_is_told_by_its_name(tiny_tower, tmp_path, name, kind):
    folder = make_mistral(tmp_path / "checkpoint", tiny_tower)
    tokenizer = load_checkpoint_tokenizer(inspect_checkpoint(str(folder), name=name))
    assert type(tokenizer) is kind
    assert tokenizer.legacy is (kind is MergeTableTokenizer)  # the configuration says false


def test_mistral_alone_keeps_its_own_switch_whatever_its_name(tiny_tower, tmp_path):
    folder = make_base(tmp_path / "mistral-tiny", make_mistral(tmp_path / "llava", tiny_tower))
    tokenizer = load_checkpoint_tokenizer(inspect_checkpoint(str(folder)))
    assert type(tokenizer) is SentencePieceTokenizer
    assert tokenizer.legacy is False


@pytest.mark.parametrize("merge_table", [False, True])
def test_streamed_text_is_the_decoded_text(folder, capsys, merge_table):
    import torch

    tokenizer = load_tokenizer(folder, merge_table=merge_table)
    text = "What color is the dog? 狗é\nA. red </s> B"
    prompt, *answer = tokenizer(text).input_ids
    streamer = TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    streamer.put(torch.tensor([[prompt]]))
    for token in answer:
        streamer.put(torch.tensor([token]))
    streamer.end()
    assert capsys.readouterr().out == tokenizer.decode(answer, skip_special_tokens=True) + "\n"


def test_saved_tokenizer_loads_as_it_was(extended, tmp_path):
    texts = ["What color?", "</s>dog", "</s> dog <im_end> red", "<im_start>  2"]
    extended.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.legacy is extended.legacy
    assert len(loaded) == len(extended)
    assert [loaded(text).input_ids for text in texts] == [
        extended(text).input_ids for text in texts
    ]
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.unk_token_id) == (BOS, EOS, UNK)
    assert loaded.pad_token == "<unk>"


def test_tokenizer_saved_where_it_lies_is_kept(tmp_path):
    make_tokenizer(tmp_path)
    before = (tmp_path / "tokenizer.model").read_bytes()
    load_tokenizer(tmp_path).save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.model").read_bytes() == before
    assert load_tokenizer(tmp_path)("dog").input_ids[0] == BOS


@pytest.mark.parametrize(
    ("begin", "end", "around"),
    [(True, False, ([BOS], [])), (False, True, ([], [EOS])), (True, True, ([BOS], [EOS]))],
)
def test_begin_and_end_tokens_are_added_as_configured(tmp_path, begin, end, around):
    make_tokenizer(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    change_json(path, add_bos_token=begin, add_eos_token=end)
    tokenizer = load_tokenizer(tmp_path)
    dog = tokenizer.convert_tokens_to_ids(tokenizer.tokenize("dog"))
    cat = tokenizer.convert_tokens_to_ids(tokenizer.tokenize("cat"))
    first, last = around
    assert tokenizer("dog").input_ids == tokenizer.encode_text("dog") == [*first, *dog, *last]
    assert tokenizer("dog", "cat").input_ids == [*first, *dog, *last, *first, *cat, *last]


@pytest.mark.parametrize("merge_table", [False, True])
def test_begin_and_end_tokens_are_as_configured_beside_a_converted_tokenizer_and_saved(
    tmp_path, merge_table
):
    make_tokenizer(tmp_path)
    change_json(tmp_path / "tokenizer_config.json", add_bos_token=False, add_eos_token=True)
    expected = load_tokenizer(tmp_path, merge_table=merge_table)("dog").input_ids
    assert (BOS in expected, expected[-1]) == (False, EOS)
    write_fast_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path, merge_table=merge_table)
    assert tokenizer("dog").input_ids == expected
    tokenizer.save_pretrained(tmp_path / "saved")
    saved = load_tokenizer(tmp_path / "saved", merge_table=merge_table)
    assert saved("dog").input_ids == expected


def test_older_files_beside_a_tokenizer_are_not_taken_for_it(tmp_path):
    make_tokenizer(tmp_path)
    expected = load_tokenizer(tmp_path)("red dog").input_ids
    for number in range(30):  # the order in which they are listed is the file system's
        (tmp_path / f"tokenizer.model.v{number}").write_bytes(b"older")
    assert load_tokenizer(tmp_path)("red dog").input_ids == expected


def test_legacy_is_the_default_of_configs_from_before_the_switch(tmp_path):
    make_tokenizer(tmp_path)
    change_json(tmp_path / "tokenizer_config.json", drop=["legacy"])
    assert load_tokenizer(tmp_path).legacy is True


def test_batch_is_padded_with_a_mask(tokenizer):
    batch = tokenizer(["dog", "What color is the dog?"], padding=True)
    short, long = batch.input_ids
    assert len(short) == len(long)
    assert batch.attention_mask[0] == [
        int(i < len(tokenizer("dog").input_ids)) for i in range(len(long))
    ]


def write_fast_tokenizer(folder):
    content = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {"?": 0, "red": 1, "dog": 2}, "unk_token": "?"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))


def test_checkpoint_with_a_fast_tokenizer_only_loads_it_as_it_is(tmp_path):
    write_fast_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    assert tokenizer("red dog cat").input_ids == [1, 2, 0]


def test_sentencepiece_model_is_preferred_to_a_converted_one(tmp_path):
    make_tokenizer(tmp_path)
    expected = load_tokenizer(tmp_path)("red dog").input_ids
    write_fast_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert isinstance(tokenizer, SentencePieceTokenizer)
    assert tokenizer("red dog").input_ids == expected


def test_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="No tokenizer lies in") as caught:
        load_tokenizer(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "Copy it from the model that the checkpoint was trained from" in str(caught.value)


@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer.json"])
def test_broken_tokenizer_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x00broken")
    with pytest.raises(CheckpointError, match="cannot be read") as caught:
        load_tokenizer(tmp_path)
    assert str(tmp_path / name) in str(caught.value)
    assert ".." not in str(caught.value)


def test_damaged_tokenizer_beside_its_list_of_added_tokens_is_refused_by_name(tmp_path):
    write_byte_level_tokenizer(tmp_path)
    change_json(tmp_path / "tokenizer_config.json", added_tokens_decoder={})
    load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(CheckpointError, match=r"tokenizer\.json, .* cannot be read: EOF while"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("write", [make_tokenizer, write_byte_level_tokenizer])
@pytest.mark.parametrize("field", ["add_special_tokens", "tokenize"])
def test_field_with_the_name_of_a_method_steers_nothing(tmp_path, write, field):
    write(tmp_path)
    expected = load_tokenizer(tmp_path)("red dog").input_ids
    for value in (True, False, None):
        change_json(tmp_path / "tokenizer_config.json", **{field: value})
        assert load_tokenizer(tmp_path)("red dog").input_ids == expected


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("tokenizer_config.json", {"legacy": "false"}, "`legacy` must be true or false"),
        ("tokenizer_config.json", {"legacy": 0}, "`legacy` must be true or false"),
        ("tokenizer_config.json", {"add_bos_token": "no"}, "`add_bos_token` must be"),
        ("tokenizer_config.json", {"added_tokens_decoder": []}, "`added_tokens_decoder` must be"),
        ("tokenizer_config.json", {"model_max_length": "x"}, "`model_max_length` must be"),
        ("tokenizer_config.json", {"eos_token": ["</s>"]}, "`eos_token` must be text or"),
        ("special_tokens_map.json", {"eos_token": 5}, "`eos_token` must be text or"),
        ("special_tokens_map.json", [], "must hold a JSON object"),
        ("special_tokens_map.json", None, "must hold a JSON object"),
        ("added_tokens.json", [1], "must hold a JSON object"),
        ("added_tokens.json", {"<zz>": "640"}, "`<zz>` must be a whole number"),
    ],
)
def test_json_file_that_is_not_understood_is_the_one_blamed(tmp_path, fast, name, content, told):
    make_tokenizer(tmp_path)
    if fast:
        write_fast_tokenizer(tmp_path)
        (tmp_path / "tokenizer.model").unlink()
    load_tokenizer(tmp_path)
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(CheckpointError) as caught:
        load_tokenizer(tmp_path)
    assert told in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer.json"])
def test_git_lfs_pointer_is_refused_as_that(tmp_path, name):
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\nsize 499723\n")
    with pytest.raises(CheckpointError, match=rf"{name} is a Git LFS pointer.*git lfs pull"):
        load_tokenizer(tmp_path)


@pytest.mark.slow
def test_tokenizing_and_rendering_import_no_torch(folder):
    program = f"""
import sys
from llava.conversation import conv_templates
from llava.tokenizer import load_tokenizer
from llava.tokens import tokenizer_image_token
tokenizer = load_tokenizer({str(folder)!r})
ids = tokenizer_image_token("<image> dog", tokenizer)
assert ids[:2] == [1, -200], ids
assert "torch" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


NEOX_SPECIAL = ("bos_token", "eos_token", "unk_token")


@pytest.mark.parametrize(
    ("tokenizer_config", "special_tokens", "config", "expected"),
    [
        ({"tokenizer_class": "GPTNeoXTokenizer"}, {}, {}, ["<|endoftext|>"] * 3),
        ({"tokenizer_class": "GPTNeoXTokenizerFast"}, {}, {}, ["<|endoftext|>"] * 3),
        ({}, {}, {"model_type": "mpt"}, ["<|endoftext|>"] * 3),
        (
            {"tokenizer_class": "GPTNeoXTokenizer", "eos_token": "<|im_end|>"},
            {"bos_token": "<|im_start|>"},
            {},
            ["<|im_start|>", "<|im_end|>", "<|endoftext|>"],
        ),
        (
            {"tokenizer_class": "GPTNeoXTokenizer", "bos_token": None},
            {},
            {},
            [None, "<|endoftext|>", "<|endoftext|>"],
        ),
        (
            {"tokenizer_class": "PreTrainedTokenizerFast"},
            {},
            {"model_type": "mpt"},
            [None] * 3,
        ),
        ({}, {}, {}, [None] * 3),
    ],
)
def test_neox_tokenizers_end_texts_by_default(
    tmp_path, tokenizer_config, special_tokens, config, expected
):
    write_byte_level_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(special_tokens))
    (tmp_path / "config.json").write_text(json.dumps(config))
    tokenizer = load_tokenizer(tmp_path)
    assert [getattr(tokenizer, name) for name in NEOX_SPECIAL] == expected


def test_begin_token_of_each_chunk_is_dropped_where_it_is_the_default(tmp_path):
    write_byte_level_tokenizer(tmp_path)
    change_json(tmp_path / "tokenizer_config.json", drop=NEOX_SPECIAL)
    tokenizer = load_tokenizer(tmp_path)
    prompt = "<|endoftext|>What<image><|endoftext|>color"
    what, color = (tokenizer(word).input_ids for word in ("What", "color"))
    assert tokenizer_image_token(prompt, tokenizer) == [0, *what, -200, *color]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"add_prefix_space": True}, " dog"),
        ({"add_prefix_space": False}, "dog"),
        ({}, "dog"),
        ({"add_prefix_space": True, "tokenizer_class": "PreTrainedTokenizerFast"}, "dog"),
    ],
)
def test_neox_tokenizers_put_a_space_before_a_text_as_configured(tmp_path, config, text):
    write_byte_level_tokenizer(tmp_path)
    change_json(tmp_path / "tokenizer_config.json", **config)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.decode(tokenizer("dog").input_ids) == text
    assert tokenizer.decode(tokenizer(" dog").input_ids) == " dog"


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({}, "Is it red, or isn't it?"),
        ({"clean_up_tokenization_spaces": False}, "Is it red , or is n't it ?"),
        ({"tokenizer_class": "LlamaTokenizerFast"}, "Is it red , or is n't it ?"),
        ({"tokenizer_class": "Qwen2Tokenizer"}, "Is it red , or is n't it ?"),
        ({"tokenizer_class": "PreTrainedTokenizerFast"}, "Is it red, or isn't it?"),
        (
            {"tokenizer_class": "TokenizersBackend", "backend": "tokenizers"},
            "Is it red , or is n't it ?",
        ),
    ],
)
def test_byte_level_tokenizers_clean_up_as_they_did(tmp_path, config, text):
    write_byte_level_tokenizer(tmp_path)
    change_json(tmp_path / "tokenizer_config.json", **config)
    tokenizer = load_tokenizer(tmp_path)
    ids = tokenizer("Is it red , or is n't it ?").input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("tokenizer_config.json", '{"legacy": "false"}', "`legacy` must be true or false"),
        ("tokenizer_config.json", '{"add_bos_token": "no"}', "`add_bos_token` must be true or"),
        ("tokenizer_config.json", '{"added_tokens_decoder": []}', "`added_tokens_decoder` must be"),
        ("tokenizer_config.json", '{"model_max_length": "x"}', "`model_max_length` must be a numb"),
        ("special_tokens_map.json", "[]", "must hold a JSON object"),
        ("added_tokens.json", "null", "must hold a JSON object"),
        ("special_tokens_map.json", "{", "cannot be read"),
        ("tokenizer_config.json", "\ufeff{}", "save it as UTF-8 without a byte order mark"),
    ],
)
def test_file_beside_a_tokenizer_is_blamed_itself(tmp_path, name, content, told):
    make_tokenizer(tmp_path)
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=told) as caught:
        load_tokenizer(tmp_path)
    assert str(tmp_path / name) in str(caught.value)
    assert "tokenizer.model" not in str(caught.value)
