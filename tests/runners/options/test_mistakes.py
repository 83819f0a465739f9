"""What people type first, coming from other programs, and what is said to them."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from runners.options.mistakes import find_mistakes
from runners.options.register import SCHEMAS
from runners.options.spellings import NAMES, NEEDLESS, SWITCHES


def said(line: str) -> str:
    program, *argv = shlex.split(line)
    return "\n".join(find_mistakes(argv, program, SCHEMAS[program]))


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("eval model=/data/llava-mine", "`model.path=/data/llava-mine`"),
        ("eval model=../llava-mine", "`model.path=../llava-mine`"),
        ("eval model=someone/llava-mine", "`model.path=someone/llava-mine`"),
        ("eval model=liuhaotian/llava-v1.5-13b", "or `model=llava-v1.5-13b`"),
        ("eval model=LLaVA-v1.5-13B", "`model=llava-v1.5-13b`"),
        ("eval --model llava-v1.5-7b", "`model=llava-v1.5-7b`"),
        ("eval --model=/a/b", "`model.path=/a/b`"),
        ("eval --model-path /a --temperature 0.2", "`generation.temperature=0.2`"),
        ("eval --tasks gqa pope", "`task=[gqa,pope]`"),
        ("eval --limit=5", "`limit=5`"),
        ("eval --dry-run", "`dry_run=true`"),
        ("eval --batch-size 8", "No batch size is needed"),
        ("eval task=gqa,pope", "`task=[gqa,pope]`"),
        ("eval task=GQA,pope", "`task=[gqa,pope]`"),
        ("eval task=[vqa_v2,ScienceQA]", "`task=[vqav2,scienceqa]`"),
        ("eval task=[vqav2,sqa]", "`task=[vqav2,scienceqa]`"),
        ("eval task=vqa2,gqa,mmb", "`task=[vqav2,gqa,mmbench]`"),
        ("eval task=[vqav2, gqa, scienceqa] limit=3", "`task=[vqav2,gqa,scienceqa]`"),
        ("eval task=[ vqav2 , gqa ]", "`task=[vqav2,gqa]`"),
        ("eval 'task=[vqav2 gqa]'", "`task=[vqav2,gqa]`"),
        ("eval 'task=pope GQA'", "`task=[pope,gqa]`"),
        ("regress task=menus", "A task of your own is found with include=DIR"),
        ("report runs=[a, b] limit=3", "`runs=[a,b]`"),
        ("eval -m task=gqa,popee", "`task=gqa,pope`"),
        ("eval tasks=gqa", "`task=gqa`"),
        ("eval task=mine.jsonl", "`task=custom tasks.custom.questions=mine.jsonl`"),
        ("eval model=llava-v1.5-7b,llava-v1.5-13b", "Add -m"),
        ("eval quantization=4-bit", "`quantization=nf4`"),
        ("eval quantization=load_in_8bit", "`quantization=int8`"),
        ("eval quantization=fp16", "`dtype=float16`"),
        ("eval load_in_8bit=true", "`quantization=int8`"),
        ("eval load_4bit=False", "Leave it out"),
        ("eval bf16=true", "`dtype=bfloat16`"),
        ("eval per_device_batch_size=4", "No batch size is needed"),
        ("eval conv-mode=vicuna-v1", "`conversation=vicuna_v1`"),
        ("eval do_sample=true", "`generation=sample`"),
        ("eval num_beams=3", "`generation.num_beams=3`"),
        ("eval max_new_tokens=16", "`generation.max_new_tokens=16`"),
        ("eval num_workers=2", "`runner.num_workers=2`"),
        ("eval num_gpus=2", "every visible GPU is used"),
        ("eval data=/data/eval", "`data.root=/data/eval`"),
        ("eval llava-v1.5-7b gqa", "`model=llava-v1.5-7b task=gqa`"),
        ("eval limit 5", "`limit=5`"),
        ("eval limit= 5", "`limit=5`"),
        ("eval limit = 5", "`limit=5`"),
        ("eval 5", "every option is written NAME=VALUE"),
        ("regress A B", "`baseline=A candidate=B`"),
        ("regress --baseline A --candidate B", "`candidate=B`"),
        ("report A B", "`runs=[A,B]`"),
        ("watch out task=gqa", "`dir=out`"),
        ("score answers.jsonl", "`predictions=answers.jsonl`"),
        ("ask cat.png 'What is it?'", '`image=cat.png "prompt=What is it?"`'),
        ("ask max_tokens=9 prompt=x", "`max_new_tokens=9`"),
        ("bench --engine packed", "`engine=packed`"),
        ("eval task=mmbench_en_dev_lite", "`task=mmbench`"),
        ("eval task=[MMBench_TEST_EN,MMBench_DEV_CN]", "`task=[mmbench,mmbench_cn]`"),
        ("eval task=MMBench_DEV_EN_V11", "`task=mmbench`"),
        ("eval task=ok_vqa_val2014,GQA_TestDev_Balanced", "`task=[okvqa,gqa]`"),
        ("eval task=llava_in_the_wild,vizwiz_vqa_val", "`task=[llavabench,vizwiz]`"),
        ("eval --model_args a/b", "`model.path=a/b`"),
        ("eval model_args=pretrained=a/b,conv_template=c", "`model.path=a/b`"),
        *(
            (f"ask prompt=x image={value}", "`: It is empty, perhaps because")
            for value in ("", ",")
        ),
        ("ask prompt=x model.path=", "`model.path=`: It is empty"),
        ("eval model.path=runs/*/final task=gqa", "Put -m before the options."),
        ("eval model.path=out/step-?? task=gqa", "A pattern stands for several folders"),
        ("score run=a task=gqa predictions=", "`predictions=`: It is empty"),
        ("score run=a task=custom tasks.custom.questions=", "`tasks.custom.questions=`: It is"),
        ("score run=a task=mmvet +tasks.mmvet.replies=", "`+tasks.mmvet.replies=`: It is empty"),
        ("doctor data.root=", "`data.root=`: It is empty"),
        ("bench bench.questions=", "`questions=`: It is empty"),
        ("eval include=", "`include=`: It is empty"),
        (
            r"eval task=pope 'tasks.pope.prompt_suffix=\nBe brief.'",
            r"tasks.pope.prompt_suffix=$'\n",
        ),
        (
            """eval task=pope 'tasks.pope.prompt_suffix=" Be brief."'""",
            "The quotes would be part of the text: leave them out",
        ),
    ],
)
def test_the_option_that_was_meant_is_named(line: str, meant: str) -> None:
    assert meant in said(line)


@pytest.mark.parametrize(
    "line",
    [
        "eval",
        "eval model=checkpoint model.path=/a task=[gqa,pope] +tasks.gqa.x=1 ~task",
        "eval -m model=llava-v1.5-7b,llava-v1.5-13b quantization=none,nf4 task=gqa,pope",
        "eval --help task=custom",
        "eval -h",
        "eval --cfg job --package model limit=5",
        "eval --config-dir mine model=mine",
        "eval hydra/launcher=submitit_local hydra.launcher.submitit_folder=x",
        "eval hydra.searchpath=[file://x] model=mine",
        "eval engine.max_rows=1 engine=sequential runner.num_gpus=1 tasks.custom.questions=q",
        "eval model=${oc.env:MODEL} experiment=null unknown=1",
        "regress baseline=A candidate=B task=[gqa]",
        "leaderboard tasks=gqa models=x",
        "ask prompt=--why? image=a.jpg,b.jpg",
        "bench bench.batch_size=8 bench.model=random-25m",
        "eval 'task=[vqav2, gqa]'",
        "ask image=null prompt= model.name= model.revision=null",
        "score predictions=null task=mmvet tasks.mmvet.replies=[] tasks.gqa.prompt_suffix=",
        r"ask 'prompt=What is $\nabla$?'",
        """score task=gqa "tasks.gqa.prompt_suffix= 'yes' or 'no'" """,
        "submit task=vqav2 output=x.json run=A",
        "eval -m model.path=runs/*/final task=gqa",
        "eval --cfg hydra experiment=slurm-sweep model.path=out/step-?? task=gqa",
        "eval experiment=lora-sweep model.path=out/step-?? model.base=B",
        "eval model.path=runs/final model.base=B task=gqa",
    ],
)
def test_nothing_is_said_against_what_can_be_meant(line: str) -> None:
    if "--config-dir" in line:
        Path("mine/model").mkdir(parents=True)
        Path("mine/model/mine.yaml").write_text("path: x")
    assert said(line) == ""


@pytest.mark.parametrize(
    "word",
    ["model=llava", "model=llava_vid", "task=OCRBench", "task=mathverse", "task=A-Bench_VAL"],
)
def test_what_is_not_there_is_told_of_nothing_else(word: str) -> None:
    assert "There is no " in said(f"eval {word}")
    assert "Did you mean" not in said(f"eval {word}")


def test_every_remedy_is_an_option_of_some_program() -> None:
    switched = {word.partition("=")[0] for word in SWITCHES.values()}
    for name in {*NAMES.values(), *switched} - {"tasks.custom.images", "tasks.custom.questions"}:
        lines = [f"{program} {name}=null" for program in SCHEMAS]
        assert any(not said(line) for line in lines), name
    for program in ("eval", "watch"):
        for name, (_, sentence) in NEEDLESS.items():
            assert sentence in said(f"{program} {name}=1")
        for name, word in SWITCHES.items():
            assert said(f"{program} {name}=true") == f"`{name}=true`: Write `{word}`."
            assert not said(f"{program} {word}")
