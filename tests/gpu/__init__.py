"""What a GPU shows of the engine: `make gpu`, or `python -m tests.gpu`, in under eight minutes."""
