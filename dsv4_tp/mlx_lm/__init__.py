"""The plug-in for mlx-lm: after `register()`, its own tools load and run DeepSeek-V4.

from dsv4_tp.mlx_lm import register
register()
model, tokenizer = mlx_lm.load("path/to/DeepSeek-V4-Flash")
"""

from dsv4_tp.mlx_lm.plugin import Model, ModelArgs, register

__all__ = ["Model", "ModelArgs", "register"]
