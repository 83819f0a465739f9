"""One module a benchmark: its questions, and the judgment of its answers.

What several constructors take means the same to all: `data_dir` is the folder with the benchmark's
files, `prompt_suffix` what follows the question or the choices in the prompt, `source` is `files`
or `hub` for the mirror, and `max_new_tokens` is the answer length, by default that of LLaVA's
script. `judge` is the judge model; figures of different ones cannot be compared. `replies` is the
file with what it said, or one file a run; None if there is none, so that nothing is scored. An
option with a few values raises a `ValueError` for any other.
"""
