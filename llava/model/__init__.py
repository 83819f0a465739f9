"""The model: checkpoints, vision tower, projector, language model and how they are joined."""
