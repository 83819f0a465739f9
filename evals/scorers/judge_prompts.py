"""The official prompts of the judged benchmarks, character by character.

Sources: MM-Vet is yuweihao/MM-Vet @ acde843e, `mm-vet_evaluator.ipynb`; LLaVA-Bench is
haotian-liu/LLaVA @ c121f043, `llava/eval/table/rule.json` and `eval_gpt_review_bench.py`.
"""

MMVET_PROMPT = (
    "Compare the ground truth and prediction from AI models, to give a correctness score for "
    "the prediction. <AND> in the ground truth means it is totally right only when all "
    "elements in the ground truth are present in the prediction, and <OR> means it is totally "
    "right when any one element in the ground truth is present in the prediction. The "
    "correctness score is 0.0 (totally wrong), 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, or "
    "1.0 (totally right). Just complete the last space of the correctness score.\n"
    "\n"
    "Question | Ground truth | Prediction | Correctness\n"
    "--- | --- | --- | ---\n"
    "What is x in the equation? | -1 <AND> -5 | x = 3 | 0.0\n"
    "What is x in the equation? | -1 <AND> -5 | x = -1 | 0.5\n"
    "What is x in the equation? | -1 <AND> -5 | x = -5 | 0.5\n"
    "What is x in the equation? | -1 <AND> -5 | x = -5 or 5 | 0.5\n"
    "What is x in the equation? | -1 <AND> -5 | x = -1 or x = -5 | 1.0\n"
    "Can you explain this meme? | This meme is poking fun at the fact that the names of the "
    "countries Iceland and Greenland are misleading. Despite its name, Iceland is known for "
    "its beautiful green landscapes, while Greenland is mostly covered in ice and snow. The "
    "meme is saying that the person has trust issues because the names of these countries do "
    "not accurately represent their landscapes. | The meme talks about Iceland and Greenland. "
    "It's pointing out that despite their names, Iceland is not very icy and Greenland isn't "
    "very green. | 0.4\n"
    "Can you explain this meme? | This meme is poking fun at the fact that the names of the "
    "countries Iceland and Greenland are misleading. Despite its name, Iceland is known for "
    "its beautiful green landscapes, while Greenland is mostly covered in ice and snow. The "
    "meme is saying that the person has trust issues because the names of these countries do "
    "not accurately represent their landscapes. | The meme is using humor to point out the "
    "misleading nature of Iceland's and Greenland's names. Iceland, despite its name, has lush "
    "green landscapes while Greenland is mostly covered in ice and snow. The text 'This is why "
    "I have trust issues' is a playful way to suggest that these contradictions can lead to "
    "distrust or confusion. The humor in this meme is derived from the unexpected contrast "
    "between the names of the countries and their actual physical characteristics. | 1.0\n"
)
"""What precedes the row that the judge of MM-Vet completes."""

LLAVABENCH_SYSTEM = (
    "You are a helpful and precise assistant for checking the quality of the answer."
)
"""The system message for the judge of LLaVA-Bench."""

LLAVABENCH_ROLE = "Assistant"
"""What the two answerers are called in all categories."""

LLAVABENCH_RULE = (
    "We would like to request your feedback on the performance of two AI assistants in "
    "response to the user question displayed above. The user asks the question on observing an "
    "image. For your reference, the visual content in the image is represented with a few "
    "sentences describing the image. \n"
    "Please rate the helpfulness, relevance, accuracy, level of details of their responses. "
    "Each assistant receives an overall score on a scale of 1 to 10, where a higher score "
    "indicates better overall performance.\n"
    "Please first output a single line containing only two values indicating the scores for "
    "Assistant 1 and 2, respectively. The two scores are separated by a space.\n"
    "In the subsequent line, please provide a comprehensive explanation of your evaluation, "
    "avoiding any potential bias and ensuring that the order in which the responses were "
    "presented does not affect your judgment."
)
"""What the judge of LLaVA-Bench is asked to do, the same in all categories."""
