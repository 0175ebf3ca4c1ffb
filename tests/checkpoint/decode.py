"""DeepSeek's formats and MLX's decoded with tables and numpy, to check against."""

from pathlib import Path

import numpy as np

from tests.storage_files import read_file

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def _e4m3(code: int) -> float:
    sign, exponent, fraction = code >> 7, code >> 3 & 15, code & 7
    size = fraction / 8 * 2**-6 if exponent == 0 else (1 + fraction / 8) * 2.0 ** (exponent - 7)
    return -size if sign else size


E4M3 = np.array([_e4m3(code) for code in range(256)], np.float32)


def e8m0(codes: np.ndarray) -> np.ndarray:
    return np.exp2(codes.astype(np.float64) - 127).astype(np.float32)


def fp8(weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """[..., R, C] codes with a scale for each 128 x 128 block."""
    *_, rows, columns = weight.shape
    spread = np.repeat(np.repeat(scale, 128, axis=-2), 128, axis=-1)[..., :rows, :columns]
    return E4M3[weight] * spread


def fp4(weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """[..., R, C / 2] bytes, the low half first, with a scale for each 32 values of a row."""
    values = np.stack([E2M1[weight & 15], E2M1[weight >> 4]], axis=-1)
    return values.reshape(*weight.shape[:-1], -1) * np.repeat(scale, 32, axis=-1)


def mlx_mxfp8(words: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Codes by the byte, with a scale for each 32 values of a row."""
    return E4M3[words.view(np.uint8)] * np.repeat(e8m0(scales), 32, axis=-1)


def mlx_mxfp4(words: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The same bytes as DeepSeek's."""
    return fp4(words.view(np.uint8), e8m0(scales))


def mlx_affine(words: np.ndarray, scales: np.ndarray, biases: np.ndarray, bits: int) -> np.ndarray:
    """A row is a stream of codes of so many bits, the lowest first: code * scale + bias."""
    stream = np.unpackbits(words.view(np.uint8), axis=-1, bitorder="little")
    codes = np.packbits(stream.reshape(*words.shape[:-1], -1, bits), axis=-1, bitorder="little")
    group = codes.shape[-2] // scales.shape[-1]
    scales, biases = (np.repeat(each, group, axis=-1) for each in (scales, biases))
    return codes[..., 0].astype(np.float32) * scales + biases


def decoded(model_dir: Path) -> dict[str, np.ndarray]:
    """All tensors of a checkpoint by their released names, decoded; scales are not listed."""
    stored = {}
    for file in sorted(model_dir.glob("model*.safetensors")):
        stored |= read_file(file)
    raw = {name: _array(s.dtype, s.shape, s.data) for name, s in stored.items()}
    values = {}
    for name, array in raw.items():
        scale = raw.get(name.removesuffix(".weight") + ".scale")
        if name.endswith(".scale"):
            continue
        if stored[name].dtype == "I8":
            array = fp4(array, scale)
        elif stored[name].dtype == "F8_E4M3":
            array = fp8(array, scale)
        values[name] = array
    return values


def bf16(bits: np.ndarray) -> np.ndarray:
    """[...] uint16."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _array(dtype: str, shape: list[int], data: bytes) -> np.ndarray:
    if dtype == "BF16":
        return bf16(np.frombuffer(data, "<u2")).reshape(shape)
    if dtype == "F8_E8M0":
        return e8m0(np.frombuffer(data, np.uint8)).reshape(shape)
    kinds = {"F32": "<f4", "I64": "<i8", "I8": np.uint8, "F8_E4M3": np.uint8}
    return np.frombuffer(data, kinds[dtype]).reshape(shape)
