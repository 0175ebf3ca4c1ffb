"""The rules applied to a model: one rank's modules, filled with that rank's weights."""

from dsv4_tp.parallel.load import Loaded, load_rank, quantise_as_stored

__all__ = ["Loaded", "load_rank", "quantise_as_stored"]
