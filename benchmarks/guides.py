"""What holding texts to a schema costs a rank, besides the model: time and memory.

    python -m benchmarks.guides DIR [VOCABULARY]

DIR has a tokenizer.json; VOCABULARY is the rows of the model's head. Prints one line of JSON: what
reading the tokenizer takes, compiling a schema, and the question which tokens may come next, asked
along random texts that are held to the schema. Times are of the CPU.
"""

import json
import random
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from dsv4_tp.guides import Guide, Vocabulary

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 60},
        "code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 5},
        "note": {"anyOf": [{"type": "null"}, {"type": "string"}]},
    },
    "required": ["name", "code", "age", "tags", "note"],
    "additionalProperties": False,
}
TEXTS, MOST_TOKENS = 30, 100
END = 0


def main(model_dir: Path, size: int) -> dict[str, object]:
    """The figures."""
    process = psutil.Process()
    before, began_s = process.memory_info().rss, time.process_time()
    vocabulary = Vocabulary.load(model_dir, size)
    load_s = time.process_time() - began_s
    held = process.memory_info().rss - before
    compiles: list[float] = []
    masks: list[float] = []
    for seed in range(TEXTS):
        began_s = time.process_time()
        guide = Guide(vocabulary, json.dumps(SCHEMA), [END])
        compiles.append(time.process_time() - began_s)
        masks += walk(guide, random.Random(seed))
    return {
        "load_s": round(load_s, 2),
        "held_mb": round(held / 1e6),
        "compile_ms": round(statistics.median(compiles) * 1e3, 2),
        "mask_us": {
            name: round(statistics.quantiles(masks, n=100)[at - 1] * 1e6)
            for name, at in (("median", 50), ("p99", 99))
        },
        "masks": len(masks),
    }


def walk(guide: Guide, rng: random.Random) -> list[float]:
    """The seconds that each question took along one text of anything that is allowed."""
    took: list[float] = []
    taken: tuple[int, ...] = ()
    while len(taken) < MOST_TOKENS and taken[-1:] != (END,):
        began_s = time.process_time()
        allowed = guide.allowed(taken)
        took.append(time.process_time() - began_s)
        assert allowed is not None
        bits = np.unpackbits(np.frombuffer(allowed, np.uint8), bitorder="little")
        taken += (int(rng.choice(np.flatnonzero(bits))),)
    return took


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 129_280)))
