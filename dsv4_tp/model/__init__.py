"""DeepSeek-V4's mathematics on one device: no rank, no group, no file, no process.

Names, shapes and order follow DeepSeek's published inference code; paper: arXiv 2606.19348.
"""

from dsv4_tp.model.cache import Cache, LayerCache, Memory
from dsv4_tp.model.division import Division
from dsv4_tp.model.layers import AllSum, ExpertLinear, GroupedLinear, identity
from dsv4_tp.model.metal import routines_by
from dsv4_tp.model.model import How, Model
from dsv4_tp.model.routines import Routines
from dsv4_tp.model.snapshot import Arrays, Rows

__all__ = [
    "AllSum",
    "Arrays",
    "Cache",
    "Division",
    "ExpertLinear",
    "GroupedLinear",
    "How",
    "LayerCache",
    "Memory",
    "Model",
    "Routines",
    "Rows",
    "identity",
    "routines_by",
]
