"""Every family of checkpoints and every format, as styles in which a model can be written."""

import mlx.core as mx

from dsv4_tp.layouts import PLAIN, Format
from dsv4_tp.layouts.tables import BARE, MODULES, OFFICIAL, OWN, SAVED, SELF_ATTN, SWITCH
from dsv4_tp.modelspec import Stored, Tensor
from tests.layouts.export import Style

MXFP4, MXFP8 = Format("mxfp4", 4, 32), Format("mxfp8", 8, 32)

STACKED = {"{block}.ffn.experts.{w}.weight": 1}
SPLIT = {"{block}.attn.wo_a.weight": 1}

FP8 = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
FLOAT32 = {Stored.BF16: mx.float32, Stored.F32: mx.float32, Stored.INT: mx.int32}
FLOAT16 = FLOAT32 | {Stored.BF16: mx.float16}


def packed(form: Format):
    """All modules alike, as mlx-lm does it."""

    def chosen(tensor: Tensor) -> Format:
        module = tensor.stored is Stored.BF16 and len(tensor.shape) > 1
        return form if module and ".gate." not in tensor.name else PLAIN

    return chosen


def affine(bits: int, group: int = 64):
    return packed(Format("affine", bits, group))


def mixed(tensor: Tensor) -> Format:
    """Another format for almost each kind, a packed gate among them."""
    if ".experts." in tensor.name:
        form = {"w1": MXFP4, "w2": Format("affine", 3, 64), "w3": Format("affine", 2, 64)}
        return form[tensor.name.split(".")[-2]]
    if "shared_experts" in tensor.name or ".wo_" in tensor.name:
        return MXFP8
    if ".ffn.gate." in tensor.name:
        return Format("affine", 8, 64) if tensor.stored is Stored.BF16 else PLAIN
    return affine(6, 32)(tensor) if "wkv" in tensor.name else affine(4, 128)(tensor)


STYLES = {
    # DeepSeek's own
    "official": Style(mtp=True, config=FP8 | {"expert_dtype": "fp4"}),
    "base": Style(mtp=True, config=FP8, base=True),
    "bf16": Style(mtp=True),
    "fp32": Style(dtypes=FLOAT32),
    # mlx-community's deepseek-ai-DeepSeek-V4-*
    "short, 8 bits": Style(OFFICIAL, STACKED | SPLIT, affine(8)),
    "short, 4 bits": Style(OFFICIAL, STACKED | SPLIT, affine(4)),
    "short, stacked bf16": Style(OFFICIAL, STACKED, mtp=True),
    "short, mixed": Style(OFFICIAL, STACKED | SPLIT, mixed, mtp=True),
    # mlx-lm's
    "switch, 2 bits": Style(SWITCH, {}, affine(2, 32)),
    "switch, 4 bits in fp16": Style(SWITCH, {}, affine(4), dtypes=FLOAT16),
    "switch, 5 bits": Style(SWITCH, {"{layer}.ffn.gate.bias": 1}, affine(5)),
    "switch, 6 bits": Style(SWITCH, {"{layer}.hc_{sub}.{leaf}": 1}, affine(6), wo_a_by_group=True),
    "switch, 8 bits": Style(SWITCH, {"hc_head.{leaf}": 1}, affine(8, 128)),
    "switch, mxfp4": Style(SWITCH, {"{layer}.hc_{sub}.{leaf}": 1}, packed(MXFP4)),
    "switch, mxfp8": Style(SWITCH, {}, packed(MXFP8), wo_a_by_group=True),
    "switch, bf16": Style(SWITCH, {"{layer}.ffn.shared_experts.{w}.weight": 1}, wo_a_by_group=True),
    "switch, experts one by one": Style(SWITCH, {"{layer}.ffn.experts.{w}.weight": 1}, mixed),
    "self_attn, 3 bits": Style(SELF_ATTN, {"{layer}.hc_{sub}.{leaf}": 1}, affine(3, 128)),
    "no prefix, mixed": Style(BARE[0], {"{layer}.attn.wo_a.weight": 1}, mixed),
    "our own, 5 bits": Style(OWN, {}, affine(5, 32)),
    # transformers'
    "saved": Style(SAVED),
    "modules": Style(MODULES),
}
