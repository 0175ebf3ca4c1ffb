"""MLX's trees of arrays and the same as flat dictionaries, typed."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten  # pyright: ignore[reportUnknownVariableType]

Tree = dict[str, Any]
Flat = dict[str, mx.array]


def flat(tree: Any) -> Flat:
    """The arrays of a tree by path: `layers.0.attn.wkv.weight`."""
    return dict(cast(list[tuple[str, mx.array]], tree_flatten(tree)))


def unflat(arrays: Mapping[str, mx.array]) -> Tree:
    """The tree whose arrays have these paths."""
    return cast(Tree, tree_unflatten(list(arrays.items())))


def mean(trees: Sequence[Tree]) -> Tree:
    """The mean of trees of one form."""
    parts = [flat(tree) for tree in trees]
    share = 1 / len(parts)
    return unflat({path: share * sum((p[path] for p in parts), mx.zeros(())) for path in parts[0]})
