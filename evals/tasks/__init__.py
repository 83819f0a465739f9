"""One module a benchmark: its questions, and the judgment of its answers."""
