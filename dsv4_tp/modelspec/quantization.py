"""What a config.json says of how its weights are quantised: DeepSeek's FP8, or MLX's settings."""

from collections.abc import Mapping
from dataclasses import dataclass

from dsv4_tp.modelspec.fields import Fields

MODES = ("affine", "mxfp4", "mxfp8", "nvfp4")


@dataclass(frozen=True, slots=True)
class MlxSetting:
    """One of MLX's formats."""

    mode: str
    bits: int
    group_size: int


@dataclass(frozen=True, slots=True)
class MlxQuantization:
    """MLX's format of every quantised module, and of those that have their own.

    `modules` is keyed as in config.json; None says that a module is not quantised.
    """

    default: MlxSetting
    modules: Mapping[str, MlxSetting | None]


def mlx_quantization(fields: Fields) -> MlxQuantization | None:
    """MLX's settings in a config.json, from either of the keys that its tools write.

    Raises:
        ModelError: a setting cannot be read.
    """
    for key in ("quantization", "quantization_config"):
        if key in fields and "bits" in fields.section(key):
            return _settings(fields.section(key))
    return None


def is_native(fields: Fields) -> bool:
    """Whether a config.json says that the weights are quantised as DeepSeek does it.

    Raises:
        ModelError: it says that they are quantised in a way we do not know.
    """
    if "quantization_config" not in fields or mlx_quantization(fields) is not None:
        return False
    stated = fields.section("quantization_config")
    if "quant_method" in stated:
        stated.choice("quant_method", ("fp8",))
    return True


def _settings(fields: Fields) -> MlxQuantization:
    default = _setting(fields, None)
    modules: dict[str, MlxSetting | None] = {}
    for key, value in fields.data.items():
        if isinstance(value, bool):
            modules[key] = default if value else None
        elif isinstance(value, dict):
            modules[key] = _setting(fields.section(key), default)
        elif "." in key:
            raise fields.wrong(key, "an object, true or false")
    return MlxQuantization(default, modules)


def _setting(fields: Fields, absent: MlxSetting | None) -> MlxSetting:
    """One setting; a number that it does not state is that of `absent`, if there is one."""
    mode = fields.choice("mode", MODES) if "mode" in fields else "affine"
    if absent is None:
        return MlxSetting(mode, fields.integer("bits"), fields.integer("group_size"))
    return MlxSetting(
        mode,
        fields.integer("bits") if "bits" in fields else absent.bits,
        fields.integer("group_size") if "group_size" in fields else absent.group_size,
    )
