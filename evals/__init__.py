"""Benchmarks: questions in, official scores out. Never imports torch, llava or hydra."""
