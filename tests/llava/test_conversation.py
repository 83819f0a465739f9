"""Prompts are what the checkpoints were trained on, character for character."""

import re

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from llava.conversation import (
    Conversation,
    SeparatorStyle,
    conv_templates,
)
from llava.errors import ConversationError
from llava.template_choice import find_contradiction, resolve_conversation

VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
HUMAN = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the human's questions."
)
LLAVA_LLAMA_2 = (
    "You are a helpful language and vision assistant. You are able to understand the visual "
    "content that the user provides, and assist the user with a variety of tasks using natural "
    "language."
)
LLAMA_2 = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, "
    "while being safe.  Your answers should not include any harmful, unethical, racist, sexist, "
    "toxic, dangerous, or illegal content. Please ensure that your responses are socially unbiased "
    "and positive in nature.\n\nIf a question does not make any sense, or is not factually "
    "coherent, explain why instead of answering something not correct. If you don't know the "
    "answer to a question, please don't share false information."
)
MPT = (
    "<|im_start|>system\nA conversation between a user and an LLM-based AI assistant. The "
    "assistant gives helpful and honest answers."
)
MMTAG = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant is able "
    "to understand the visual content that the user provides, and assist the user with a variety "
    "of tasks using natural language.The visual content will be provided with the following "
    "format: <Image>visual content</Image>."
)


def rendered(template, *turns):
    """The prompt of a template after turns of alternating roles."""
    conversation = conv_templates[template].copy()
    for i, turn in enumerate(turns):
        conversation.append_message(conversation.roles[i % 2], turn)
    return conversation.get_prompt()


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("llava_v0", f"{HUMAN}###Human: Hi.###Assistant: Yes?###Human: Why?###Assistant:"),
        ("vicuna_v1", f"{VICUNA} USER: Hi. ASSISTANT: Yes?</s>USER: Why? ASSISTANT:"),
        ("llava_v1", f"{HUMAN} USER: Hi. ASSISTANT: Yes?</s>USER: Why? ASSISTANT:"),
        (
            "mpt",
            f"{MPT}<|im_end|><|im_start|>user\nHi.<|im_end|><|im_start|>assistant\nYes?<|im_end|>"
            "<|im_start|>user\nWhy?<|im_end|><|im_start|>assistant\n",
        ),
        (
            "chatml_direct",
            "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\nHi.<|im_end|>"
            "<|im_start|>assistant\nYes?<|im_end|><|im_start|>user\nWhy?<|im_end|>"
            "<|im_start|>assistant\n",
        ),
        (
            "llava_llama_2",
            f"[INST] <<SYS>>\n{LLAVA_LLAMA_2}\n<</SYS>>\n\nHi. [/INST] Yes? </s>"
            "<s>[INST] Why? [/INST]",
        ),
        (
            "llama_2",
            f"[INST] <<SYS>>\n{LLAMA_2}\n<</SYS>>\n\nHi. [/INST] Yes? </s><s>[INST] Why? [/INST]",
        ),
        ("mistral_instruct", "[INST] Hi. [/INST] Yes? </s>[INST] Why? [/INST]"),
        (
            "phi3_instruct",
            "<|system|>\nYou are a helpful AI assistant.<|end|>\n<|user|>\nHi.<|end|>\n"
            "<|assistant|>\nYes?<|end|>\n<|user|>\nWhy?<|end|>\n<|assistant|>\n",
        ),
        (
            "phi3_chat",
            "<|user|>\nHi.<|end|>\n<|assistant|>\nYes?<|end|>\n<|user|>\nWhy?<|end|>\n<|assistant|>\n",
        ),
    ],
)
def test_open_conversation_of_three_turns(template, prompt):
    assert rendered(template, "Hi.", "Yes?", "Why?", None) == prompt


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("vicuna_v1", f"{VICUNA} USER: Hi. ASSISTANT: Yes?</s>"),
        ("llava_v0", f"{HUMAN}###Human: Hi.###Assistant: Yes?###"),
        ("mistral_instruct", "[INST] Hi. [/INST] Yes? </s>"),
    ],
)
def test_answered_conversation_is_closed(template, prompt):
    assert rendered(template, "Hi.", "Yes?") == prompt


def test_plain_template_is_the_text_alone():
    assert rendered("plain", "<image>") == "<image>\n"
    assert rendered("plain", "<image>", None) == "<image>\n"


def test_plain_style_alternates_its_separators():
    plain = Conversation(
        system="Look: ", roles=("", ""), sep_style=SeparatorStyle.PLAIN, sep="\n", sep2="!"
    )
    plain.append_message("", "a")
    plain.append_message("", "b")
    assert plain.get_prompt() == "Look: a\nb!"


def test_empty_system_text_of_a_known_template_is_closed_as_llava_does():
    conversation = conv_templates["vicuna_v1"].copy()
    conversation.system = ""
    conversation.append_message("USER", "Hi.")
    assert conversation.get_prompt() == " USER: Hi. "


def test_few_shot_template_shows_its_example_first():
    prompt = rendered("v0", "Hi.", None)
    assert prompt.startswith(f"{HUMAN}###Human: What are the key differences between renewable ")
    assert prompt.endswith("social instability.\n###Human: Hi.###Assistant:")
    assert conv_templates["v0"].offset == 2


@pytest.mark.parametrize("text", ["What is it?", "<image>\nWhat is it?", "What is it? <image>"])
def test_turn_with_an_image_has_the_placeholder_first(text):
    image_turn = (text, None, "Pad")
    assert rendered("llava_v1", image_turn, None) == (
        f"{HUMAN} USER: <image>\nWhat is it? ASSISTANT:"
    )
    assert rendered("mistral_instruct", image_turn) == "[INST] <image>\nWhat is it? [/INST]"


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        (
            "v0_mmtag",
            f"{MMTAG}###Human: <Image><image></Image>###Assistant: Received.###"
            "Human: What is it?###Assistant:",
        ),
        (
            "v1_mmtag",
            f"{MMTAG} USER: <Image><image></Image> ASSISTANT: Received.</s>"
            "USER: What is it? ASSISTANT:",
        ),
    ],
)
def test_mmtag_shows_the_image_in_a_turn_of_its_own(template, prompt):
    assert rendered(template, ("<image>\nWhat is it?", None, "Pad"), None) == prompt


def test_image_in_a_later_turn_is_its_text():
    prompt = rendered("vicuna_v1", "Hi.", "Yes?", ("<image>\nAnd this?", None, "Pad"), None)
    assert prompt == (f"{VICUNA} USER: Hi. ASSISTANT: Yes?</s>USER: <image>\nAnd this? ASSISTANT:")


def test_rendering_leaves_the_turns_as_they_were():
    conversation = conv_templates["v1_mmtag"].copy()
    turn = ("<image>\nWhat is it?", None, "Pad")
    conversation.append_message("USER", turn)
    assert conversation.get_prompt() == conversation.get_prompt()
    assert conversation.messages == [["USER", turn]]


def test_copy_is_independent_of_its_template():
    template = conv_templates["v0"]
    before = [list(message) for message in template.messages]
    copy = template.copy()
    copy.append_message("Human", "Hi.")
    copy.messages[0][1] = "changed"
    copy.system = "changed"
    assert template.messages == before
    assert template.system == HUMAN
    assert copy.copy().get_prompt() == copy.get_prompt()


@pytest.mark.parametrize("turns", [(), (None,), ("",)])
def test_llama_2_without_a_first_user_message_is_refused(turns):
    with pytest.raises(ValueError, match="The first message must be text from role 'USER'"):
        rendered("llava_llama_2", *turns)


def test_llama_2_that_starts_with_the_assistant_is_refused():
    conversation = conv_templates["llama_2"].copy()
    conversation.append_message("ASSISTANT", "Yes?")
    with pytest.raises(ValueError, match="Start the conversation with a user turn"):
        conversation.get_prompt()


def test_answer_that_the_style_cannot_close_is_refused():
    with pytest.raises(ValueError, match="`sep2` must be a string to close turn 2 in style PLAIN"):
        rendered("plain", "<image>", "A dog.")


@pytest.mark.parametrize("name", sorted(conv_templates))
def test_every_template_renders_a_question(name):
    prompt = rendered(name, "<image>\nWhat is it?", None)
    assert prompt.count("<image>\nWhat is it?") == 1
    assert conv_templates[name].messages == conv_templates[name].copy().messages


@pytest.mark.parametrize(
    ("name", "template"),
    [
        ("llava-llama-2-13b-chat-lightning-preview", "llava_llama_2"),
        ("llava-v1-0719-336px-lora-vicuna-13b-v1.3", "llava_v1"),
        ("llava-7b-v1.1", "llava_v1"),
        ("llava-v1.6-mistral-7b", "mistral_instruct"),
        ("llava-v1.6-34b", "chatml_direct"),
        ("llava-v1.5-7b", "vicuna_v1"),
        ("llava-v1.5-13b-lora", "vicuna_v1"),
        ("llava-v1.6-vicuna-13b", "vicuna_v1"),
        ("llava-1.5-7b-hf", "vicuna_v1"),
        ("my-llava-1.5-13b-lora", "vicuna_v1"),
        ("llava-next-interleave-qwen-7b", "qwen_1_5"),
        ("llava-interleave-qwen-0.5b-hf", "qwen_1_5"),
        ("LLaVA-Lightning-7B-delta-v1-1", "llava_v1"),
        ("LLaVA-Lightning-MPT-7B-preview", "mpt"),
        ("LLaVA-V1.5-7B", "vicuna_v1"),
        ("my-llama-2-after-llava-v1.5", "llava_llama_2"),
        ("mistral-v1.6-34b", "mistral_instruct"),
        ("llava-mpt-v1", "llava_v1"),
        ("LLaVA-Phi-3-mini-4k-instruct-FT", "phi3_instruct"),
        ("microsoft/Phi-3-mini-128k-instruct", "phi3_instruct"),
        ("llava-v1-5-7b", "vicuna_v1"),
        ("llava_v1_5_7b", "vicuna_v1"),
        ("llava-v1.5-7-mine", "vicuna_v1"),
        ("llava-v1-7b", "llava_v1"),
        ("llava-mistral-7", "mistral_instruct"),
        ("llava-qwen2-7b", "qwen_1_5"),
        ("llava-onevision-qwen2-0.5b-ov-hf", "qwen_1_5"),
        ("llava-onevision-mine", "qwen_1_5"),
        ("llava-phi-3-mini", "phi3_chat"),
        ("llava-phi-3-mini-hf", "phi3_chat"),
    ],
)
def test_template_follows_from_the_name(name, template):
    resolved, reason = resolve_conversation(forced=None, zoo=None, names=[name])
    assert resolved == template
    assert repr(name) in reason


@pytest.mark.parametrize(
    "name",
    [
        "mine-v12",
        "llava-1.55-x",
        "llava-v10",
        "llava-v1.7",
        "llava-v1.55-x",
        "llava-v1.6-340b",
        "llama-20b",
        "llava-v1-7",
    ],
)
def test_beginning_of_another_version_number_names_no_template(name):
    with pytest.raises(ConversationError, match="No conversation template is known"):
        resolve_conversation(forced=None, zoo=None, names=[name])


@pytest.mark.parametrize(
    "name",
    [
        *("llava-phi-3-tuned", "llava-phi-3-medium", "Phi-3.5-mini"),
        *("llava-qwen2.5-7b", "llava-onevision-qwen2.5-7b", "llava-next-qwen2_5-7b"),
        *("llava-v1.5-qwen2-5-7b", "Qwen/Qwen2.5-7B-Instruct"),
    ],
)
def test_name_of_a_model_that_is_trained_in_two_ways_names_no_template(name):
    with pytest.raises(ConversationError, match="No conversation template is known"):
        resolve_conversation(forced=None, zoo=None, names=[name])


@pytest.mark.parametrize(
    ("forced", "zoo", "names", "expected"),
    [
        ("plain", "mpt", ["llava-v1.5-7b"], ("plain", "asked for")),
        (None, "mpt", ["llava-v1.5-7b"], ("mpt", "named by the model's zoo entry")),
        ("v1", None, [], ("vicuna_v1", "asked for as v1")),
        ("vicuna_v1", None, [], ("vicuna_v1", "asked for")),
        (None, None, ["tuned", "llava-v1.5-7b"], ("vicuna_v1", "'v1.5' occurs in 'llava-v1.5-7b'")),
        (None, None, [None, "", "mistral"], ("mistral_instruct", "'mistral' occurs in 'mistral'")),
        (
            None,
            None,
            ["llava-v1-tuned", "mistral"],
            ("llava_v1", "'v1' occurs in 'llava-v1-tuned'"),
        ),
    ],
    ids=[
        "forced first",
        "then the zoo",
        "second name",
        "first name",
        "next name",
        "names left out",
        "first name that matches",
    ],
)
def test_order_in_which_a_template_is_looked_for(forced, zoo, names, expected):
    assert resolve_conversation(forced=forced, zoo=zoo, names=names) == expected


@pytest.mark.parametrize(
    ("forced", "zoo", "part"),
    [
        ("vicuna", None, "is 'vicuna' (asked for)"),
        ("vicuna", "mpt", "is 'vicuna' (asked for)"),
        (None, "v9", "is 'v9' (named by the model's zoo entry)"),
    ],
)
def test_unknown_template_is_refused_with_the_known_ones(forced, zoo, part):
    with pytest.raises(ConversationError) as caught:
        resolve_conversation(forced=forced, zoo=zoo, names=["llava-v1.5-7b"])
    assert part in str(caught.value)
    assert all(name in str(caught.value) for name in conv_templates)


@pytest.mark.parametrize(
    ("names", "part"),
    [(["tuned", None, "checkpoint-9"], "'tuned' / 'checkpoint-9'"), ([], "this model")],
)
def test_name_without_a_rule_is_refused_with_the_known_templates(names, part):
    with pytest.raises(ConversationError) as caught:
        resolve_conversation(forced=None, zoo=None, names=names)
    assert part in str(caught.value)
    assert "`conversation=`" in str(caught.value)
    assert all(name in str(caught.value) for name in conv_templates)


FAMILIES = {
    "llama": ("</s>", ["<s>", "<unk>"]),
    "llama with padding": ("</s>", ["<s>", "<unk>", "<pad>"]),
    "llama 3": ("<|eot_id|>", ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"]),
    "qwen": ("<|im_end|>", ["<|endoftext|>", "<|im_start|>"]),
    "phi 3": ("<|end|>", ["<s>", "</s>", "<|user|>", "<|assistant|>"]),
    "gemma": ("<eos>", ["<bos>", "<start_of_turn>", "<end_of_turn>"]),
    "llama for chatml": ("</s>", ["<s>", "<|im_start|>", "<|im_end|>"]),
    "mpt": ("<|endoftext|>", ["<|im_start|>", "<|im_end|>"]),
    "neox": ("<|endoftext|>", ["<|padding|>"]),
}


def tokenizer_of(family):
    """Bytes, and the special tokens of a family of language models."""
    end, more = FAMILIES[family]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={x: i for i, x in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([end, *more])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end)


@pytest.mark.parametrize(
    ("template", "families"),
    [
        ("vicuna_v1", {"llama", "llama with padding"}),
        ("llava_v1", {"llama", "llama with padding"}),
        ("llava_llama_2", {"llama", "llama with padding"}),
        ("mistral_instruct", {"llama", "llama with padding"}),
        ("chatml_direct", {"qwen", "mpt", "llama for chatml"}),
        ("mpt", {"qwen", "mpt", "llama for chatml"}),
        ("phi3_chat", {"phi 3"}),
    ],
)
def test_families_whose_tokenizer_a_template_agrees_with(template, families):
    agreeing = {name for name in FAMILIES if not find_contradiction(template, tokenizer_of(name))}
    assert agreeing == families


@pytest.mark.parametrize("family", ["llama 3", "qwen", "phi 3", "gemma", "neox"])
@pytest.mark.parametrize("name", ["llava-v1.5-mine", "llava-mine-v1_1", "llava-llama-2-like"])
def test_name_does_not_stand_against_the_tokenizer(family, name):
    tokenizer = tokenizer_of(family)
    for source in ({"zoo": None, "names": [name]}, {"zoo": "vicuna_v1", "names": []}):
        with pytest.raises(ConversationError) as caught:
            resolve_conversation(forced=None, **source, tokenizer=tokenizer)
        assert "`conversation=`" in str(caught.value)
        assert all(template in str(caught.value) for template in conv_templates)
        assert re.search(
            r"force it: conversation=(vicuna_v1|llava_v1|llava_llama_2)\.$", str(caught.value)
        )
    asked = resolve_conversation(forced="vicuna_v1", zoo=None, names=[name], tokenizer=tokenizer)
    assert asked == ("vicuna_v1", "asked for")


def test_name_that_agrees_with_the_tokenizer_decides():
    found = resolve_conversation(
        forced=None, zoo=None, names=["llava-v1.5-7b"], tokenizer=tokenizer_of("llama")
    )
    assert found[0] == "vicuna_v1"
