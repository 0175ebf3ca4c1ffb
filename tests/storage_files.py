"""Reading and writing safetensors files for tests, with the standard library alone."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"
PLAIN = GOLDEN / "public" / "a1_flash_mini"  # float32, one file
NATIVE = GOLDEN / "native"  # FP8, FP4, MTP, one file
FP4 = GOLDEN / "layouts" / "a_official_fp8_fp4"  # FP8, FP4, MTP, two files and an index
BASE = GOLDEN / "layouts" / "a_base_fp8"  # FP8 experts, float32 scales
CONVERSIONS = sorted((GOLDEN / "layouts").glob("[b-e]*"))  # by MLX, in two files and an index
RAGGED = GOLDEN / "layouts" / "a_official_ragged_blocks"  # blocks that are not full


@dataclass(slots=True)
class Stored:
    """One tensor as it lies in a file."""

    dtype: str
    shape: list[int]
    data: bytes = field(repr=False)


def read_file(path: Path) -> dict[str, Stored]:
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    header.pop("__metadata__", None)
    return {
        name: Stored(
            fields["dtype"],
            fields["shape"],
            raw[start + fields["data_offsets"][0] : start + fields["data_offsets"][1]],
        )
        for name, fields in header.items()
    }


def write_file(path: Path, tensors: dict[str, Stored]) -> None:
    header, begin = {}, 0
    for name, stored in tensors.items():
        end = begin + len(stored.data)
        header[name] = {"dtype": stored.dtype, "shape": stored.shape, "data_offsets": [begin, end]}
        begin = end
    write_raw(path, json.dumps(header), b"".join(stored.data for stored in tensors.values()))


def write_raw(path: Path, header: str, data: bytes) -> None:
    text = header.encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def copy_model(source: Path, to: Path) -> Path:
    """config.json and the weights, to be damaged."""
    to.mkdir(exist_ok=True)
    for file in [source / "config.json", *source.glob("model*")]:
        shutil.copyfile(file, to / file.name)
    return to


def change_config(model_dir: Path, **values: object) -> None:
    file = model_dir / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
