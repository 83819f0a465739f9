"""The LLaVA model: templates, tokenizer, images, checkpoints, generation. Knows no benchmark.

Importing this package imports nothing else, so that a process without torch can use the tokenizer
and the conversation templates.
"""
