"""What `llava-evals` can be followed by."""

from __future__ import annotations

from runners.environment import COMMAND

PROGRAMS = {
    "eval": "evaluates a checkpoint on benchmarks",
    "ask": "asks a checkpoint one question",
    "score": "scores stored answers again, or the answers of others",
    "leaderboard": "every run beside the published figures",
    "regress": "says whether a candidate is worse than a baseline",
    "report": "one HTML file that shows what runs answered",
    "view": "the same in a browser on this machine, while a run goes on",
    "submit": "the file that a benchmark's server takes",
    "publish": "results for a model's page on the Hugging Face hub",
    "doctor": "says whether this machine and its data are ready",
    "watch": "evaluates checkpoints as a training writes them",
    "bench": "how fast the engines are, side by side",
    "train_demo": "trains the demo checkpoint from nothing",
}
"""What each program does; it is `runners.<name>`."""
COMMANDS = {
    "list": "tasks, models, templates or runs",
    "clean": "removes what was set aside, or caches; asks first",
    "completion": f'prints what completes words by tab: eval "$({COMMAND} completion bash)"',
}
USAGE = {
    "list": "tasks|models|templates|runs [include=DIR] [results_dir=results]",
    "clean": "[what=set_aside|caches|all] [results_dir=results] [yes=false]",
    "completion": "bash",
}
"""What each of these takes."""
DETAILS = {
    "clean": """\
  what=set_aside  folders that overwrite=true put out of the way in results_dir, if each of
                  their answers has another in its place
  what=caches     demo data, hashes of weights and exit codes of sweeps in the user's cache,
                  which all results and projects share; made again when needed
  what=all        both""",
}
"""What is to be said of them beside that."""
