"""What a Mac's GPU does in one kernel where MLX's own operations are many.

A kernel's body is a file here. Its arithmetic is that of a plain twin in the model, which is used
unless kernels are asked for. The bodies are C++ too, so tests run them on any machine.
"""

from dsv4_tp.model.metal.mixing import MetalMixing
from dsv4_tp.model.metal.trial import routines_by
from dsv4_tp.model.metal.turning import MetalTurning

__all__ = ["MetalMixing", "MetalTurning", "routines_by"]
