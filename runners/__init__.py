"""The programs. The only package that imports hydra and both `llava` and `evals`."""
