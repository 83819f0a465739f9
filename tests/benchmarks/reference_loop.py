"""The loop that LLaVA's evaluation scripts are: one question after the other, and a line each.

    python -m tests.benchmarks.reference_loop CHECKPOINT DATA TASK LIMIT MAX_NEW_TOKENS OUTPUT

Measured as a whole process, it is what a run of `runners.eval` is held against.
"""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path

import torch
from tqdm import tqdm

from evals.tasks.gqa import GQA
from evals.tasks.scienceqa import ScienceQA
from evals.tasks.vqav2 import VQAv2
from llava.constants import DEFAULT_IMAGE_TOKEN, IMAGE_TOKEN_INDEX
from llava.conversation import conv_templates
from llava.images import process_images
from llava.mm_utils import tokenizer_image_token
from llava.model.builder import load_pretrained_model

TASKS = {"gqa": GQA, "vqav2": VQAv2, "scienceqa": ScienceQA}


@torch.inference_mode()
def main() -> None:
    """Answers the first questions with an image."""
    checkpoint, data, name, limit, max_new_tokens, output = sys.argv[1:]
    torch.set_num_threads(1)
    tokenizer, model, image_processor, _ = load_pretrained_model(
        checkpoint, None, "llava-v1.5-bench", device="cpu", dtype=torch.float32
    )
    samples = TASKS[name](data_dir=Path(data) / name, split="demo").samples()
    with Path(output).open("w", encoding="utf-8") as file:
        for sample in tqdm(islice(samples, int(limit))):
            text = sample.text
            images = [ref.open() for ref in sample.images]
            if images and DEFAULT_IMAGE_TOKEN not in text:
                text = f"{DEFAULT_IMAGE_TOKEN}\n{text}"
            conversation = conv_templates["vicuna_v1"].copy()
            conversation.append_message(conversation.roles[0], text)
            conversation.append_message(conversation.roles[1], None)
            ids = tokenizer_image_token(
                conversation.get_prompt(), tokenizer, IMAGE_TOKEN_INDEX, return_tensors="pt"
            )
            pixels = process_images(images, image_processor, model.config) if images else None
            tokens = model.generate(
                ids[None],
                images=pixels,
                image_sizes=[image.size for image in images],
                do_sample=False,
                max_new_tokens=int(max_new_tokens),
                use_cache=True,
            )
            answer = tokenizer.batch_decode(tokens, skip_special_tokens=True)[0].strip()
            line = {"question_id": sample.question_id, "prompt": text, "text": answer}
            file.write(json.dumps(line) + "\n")
            file.flush()


if __name__ == "__main__":
    main()
