"""Finding checkpoints as a training run writes them, and evaluating each once."""
