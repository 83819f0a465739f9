"""Engines side by side on synthetic workloads."""
