"""Weights to numbers: the map M = E W_V W_O U of an attention head, its salient tokens and relation scores.

The package knows checkpoints, tensors and tokenizers. It writes no HTML and no figures, and knows of no agent,
database or command. Results are the frozen dataclasses of `results` and `scores`; errors are those of `errors`.

May import nothing else of ours; of third parties, what reads checkpoints and multiplies (torch, safetensors, gguf,
tokenizers, transformers, huggingface_hub).
"""
