"""The bundled demo model: a tiny DeepSeek-V4 checkpoint with random weights, made on the spot.

Owns its numbers, its tokenizer and the writing of its files, which are laid out exactly like
DeepSeek's own release. It knows NumPy and the model's contract, not how a checkpoint is read.
"""

from dsv4_tp.demo.build import ensure

__all__ = ["ensure"]
