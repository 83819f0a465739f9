"""Models of our own: the bench that measures engines, and the training of the demo checkpoint."""
