"""The demo data: pictures of colored shapes with questions, in the benchmarks' official formats."""

from evals.demo.generate import DEMO_SPLIT, ensure_demo_data

__all__ = ["DEMO_SPLIT", "ensure_demo_data"]
