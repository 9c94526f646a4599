"""The choice of tiles: it keeps the limits of the hardware, is the same every time, follows what is known."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

import rnnc
from rnnc.codegen.compiler import compile_text
from rnnc.codegen.footprint import footprint
from rnnc.codegen.hardware import KNOWN, SM_80, SM_90, like
from rnnc.codegen.resources import Configuration, extents, need
from rnnc.codegen.tiling import CLOSE, SPACINGS, candidates, choose, limit, longest, ranked
from rnnc.codegen.tiling_record import Measured, TooLarge
from rnnc.codegen.triton_module import chunk_kernels
from rnnc.codegen.work import Access, Moment, Product, Work, flops, moved, written

FOLDER = Path(rnnc.__file__).parents[1] / "ops"
MODELS = ("linear_attention", "gated_delta_net", "kda")
SPEC = """
recurrence two[K, V]:
    input q[K], k[K], v[V], g[K]
    state S[K, V]
    S <- exp(-softplus(g)) * S + k @ v.T + unit(q) @ v.T
    output o[V]
    o <- S.T @ q
"""


@cache
def works(name: str) -> Mapping[str, Work]:
    text = SPEC if name == "two" else (FOLDER / f"{name}.rnn").read_text("utf-8")
    return {kernel.role: footprint(kernel) for group in chunk_kernels(compile_text(text)) for kernel in group}


@pytest.mark.parametrize("hardware", KNOWN.values(), ids=KNOWN)
@pytest.mark.parametrize("name", [*MODELS, "two"])
def test_limits_are_kept(name: str, hardware: object) -> None:
    """For heads from 16 to 512, odd ones too, in 16 and 32 bits."""
    assert hardware in KNOWN.values()
    found = like(getattr(hardware, "name"))  # noqa: B009
    for K, V, size in ((16, 512, 2), (100, 33, 4), (512, 64, 2), (512, 64, 4)):
        sizes = {"K": K, "V": V}
        try:
            tiling = choose(works(name), sizes, size, found)
        except TooLarge:  # keys of 512 float32 entries, half the shared memory of a large GPU
            assert (K, size) == (512, 4)
            assert found.shared_program < SM_80.shared_program
            continue
        for role, choice in tiling.kernels.items():
            how = choice.configuration
            work = works(name)[role]
            assert how.chunk == tiling.chunk
            assert how.tile == 0 or (how.tile >= 16 and how.tile & (how.tile - 1) == 0)
            assert (how.tile > 0) == bool(work.tiled)
            assert how.warps <= found.warps
            assert choice.need.shared <= found.shared_program
            assert choice.need == need(work, extents(work, sizes, how, size), how, found, size)
            if choice.fits:
                assert choice.need.registers <= limit(how, found) + 16 * (not work.serial)


def test_the_same_every_time() -> None:
    sizes = {"K": 128, "V": 128}
    first, again = (choose(works("kda"), sizes, 2, SM_90) for _ in range(2))
    assert first == again
    assert first.fits
    assert first.seconds <= choose(works("kda"), sizes, 2, SM_90, 16).seconds
    every = [choose(works("kda"), sizes, 2, SM_90, chunk) for chunk in (16, 32, 64)]
    fitting = [each for each in every if each.fits]
    alike = [each for each in fitting if each.seconds <= CLOSE * min(each.seconds for each in fitting)]
    assert first.memory == min(each.memory for each in alike)


def test_larger_heads_take_no_more_than_there_is() -> None:
    """Registers per thread stay where they are while heads grow: tiles and chunks shrink."""
    for K in (64, 128, 256):
        found = choose(works("linear_attention"), {"K": K, "V": K}, 2, SM_90)
        assert found.fits, K


@pytest.mark.parametrize("name", ["linear_attention", "retention", "gla", "gated_delta_net", "kda"])
def test_time_grows_with_the_state(name: str) -> None:
    """The estimated time for an entry of the state is within twice that of heads of 128; of heads of 64, for
    which twice the bytes move for it, within 2.5 times.
    """
    each = {
        K: choose(works(name), {"K": K, "V": K}, 2, SM_90).seconds / K**2
        for K in (64, 96, 128, 192, 256, 512)
    }
    for K, seconds in each.items():
        assert seconds <= (2.5 if K == 64 else 2) * each[128], K


def test_what_compilers_said_goes_before_the_estimate() -> None:
    sizes, work = {"K": 128, "V": 128}, works("gated_delta_net")
    first = choose(work, sizes, 2, SM_90, 32, spacing=1).kernels["scan"].configuration
    other = first._replace(warps=first.warps * 2)
    spills = {first: Measured(255, 64, 1000), other: Measured(168, 0, 1000)}
    chosen = choose(work, sizes, 2, SM_90, 32, {"scan": spills}, spacing=1).kernels["scan"]
    assert chosen.configuration == other
    assert chosen.measured == Measured(168, 0, 1000)
    assert chosen.need.registers == 168
    spills[other] = Measured(255, 640, 1000)
    least = choose(work, sizes, 2, SM_90, 32, {"scan": spills}, spacing=1).kernels["scan"]
    assert least.configuration == first
    assert not least.fits


def test_known_spills_shorten_chunks() -> None:
    sizes, work = {"K": 128, "V": 128}, works("linear_attention")
    free = choose(work, sizes, 2, SM_90, spacing=1)
    everywhere = {how: Measured(255, 512, 1000) for how in candidates(work["scan"], sizes, free.chunk)}
    assert choose(work, sizes, 2, SM_90, None, {"scan": everywhere}, spacing=1).chunk != free.chunk


def test_states_are_kept_for_fewer_chunks_where_that_costs_little() -> None:
    """Fewer bytes, more products; kernels that have nothing to do with states stay as they are."""
    sizes, work = {"K": 128, "V": 128}, works("gated_delta_net")
    each = [choose(work, sizes, 2, SM_90, 32, spacing=spacing) for spacing in SPACINGS]
    assert [tiling.spacing for tiling in each] == list(SPACINGS)
    memory = [tiling.memory for tiling in each]
    assert memory == sorted(memory, reverse=True)
    products = [tiling.kernels["grads"].times.products for tiling in each]
    assert products == sorted(products)
    assert len({tiling.kernels["pre"] for tiling in each}) == 1
    assert len({tiling.kernels["reverse"] for tiling in each}) == 1


def test_what_was_compiled_for_a_spacing_holds_for_larger_ones() -> None:
    sizes, work = {"K": 128, "V": 128}, works("gated_delta_net")
    how = Configuration(32, 16, 8, 1, 2)
    for spacing, known in ((1, False), (2, True), (4, True)):
        found = choose(work, sizes, 2, SM_90, 32, {"grads": {how: Measured(200, 0, 1000)}}, spacing=spacing)
        assert (found.kernels["grads"].measured is not None) == known
        assert found.kernels["grads"].configuration.spacing == spacing


def test_what_was_compiled_for_a_spacing_goes_before_what_stands_for_it() -> None:
    sizes, work = {"K": 128, "V": 128}, works("gated_delta_net")
    how, other = Configuration(32, 16, 8, 1, 2), Configuration(32, 32, 8, 1, 4)
    known = {how: Measured(200, 0, 1000), other: Measured(255, 160, 1000)}
    for spacing, expected in ((2, how), (4, other)):
        found = choose(work, sizes, 2, SM_90, 32, {"grads": known}, spacing=spacing)
        assert found.kernels["grads"].configuration == expected
        assert found.kernels["grads"].measured == known[expected]


def test_what_does_not_fit_is_said() -> None:
    small = SM_90._replace(name="small", shared_program=4096)
    with pytest.raises(TooLarge, match="chunks of 16 tokens do not fit the shared memory of small"):
        choose(works("kda"), {"K": 128, "V": 128}, 2, small)
    assert longest(works("kda"), {"K": 128, "V": 128}, 2, small) == 0
    assert longest(works("kda"), {"K": 128, "V": 128}, 2, SM_90) == 64


def test_candidates_are_ranked() -> None:
    sizes, work = {"K": 128, "V": 128}, works("kda")["scan"]
    found = ranked(work, sizes, 2, SM_90, 32, {})
    assert [choice.fits for choice in found] == sorted((choice.fits for choice in found), reverse=True)
    fitting = [choice.times.seconds for choice in found if choice.fits]
    assert fitting == sorted(fitting)
    assert {name for name, _ in found[0].dropped} == {"registers", "shared memory"}


def test_counts() -> None:
    """q [C, K] read once and again in a loop over two tiles of V, one product of C x K x V."""
    work = Work(
        False,
        "V",
        (Moment(((1, ("@C", "V")),), ((1, ("@C", "K")),), (), ()),),
        (Product(1, (("@C",), ("V",), ("K",)), True),),
        (Access(1, ("@C", "K"), False, False, False), Access(1, ("@C", "K"), False, True, True)),
        (),
        1,
        1,
    )
    tiles = extents(work, {"K": 30, "V": 60}, Configuration(16, 32, 4, 1), 2)
    assert flops(work, tiles) == 2 * 16 * 32 * 64
    assert moved(work, tiles, 2, again=False) == 16 * 32 * 2
    assert moved(work, tiles, 2, again=True) == 3 * 16 * 32 * 2
    names = {"Work": Work, "Moment": Moment, "Product": Product, "Access": Access}
    assert eval(written(work), names) == work


def test_known_architectures() -> None:
    assert like("sm_90") is SM_90
    assert like("sm_87").name == "sm_86"
    assert like("sm_75") is SM_80
    assert like("gfx942").shared_program == 64 * 1024
