"""A stored run as results for a model's page on the Hugging Face hub."""
