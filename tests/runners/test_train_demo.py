import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import llava
from evals.demo import ensure_demo_data
from evals.demo.generate import SeedSpace
from evals.demo.scene import COLORS, SHAPES, Scene, Thing
from llava.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from llava.conversation import conv_templates, render_question
from llava.model.builder import load_pretrained_model
from llava.tokenizer import load_tokenizer
from llava.tokens import tokenizer_image_token
from runners.lab.demo.answering import (
    answer_ids,
    answer_lessons,
    build_suffixes,
    prefix_ids,
)
from runners.lab.demo.checkpoint import write_checkpoint, write_tokenizer, write_tower
from runners.lab.demo.examples import Example, Lesson, picture_lesson, text_lesson
from runners.lab.demo.learning import (
    LanguagePlan,
    learn_language,
    lesson_loss,
    num_classes,
    patch_labels,
    warm_up_tower,
)
from runners.lab.demo.llava_1_5 import LLAVA_1_5
from runners.lab.demo.measuring import measure_checkpoint, render_table
from runners.lab.demo.model import DemoModel, preprocess
from runners.lab.demo.onevision import ONEVISION
from runners.lab.demo.tokenizer import read_corpus
from runners.lab.demo.training import FORMS
from runners.options import train_demo
from runners.options.train_demo import TrainDemoConfig

DEMO = Path(llava.__file__).parent / "demo"
FINAL, EARLY, TOWER = DEMO / "llava-demo", DEMO / "llava-demo-early", DEMO / "clip-demo"
NEXT, NEXT_TOWER = DEMO / "llava-demo-next", DEMO / "siglip-demo"
TINY_PLAN = LanguagePlan(
    num_steps=3, num_pictures=2, num_texts=1, num_examples=3, num_text_examples=3
)

pytestmark = pytest.mark.usefixtures("one_torch_thread")

needs_muon = pytest.mark.skipif(
    not hasattr(torch.optim, "Muon"), reason="training takes torch 2.9 or newer"
)


@pytest.fixture(scope="module", params=[LLAVA_1_5, ONEVISION], ids=list(FORMS))
def form(request):
    return request.param


@pytest.fixture(scope="module")
def tokenizer(form):
    return load_tokenizer(DEMO / form.checkpoint)


@pytest.fixture(scope="module")
def demo_model(form):
    torch.manual_seed(0)
    return DemoModel(form).half().float()


@pytest.fixture(scope="module")
def written(form, demo_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    content = (DEMO / form.checkpoint / form.tokenizer_file).read_bytes()
    write_tower(demo_model, folder / form.tower)
    write_tokenizer(form, content, folder / form.checkpoint)
    write_checkpoint(demo_model, folder / form.checkpoint)
    return folder / form.checkpoint


def digest(tensors):
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in tensors)).hexdigest()


# Examples


def test_lessons_repeat_with_seed_and_number_and_differ_otherwise():
    lesson, again = picture_lesson(3, 5, 6), picture_lesson(3, 5, 6)
    assert lesson.examples == again.examples
    assert lesson.image.tobytes() == again.image.tobytes()
    others = [picture_lesson(3, 6, 6), picture_lesson(4, 5, 6)]
    others.append(picture_lesson(3, 5, 6, SeedSpace.EVALUATION))
    assert len({lesson.image.tobytes(), *(other.image.tobytes() for other in others)}) == 4


def test_lessons_mix_all_three_benchmarks():
    kinds = {e.kind.split(":")[0] for n in range(5) for e in picture_lesson(3, n, 10).examples}
    assert kinds == {"vqav2", "gqa", "scienceqa"}
    assert {e.kind.split(":")[0] for e in text_lesson(3, 0, 10).examples} == {"scienceqa"}


def test_text_ends_in_the_official_suffix():
    for example in picture_lesson(3, 0, 20).examples:
        letter = example.kind.startswith("scienceqa")
        suffix = (
            "Answer with the option's letter from the given choices directly."
            if letter
            else "Answer the question using a single word or phrase."
        )
        assert example.text.endswith(f"\n{suffix}")
        assert (example.answer in "ABCDE") == letter


# Tokenizer


def test_a_trained_tokenizer_ends_lines_alone_and_knows_the_demo_words(form, tmp_path):
    corpus = [text for _, text in zip(range(4000), read_corpus(form, 1), strict=False)]
    texts = [*corpus, *(c.system for c in conv_templates.values())] * 2
    write_tokenizer(form, form.train_tokenizer(texts), tmp_path / "checkpoint")
    trained = load_tokenizer(tmp_path / "checkpoint")
    assert len(trained) == form.config["vocab_size"]
    assert form.line_break in trained.tokenize("What color\nis it?")
    for word in (*COLORS, *SHAPES):
        assert trained.tokenize(f"a {word}")[-1] == f"{form.space}{word}"
    for answer in (*COLORS, *SHAPES, "yes", "no", "A", "E"):
        assert len(answer_ids(trained, answer)) == 2


def test_the_marks_of_turns_are_single_tokens():
    tokenizer = load_tokenizer(NEXT)
    assert tokenizer.tokenize("<|im_start|>user\nHi<|im_end|>")[0] == "<|im_start|>"
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token == "<|endoftext|>"
    assert sum("im_" in piece for piece in tokenizer.get_vocab()) == 2  # no parts were learned


@pytest.mark.parametrize(
    "text", ["Naïve 日本語 café", "{[~^|`\\@#$%&*_+=<>]}", "tab\tand\n\nlines"]
)
def test_any_text_survives_the_committed_tokenizer(tokenizer, text):
    ids = tokenizer(text).input_ids
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


# Sequences


@pytest.mark.parametrize("answer", ["red", "yes", "A", "3"])
def test_answer_tokens_are_those_of_the_whole_conversation(form, tokenizer, answer):
    conversation = conv_templates[form.conversation].copy()
    conversation.append_message(conversation.roles[0], "<image>\nWhat?")
    conversation.append_message(conversation.roles[1], answer)
    whole = tokenizer_image_token(conversation.get_prompt(), tokenizer)
    prompt = tokenizer_image_token(render_question(form.conversation, "What?", 1), tokenizer)
    said = [*prompt, *answer_ids(tokenizer, answer)]
    assert whole[: len(said)] == said
    assert tokenizer.decode(whole[len(said) :]).strip() == ""


@pytest.mark.parametrize("with_image", [True, False])
def test_every_prompt_starts_with_the_shared_prefix(form, tokenizer, with_image):
    prefix = prefix_ids(form, tokenizer, with_image=with_image)
    lesson = picture_lesson(3, 0, 10) if with_image else text_lesson(3, 0, 10)
    for example in lesson.examples:
        prompt = render_question(form.conversation, example.text, int(with_image))
        assert tokenizer_image_token(prompt, tokenizer)[: len(prefix)] == prefix


def verdicts_of(form, tokenizer, lesson):
    """For each question, pairs of a piece and the piece that is to be learned there."""
    pieces = tokenizer.convert_ids_to_tokens
    with_image = lesson.image is not None
    for suffix in build_suffixes(form, tokenizer, [lesson], with_image=with_image):
        ids, verdicts = suffix.input_ids.tolist(), suffix.verdicts.tolist()
        pairs = zip(pieces(ids), verdicts, strict=True)
        words = ((piece, pieces(verdict)) for piece, verdict in pairs if verdict != IGNORE_INDEX)
        yield [tuple(word.removeprefix(form.space) for word in pair) for pair in words]


def test_every_option_gets_a_verdict_and_the_right_one_its_letter(form, tokenizer):
    lesson = text_lesson(3, 0, 20)
    given = verdicts_of(form, tokenizer, lesson)
    for example, verdicts in zip(lesson.examples, given, strict=True):
        said = [verdict for _, verdict in verdicts]
        assert len(said) == example.num_choices
        assert said["ABCDE".index(example.answer)] == example.answer
        assert said.count("no") == example.num_choices - 1
        options = example.text.splitlines()[-1 - example.num_choices : -1]
        for option, (piece, _) in zip(options, verdicts, strict=True):
            assert option.endswith(piece)


def test_a_thing_named_in_a_question_gets_its_number(form, tokenizer):
    scene = Scene(
        things=(
            Thing(color="red", shape="ring", row=0, column=0),
            Thing(color="blue", shape="ring", row=1, column=1),
            Thing(color="red", shape="cross", row=2, column=2),
        )
    )
    image = picture_lesson(3, 0, 0).image
    for text, counts in (
        ("Is there a red ring?", ["1"]),
        ("How many red shapes are there?", ["2"]),
        ("Are there both a ring and a circle?", ["2", "0"]),
        ("What shape is red?", []),
    ):
        examples = (Example(kind="", text=text, answer="yes"),)
        lesson = Lesson(examples=examples, scene=scene, image=image)
        (verdicts,) = verdicts_of(form, tokenizer, lesson)
        assert [verdict for _, verdict in verdicts] == counts, text


# Forward pass


@pytest.mark.parametrize("with_image", [True, False])
def test_logits_behind_a_shared_prefix_equal_those_of_the_loaded_checkpoint(
    form, demo_model, written, tokenizer, with_image
):
    make = picture_lesson if with_image else text_lesson
    lessons = [make(3, number, 4) for number in range(3)]
    model = load_pretrained_model(str(written), None, written.name, device="cpu")[1]
    shared = prefix_ids(form, tokenizer, with_image=with_image) + [IMAGE_TOKEN_INDEX] * with_image
    expected = sorted(
        (
            owner,
            tokenizer_image_token(
                render_question(form.conversation, example.text, int(with_image)), tokenizer
            ),
            answer_ids(tokenizer, example.answer),
        )
        for owner, lesson in enumerate(lessons)
        for example in lesson.examples
    )
    asked = []
    with torch.no_grad():
        for answers in answer_lessons(demo_model, tokenizer, lessons):
            for question, suffix in enumerate(answers.batch):
                ids = shared + suffix.input_ids.tolist()
                answer = answers.labels[answers.questions == question].tolist()
                pixels = preprocess(form, [lessons[suffix.owner].image]) if with_image else None
                logits = model(
                    input_ids=torch.tensor([ids]), images=pixels, image_sizes=[(48, 48)]
                ).logits
                wanted = logits[0, -len(answer) :]
                torch.testing.assert_close(
                    answers.logits[answers.questions == question], wanted, rtol=1e-4, atol=1e-4
                )
                prompt = ids[: len(ids) - len(answer) + 1]
                assert ids == prompt + answer[:-1]
                asked.append((suffix.owner, prompt, answer))
    assert sorted(asked) == expected


def test_only_the_answers_count_in_the_loss(demo_model, tokenizer):
    lesson = text_lesson(3, 0, 3)
    answers = next(answer_lessons(demo_model, tokenizer, [lesson]))
    num_counted = torch.bincount(answers.questions, minlength=len(answers.batch))
    assert num_counted.tolist() == [2] * len(answers.batch)  # the letter and the end token


def test_lessons_with_and_without_pictures_are_not_mixed(demo_model, tokenizer):
    with pytest.raises(ValueError, match="all have a picture"):
        list(answer_lessons(demo_model, tokenizer, [picture_lesson(3, 0, 2), text_lesson(3, 0, 2)]))


# Learning


def test_patch_labels_say_what_and_where(form):
    lesson = picture_lesson(3, 0, 0)
    labels = patch_labels(form, lesson.scene)
    assert (labels.flatten(0, 1).amax(0) < torch.tensor(num_classes(form))).all()
    whole = labels[0]
    side, step = (6, 2) if form is LLAVA_1_5 else (3, 1)
    assert len(whole) == side**2
    assert int((whole[:, 0] > 0).sum()) == step**2 * len(lesson.scene.things)
    for thing in lesson.scene.things:
        row, column = thing.row * step, thing.column * step
        expected = [1 + list(COLORS).index(thing.color), 1 + SHAPES.index(thing.shape)]
        assert whole[row * side + column].tolist() == [*expected, row, column]


def test_labels_of_tiles_are_those_of_the_picture_where_the_tiles_are():
    scene = picture_lesson(3, 0, 0).scene
    whole = patch_labels(LLAVA_1_5, scene)[0].view(6, 6, 4)
    tiles = patch_labels(ONEVISION, scene)[1:].view(2, 2, 3, 3, 4)
    for row in range(6):
        for column in range(6):
            patch = tiles[row // 3, column // 3, row % 3, column % 3].tolist()
            assert patch == [*whole[row, column, :2].tolist(), row % 3, column % 3]


def test_tiles_and_labels_show_the_same():
    lesson = picture_lesson(3, 0, 0)
    views = preprocess(ONEVISION, [lesson.image])[0]
    assert views.shape == (5, 3, 24, 24)
    assert len(patch_labels(ONEVISION, lesson.scene)) == len(views)
    pixels = torch.from_numpy(np.array(lesson.image)).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(views[2], pixels[:, :24, 24:])  # upper right
    torch.testing.assert_close(views[3], pixels[:, 24:, :24])  # lower left


@pytest.mark.slow
def test_the_tower_learns_its_pictures(form):
    torch.manual_seed(0)
    model = DemoModel(form)
    lessons = [picture_lesson(2, number, 0) for number in range(16)]
    views = preprocess(form, [lesson.image for lesson in lessons]).flatten(0, -4)
    labels = torch.cat([patch_labels(form, lesson.scene) for lesson in lessons])
    accuracy = warm_up_tower(model, views, labels, num_steps=60, batch_size=len(views))
    assert accuracy > 0.7


@pytest.mark.slow
@needs_muon
def test_learning_is_deterministic_lowers_the_loss_and_tunes_no_frozen_tower(form, tokenizer):
    def learned():
        torch.manual_seed(0)
        model = DemoModel(form)
        tower = digest(model.tower.state_dict().values())
        lessons = [picture_lesson(0, number, 3) for number in range(2)]
        before = lesson_loss(model, tokenizer, lessons).item()
        steps = []
        learn_language(model, tokenizer, TINY_PLAN, steps.append)
        assert steps == [1, 2, 3]
        assert lesson_loss(model, tokenizer, lessons).item() < before
        assert (digest(model.tower.state_dict().values()) != tower) == form.tunes_tower
        return digest(p.detach() for p in model.state_dict().values())

    assert learned() == learned()


def test_projected_images_start_at_the_size_that_learns(form):
    torch.manual_seed(0)
    model = DemoModel(form)
    views = preprocess(form, [picture_lesson(2, number, 0).image for number in range(8)])
    model.scale_projector(views.flatten(0, -4))
    features = model.select_features(views.flatten(0, -4))
    assert model.projector(features).std().item() == pytest.approx(0.5, 0.05)


def test_all_widths_fit_four_bit_kernels(demo_model):
    for name, module in demo_model.named_modules():
        if isinstance(module, nn.Linear):
            assert module.out_features % 32 == 0, name


def test_a_short_run_of_a_form_without_an_early_checkpoint_needs_no_early_step():
    assert TrainDemoConfig(form="onevision", num_steps=3).num_steps == 3


def test_the_options_name_every_form():
    assert tuple(FORMS) == train_demo.FORMS


@pytest.mark.parametrize("early_step", [0, 6001])
def test_the_early_step_must_be_one_of_the_run(early_step):
    with pytest.raises(ValueError, match="early_step"):
        TrainDemoConfig(early_step=early_step)


# The committed checkpoints


@pytest.mark.parametrize("folders", [(FINAL, EARLY, TOWER), (NEXT, NEXT_TOWER)])
def test_everything_committed_stays_small(folders):
    files = [path for folder in folders for path in folder.iterdir()]
    assert sum(path.stat().st_size for path in files) < 5_000_000


def test_the_committed_configurations_are_those_that_a_training_writes(form, written):
    for name in (*form.tokenizer_configs, "config.json", "generation_config.json"):
        stored = json.loads((DEMO / form.checkpoint / name).read_text())
        assert json.loads((written / name).read_text()) == stored, name
    for name in ("config.json", "preprocessor_config.json"):
        stored = json.loads((DEMO / form.tower / name).read_text())
        assert json.loads((written.parent / form.tower / name).read_text()) == stored, name


def test_both_checkpoints_share_tokenizer_and_tower():
    assert (FINAL / "tokenizer.model").read_bytes() == (EARLY / "tokenizer.model").read_bytes()
    configs = [json.loads((folder / "config.json").read_text()) for folder in (FINAL, EARLY)]
    assert configs[0] == configs[1]
    assert (DEMO / configs[0]["mm_vision_tower"]) == TOWER
    for folder in (FINAL, EARLY):
        assert not any("vision_tower" in name for name in load_file(folder / "model.safetensors"))


def test_a_tuned_tower_lies_in_its_checkpoint_too_and_is_another():
    own = load_file(NEXT_TOWER / "model.safetensors")
    tensors = load_file(NEXT / "model.safetensors")
    prefix = "model.vision_tower.vision_tower."
    tuned = {name.removeprefix(prefix): t for name, t in tensors.items() if prefix in name}
    assert own.keys() - tuned.keys() == {name for name in own if ".layers.2." in name}
    changed = [name for name in tuned if not torch.equal(tuned[name], own[name])]
    assert "vision_model.embeddings.patch_embedding.weight" in changed
    assert json.loads((NEXT / "config.json").read_text())["mm_vision_tower"] == NEXT_TOWER.name


@pytest.mark.parametrize(
    "folder", [FINAL, EARLY, TOWER, NEXT, NEXT_TOWER], ids=lambda folder: folder.name
)
def test_weights_are_finite_float16_without_outliers(folder):
    for name, tensor in load_file(folder / "model.safetensors").items():
        assert tensor.dtype == torch.float16
        assert tensor.isfinite().all(), name
        if tensor.ndim == 2 and ("layers" in name or "mm_projector" in name):
            assert tensor.float().abs().max() < 25 * tensor.float().std(), name


@pytest.mark.slow
def test_the_final_checkpoint_reaches_its_bars_and_the_early_one_is_worse(tmp_path):
    data_root = ensure_demo_data(tmp_path, num_images=2, seed=11)
    totals = {
        folder.name: {
            s.task: s.accuracy
            for s in measure_checkpoint(folder, "vicuna_v1", data_root)
            if s.kind == "all"
        }
        for folder in (FINAL, EARLY)
    }
    final, early = totals["llava-demo"], totals["llava-demo-early"]
    assert final["vqav2"] >= 0.93
    assert final["gqa"] >= 0.93
    assert final["scienceqa"] >= 0.8
    assert np.mean(list(final.values())) - np.mean(list(early.values())) > 0.05
    assert early["gqa"] > 0.5


@pytest.mark.slow
def test_the_checkpoint_in_onevision_format_reaches_its_bars(tmp_path):
    data_root = ensure_demo_data(tmp_path, num_images=2, seed=11)
    scores = measure_checkpoint(NEXT, ONEVISION.conversation, data_root)
    totals = {score.task: score.accuracy for score in scores if score.kind == "all"}
    assert totals["vqav2"] >= 0.88
    assert totals["gqa"] >= 0.93


@pytest.mark.slow
def test_the_table_names_every_kind_with_its_baseline(tmp_path):
    data_root = ensure_demo_data(tmp_path, num_images=1)
    scores = measure_checkpoint(FINAL, "vicuna_v1", data_root)
    assert [s.task for s in scores if s.kind == "all"] == ["vqav2", "gqa", "scienceqa"]
    for score in scores:
        assert 0 < score.baseline <= 1
        assert score.num_questions > 0
    table = render_table(scores)
    assert len(table.splitlines()) == len(scores) + 1
    assert "existAttr" in table


@pytest.mark.parametrize("option", ["early_step=9999", "num_stepz=1", "form=llava"])
def test_bad_options_stop_before_anything_is_trained(call, tmp_path, option):
    finished = call(f"runners.train_demo output={tmp_path}/out {option}", tmp_path)
    assert finished.code == 2
    assert option.split("=")[0] in finished.stderr
    assert not (tmp_path / "out").exists()


@needs_muon
@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "names"),
    [
        ("llava-1.5", {"clip-demo", "llava-demo", "llava-demo-early"}),
        ("onevision", {"siglip-demo", "llava-demo-next"}),
    ],
)
def test_the_program_writes_what_it_learned(tmp_path, form, names):
    command = [sys.executable, "-m", "runners.train_demo", f"output={tmp_path}/out"]
    command.append(f"form={form}")
    command += ["num_tower_images=64", "num_tower_steps=4", "num_steps=4", "early_step=2"]
    command += ["trial_every=4", "num_images=1"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert finished.stdout.count("scienceqa  all") == len(names) - 1
