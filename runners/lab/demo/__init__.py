"""How the demo checkpoint learns: examples, tokenizer, tower, language model, file formats."""
