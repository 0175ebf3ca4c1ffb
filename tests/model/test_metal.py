"""The kernels of Metal do what MLX's own operations do. Their bodies run on the CPU here."""

from functools import partial
from pathlib import Path

import mlx.core as mx
import pytest

from dsv4_tp.core import Kernels
from dsv4_tp.errors import PreflightError
from dsv4_tp.model.metal import MetalMixing, MetalTurning, routines_by
from dsv4_tp.model.metal import kernel as module
from dsv4_tp.model.mixing import Mix, Norm, PlainMixing
from dsv4_tp.model.rope import Rope
from tests.model.golden import distance, load_case, run
from tests.model.metal_on_cpu import COMPILER, OnCpu
from tests.model.tiny import tiny_spec

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler (c++) to run kernels by")

SPEC = tiny_spec()
# How far what is rounded once may be from what is rounded once, elsewhere.
ROUNDING = {mx.float32: 1e-5, mx.bfloat16: 2**-7}


@pytest.fixture(autouse=True)
def on_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mx.fast, "metal_kernel", partial(OnCpu, tmp_path))


def some(*shape: int, seed: int) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(seed))


def plant(monkeypatch: pytest.MonkeyPatch, kernel: str, right: str, wrong: str) -> None:
    """Another text in a kernel's body."""
    read = module.body
    assert right in read(kernel)
    broken = read(kernel).replace(right, wrong)
    monkeypatch.setattr(module, "body", lambda name: broken if name == kernel else read(name))


Given = tuple[mx.array, mx.array, mx.array, mx.array, Norm]


def arguments(batch: int, length: int, dtype: mx.Dtype) -> Given:
    """Of collapse, with channels that fill a group of threads once, and not twice."""
    n, width = SPEC.hc_mult, 300
    streams = some(batch, length, n, width, seed=1).astype(dtype)
    count = (2 + n) * n
    scores, scale, base = (
        2 * some(batch, length, count, seed=2),
        some(3, seed=3),
        some(count, seed=4),
    )
    return streams, scores, scale, base, Norm((1 + some(width, seed=5)).astype(dtype), 1e-2)


def apart(one: mx.array, other: mx.array) -> float:
    assert (one.shape, one.dtype) == (other.shape, other.dtype)
    one, other = one.astype(mx.float32), other.astype(mx.float32)
    return (mx.abs(one - other) / (1 + mx.abs(other))).max().item()


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize(("batch", "length"), [(1, 1), (2, 3)])
def test_streams_and_sublayers_meet_alike(batch: int, length: int, dtype: mx.Dtype) -> None:
    plain, metal = PlainMixing.of(SPEC), MetalMixing(SPEC)
    given = arguments(batch, length, dtype)
    (x, mix), (own, own_mix) = plain.collapse(*given), metal.collapse(*given)
    assert apart(own, x) <= ROUNDING[dtype]
    assert max(apart(own_mix.post, mix.post), apart(own_mix.comb, mix.comb)) <= ROUNDING[mx.float32]
    out, own_out = (way.write_back(x, given[0], mix) for way in (plain, metal))
    assert apart(own_out, out) <= ROUNDING[dtype]


# Rows of keys and of heads, of sequences that stand alike and that don't.
ROWS = [((1, 1, 96), (5,)), ((2, 3, 96), (5, 5)), ((2, 3, 4, 96), (7, 900)), ((1, 1, 4, 96), (0,))]


def ropes() -> tuple[Rope, Rope]:
    spec = tiny_spec(head_dim=96)
    return tuple(Rope(spec, compressed=True, turning=it) for it in (None, MetalTurning()))


def normed(rope: Rope, x: mx.array, weight: mx.array | None, starts: tuple[int, ...]) -> mx.array:
    turns = rope.turns(x.shape[1], starts, heads=x.ndim == 4)
    return rope.turning.normed(x, weight, 1e-6, turns)


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize(("shape", "starts"), ROWS, ids=str)
def test_rows_turn_alike(shape: tuple[int, ...], starts: tuple[int, ...], dtype: mx.Dtype) -> None:
    plain, metal = ropes()
    x, weight = some(*shape, seed=1).astype(dtype), (1 + some(96, seed=2)).astype(dtype)
    for inverse in (False, True):
        turned = plain(x, starts, inverse=inverse)
        assert apart(metal(x, starts, inverse=inverse), turned) <= ROUNDING[dtype]
    for by in (weight, None):
        # It is rounded twice before it is turned.
        own, other = (normed(rope, x, by, starts) for rope in (metal, plain))
        assert apart(own, other) <= 2 * ROUNDING[dtype]


def test_a_model_of_kernels_gives_the_reference_logits() -> None:
    case = load_case("public/a2_clamp_batch")
    spec = case.model.spec
    mixing, turning = MetalMixing(spec), MetalTurning()
    for layer in case.model.layers:
        layer.hc_attn.mixing = layer.hc_ffn.mixing = mixing
        layer.attn.rope = Rope(spec, compressed=layer.attn.ratio > 0, turning=turning)
    logits = run(case.model, case.ids[:, :40], [39, 1])
    assert distance(logits, case.arrays["logits"][:, :40]) <= 1e-4


@pytest.mark.parametrize(
    ("kernel", "right", "wrong"),
    [
        ("write_back", "comb[(m * N + j) * N + k]", "comb[(m * N + k) * N + j]"),
        ("collapse", "step < ITERS", "step < 1"),
        ("collapse", "float column = eps;", "float column = 0.01;"),
        ("collapse", "scale[1]", "scale[2]"),
        ("collapse", "sum / W + norm_eps", "sum / W + 0 * norm_eps"),
        ("collapse", "sum += parts[part]", "sum = parts[part]"),
        ("collapse", "squares = simd_sum(squares);", ""),
        ("collapse", "float(weight[d])", "(0 * float(weight[d]) + 1)"),
        ("collapse", "threadgroup_barrier(mem_flags::mem_threadgroup);", ""),
    ],
)
def test_a_mistake_in_a_mixing_shows(
    kernel: str, right: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, kernel, right, wrong)
    plain, metal = PlainMixing.of(SPEC), MetalMixing(SPEC)
    given = arguments(2, 3, mx.float32)
    x, mix = plain.collapse(*given)
    own, own_mix = metal.collapse(*given)
    outs = [way.write_back(x, given[0], Mix(*mix)) for way in (plain, metal)]
    errors = [apart(own, x), apart(own_mix.post, mix.post), apart(own_mix.comb, mix.comb)]
    assert max(*errors, apart(*outs)) > 1e-3


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("a * table[at] - b", "a * table[at] + b"),
        ("row / HEADS % (", "row % ("),
        ("simd_sum(sum) / W", "simd_sum(sum) / (W - 1)"),
        ("simd_sum(sum)", "sum"),
        ("d = W - R + 2 * lane", "d = W - R + 2 * (lane + 1)"),
        ("float(T(float(own) * factor)) * float(weight[d])", "float(own) * factor"),
    ],
)
def test_a_mistake_in_a_turn_shows(right: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "turn", right, wrong)
    plain, metal = ropes()
    x, weight = some(2, 3, 4, 96, seed=1), 1 + some(96, seed=2)
    own, other = (normed(rope, x, weight, (7, 900)) for rope in (metal, plain))
    assert not apart(own, other) <= 1e-3


def test_an_index_beyond_an_array_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    body = "out[thread_position_in_grid.x + N * streams_shape[3]] = x[0];"
    body += "(void)streams, (void)post, (void)comb;"
    monkeypatch.setattr(module, "body", lambda _name: body)
    n, width = SPEC.hc_mult, 8
    mix = Mix(mx.zeros((1, 1, n)), mx.zeros((1, 1, n, n)))
    with pytest.raises(AssertionError, match="8 indices beyond"):
        MetalMixing(SPEC).write_back(mx.zeros((1, 1, width)), mx.zeros((1, 1, n, width)), mix)


def test_a_barrier_that_is_not_for_all_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    barrier = "threadgroup_barrier("
    plant(monkeypatch, "collapse", barrier, f"if (lane % 32 == 0) {barrier}")
    with pytest.raises(AssertionError, match="some threads of a group never meet"):
        MetalMixing(SPEC).collapse(*arguments(1, 1, mx.float32))


def test_kernels_are_taken_once_they_were_tried() -> None:
    mixing, turning = routines_by(Kernels.METAL, SPEC)
    assert isinstance(mixing, MetalMixing)
    assert isinstance(turning, MetalTurning)
    assert routines_by(Kernels.PLAIN, SPEC).mixing == PlainMixing.of(SPEC)


@pytest.mark.parametrize(
    ("kernel", "right", "wrong", "off"),
    [
        ("write_back", "T(sum)", "T(1.001 * sum)", r"\d\.\de-04"),
        ("write_back", "T(sum)", "T(sqrt(-1 - sum * sum))", "nan"),
        ("turn", "/ W + eps", "/ W * 1.01 + eps", r"\d\.\de-03"),
    ],
)
def test_kernels_that_give_other_numbers_are_refused(
    kernel: str, right: str, wrong: str, off: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, kernel, right, wrong)
    with pytest.raises(PreflightError, match=f"{off} off .*; use `kernels: plain`"):
        routines_by(Kernels.METAL, SPEC)


@pytest.mark.skipif(mx.metal.is_available(), reason="there is Metal here")
def test_kernels_are_refused_where_there_is_no_metal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(PreflightError, match=r"kernels: metal: .*; use `kernels: plain`"):
        routines_by(Kernels.METAL, SPEC)


@pytest.mark.metal
@pytest.mark.skipif(not mx.metal.is_available(), reason="needs Metal")
def test_the_kernels_of_this_mac_pass_their_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert isinstance(routines_by(Kernels.METAL, SPEC).mixing, MetalMixing)
