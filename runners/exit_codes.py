"""What every program exits with."""

COMPLETE = 0
INCOMPLETE = 1
"""Answers are missing, a gate failed, the canary stopped the run, or the disk is full."""
BAD_INPUT = 2
"""Configuration, data or checkpoint are wrong; told before the first answer."""
INTERRUPTED, TERMINATED = 130, 143
"""After SIGINT and SIGTERM, as a shell reports them."""
