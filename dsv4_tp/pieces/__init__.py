"""Which bytes of which file a rank reads, and pieces of files as one file. Needs no MLX."""

from dsv4_tp.pieces.bundle import Bundle, bundle_bytes, open_bundle
from dsv4_tp.pieces.forms import Form, biases_name, forms, scales_name
from dsv4_tp.pieces.loads import Groups, Load, cuts_by_group, plan_loads
from dsv4_tp.pieces.segments import Piece, Segment

__all__ = [
    "Bundle",
    "Form",
    "Groups",
    "Load",
    "Piece",
    "Segment",
    "biases_name",
    "bundle_bytes",
    "cuts_by_group",
    "forms",
    "open_bundle",
    "plan_loads",
    "scales_name",
]
