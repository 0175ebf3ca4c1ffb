"""Kernels of Metal on a CPU: their bodies, compiled as C++, are run thread by thread.

Proves their arithmetic and their indices, and nothing about their speed. An index beyond an array
that they are given is counted and fails the call; of arrays of their own none is checked. Threads
that share a sum are run again once it is known, and threads of a group up to their barrier, then
again as far as the next one. All meet it or none, or the call fails; what is read on the wrong side
of a barrier may pass.
"""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np

COMPILER = shutil.which("c++")
_TIMEOUT_S = 120
_TYPES = {mx.float32: "float", mx.bfloat16: "bfloat16_t", mx.int32: "int", mx.uint32: "uint"}
_HEADER = """
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>
using std::exp, std::max, std::min, std::sqrt;
typedef unsigned uint;
struct uint3 { uint x, y, z; };
struct bfloat16_t {
    uint16_t bits;
    bfloat16_t() = default;
    explicit bfloat16_t(float value) {
        uint32_t word;
        std::memcpy(&word, &value, 4);
        bits = (word + 0x7FFF + ((word >> 16) & 1)) >> 16;
    }
    explicit operator float() const {
        const uint32_t word = uint32_t(bits) << 16;
        float value;
        std::memcpy(&value, &word, 4);
        return value;
    }
};
static long beyond = 0;
#define threadgroup static
struct Waits {};
enum mem_flags { mem_none, mem_threadgroup };
static size_t open, met;  // barriers that all threads of a group have met, and that this one has
[[maybe_unused]] static void threadgroup_barrier(mem_flags) {
    if (met++ == open) throw Waits();
}
static std::vector<float> sums;  // of 32 threads, so far as they are known
static size_t known, asked;
[[maybe_unused]] static float simd_sum(float value) {
    const size_t which = asked++;
    if (which < known) return sums[which];
    if (sums.size() <= which) sums.push_back(0);
    if (which == known) sums[which] += value;
    return 0;
}
template <typename T> struct Cells {
    T* data;
    long count;
    T& operator[](long at) const {
        static T nowhere;
        if (0 <= at && at < count) return data[at];
        ++beyond;
        return nowhere;
    }
};
"""


class OnCpu:
    """Stands in for `mx.fast.metal_kernel`; a folder to build in comes before its arguments."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        input_names: Sequence[str],
        output_names: Sequence[str],
        source: str,
    ) -> None:
        self.folder, self.name, self.source = folder, name, source
        self.inputs, self.outputs = input_names, output_names
        self._built: dict[str, ctypes.CDLL] = {}

    def __call__(
        self,
        *,
        inputs: Sequence[mx.array],
        template: Sequence[tuple[str, object]],
        grid: tuple[int, int, int],
        threadgroup: tuple[int, int, int],
        output_shapes: Sequence[tuple[int, ...]],
        output_dtypes: Sequence[mx.Dtype],
    ) -> list[mx.array]:
        """Runs it at once."""
        assert (grid[2], *threadgroup[1:]) == (1, 1, 1), "groups of one dimension only"
        assert threadgroup[0] > 0
        library = self._library(inputs, template, output_dtypes)
        given = [_to_numpy(array) for array in inputs]
        made = [
            np.full(shape, 0xFF, np.uint16) if dtype == mx.bfloat16 else np.full(shape, np.nan, "f")
            for shape, dtype in zip(output_shapes, output_dtypes, strict=True)
        ]
        shapes = [np.array(array.shape, np.int32) for array in given]
        pointers = [array.ctypes.data for array in (*given, *made, *shapes)]
        counts = [array.size for array in (*given, *made)]
        beyond = library.run(
            (ctypes.c_void_p * len(pointers))(*pointers),
            (ctypes.c_long * len(counts))(*counts),
            *(ctypes.c_uint(size) for size in (*grid[:2], threadgroup[0])),
        )
        assert beyond >= 0, f"{self.name}: a barrier that some threads of a group never meet"
        assert beyond == 0, f"{self.name}: {beyond} indices beyond their arrays"
        return [_to_mlx(array, dtype) for array, dtype in zip(made, output_dtypes, strict=True)]

    def _library(
        self,
        inputs: Sequence[mx.array],
        template: Sequence[tuple[str, object]],
        dtypes: Sequence[mx.Dtype],
    ) -> ctypes.CDLL:
        code = _code(self, inputs, template, dtypes)
        if code not in self._built:
            self._built[code] = _built(code, Path(tempfile.mkdtemp(dir=self.folder)))
        return self._built[code]


def _code(
    kernel: OnCpu,
    inputs: Sequence[mx.array],
    template: Sequence[tuple[str, object]],
    dtypes: Sequence[mx.Dtype],
) -> str:
    arrays = [
        *(
            (name, _TYPES[it.dtype], it.ndim)
            for name, it in zip(kernel.inputs, inputs, strict=True)
        ),
        *((name, _TYPES[it], 1) for name, it in zip(kernel.outputs, dtypes, strict=True)),
    ]
    names = [
        f"using {name} = {_TYPES[value]};"
        if isinstance(value, mx.Dtype)
        else f"constexpr int {name} = {value};"
        for name, value in template
    ]
    takes, gives = ["uint3 thread_position_in_grid"], ["uint3{x, y, 0}"]
    for at, (name, kind, ndim) in enumerate(arrays):
        # As MLX does it: what has no dimension is a reference.
        takes.append(f"Cells<{kind}> {name}" if ndim else f"const {kind}& {name}")
        cells = f"Cells<{kind}>{{({kind}*)arrays[{at}], counts[{at}]}}"
        gives.append(cells if ndim else f"*({kind}*)arrays[{at}]")
    for at, name in enumerate(kernel.inputs):
        takes.append(f"[[maybe_unused]] const int* {name}_shape")
        gives.append(f"(const int*)arrays[{len(arrays) + at}]")
    return f"""{_HEADER}
{chr(10).join(names)}
static void body({", ".join(takes)}) {{
{kernel.source}
}}
extern "C" long run(void** arrays, const long* counts, uint width, uint height, uint size) {{
    long found = 0;
    for (uint y = 0; y < height; ++y)
        for (uint start = 0; start < width; start += size) {{
            const uint stop = min(start + size, width);
            uint waits = size;
            for (open = 0; waits > 0; ++open) {{
                waits = 0;
                long missed = 0;
                for (uint first = start; first < stop; first += 32) {{
                    sums.clear();
                    for (known = 0;; ++known) {{
                        beyond = 0;
                        uint here = 0;
                        for (uint x = first; x < min(first + 32, stop); ++x) {{
                            asked = met = 0;
                            try {{
                                body({", ".join(gives)});
                            }} catch (const Waits&) {{
                                ++here;
                            }}
                        }}
                        if (known != sums.size()) continue;
                        waits += here;
                        break;
                    }}
                    missed += beyond;
                }}
                if (waits == 0) found += missed;
                else if (waits != stop - start) return -1;
            }}
        }}
    return found;
}}
"""


def _built(code: str, folder: Path) -> ctypes.CDLL:
    assert COMPILER is not None
    (folder / "kernel.cpp").write_text(code, encoding="utf-8")
    strict = ["-Wall", "-Wextra", "-Werror", "-Wno-sign-compare"]
    subprocess.run(
        [COMPILER, "-std=c++17", "-O1", *strict, "-shared", "-fPIC", "kernel.cpp", "-o", "it.so"],
        cwd=folder,
        check=True,
        timeout=_TIMEOUT_S,
    )
    library = ctypes.CDLL(str(folder / "it.so"))
    library.run.restype = ctypes.c_long
    return library


def _to_numpy(array: mx.array) -> np.ndarray:
    plain = array.view(mx.uint16) if array.dtype == mx.bfloat16 else array
    return np.ascontiguousarray(np.array(plain))


def _to_mlx(array: np.ndarray, dtype: mx.Dtype) -> mx.array:
    return mx.array(array).view(dtype)
