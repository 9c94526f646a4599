"""What there is to do: one entry per kernel to compile, comparison to make, time to take.

An entry is plain data, so that it can be sent to another process and be found again in the results.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rnnc.dsl.recurrence import Recurrence
from rnnc.offline import HEAD_SIZES, MICRO_STEPS

DTYPES = ("bf16", "fp16", "fp32")
# The shapes that the field is measured at: B, T, H, and the size of both axes.
SHAPES = (
    (1, 8192, 96, 128),
    (2, 16384, 16, 128),
    (4, 2048, 16, 128),
    (4, 4096, 64, 128),
    (8, 2048, 32, 256),
    (8, 1024, 8, 64),
)
OTHER_SIZES = (64, 96, 128, 256)  # of heads
PEER = "fla-core"
LARGE = ("linear_attention", "gated_delta_net")  # with more than 2^31 elements in each array
# Before the other built-in models.
FIRST = "delta_net gated_delta_net gla kda linear_attention mamba2 retention rwkv7".split()


@dataclass(frozen=True)
class Call:
    """The shape of one call. `sizes` are those of the key and the value axis; `lengths`: packed sequences."""

    B: int
    T: int
    H: int
    sizes: tuple[int, int]
    G: int = 0  # groups, where the spec has them; 0: as many as heads
    lengths: tuple[int, ...] = ()
    states: bool = False
    reverse: bool = False
    chunk: int | None = None
    form: str = "chunked"

    def axes(self, recurrence: Recurrence) -> dict[str, int]:
        """The sizes by axis, few micro-steps; of the others, those beyond the first two are as the last."""
        steps = dict.fromkeys(recurrence.loops, MICRO_STEPS)
        names = [axis for axis in recurrence.axes if axis not in steps]
        sizes = (*self.sizes, *[self.sizes[-1]] * len(names))
        return dict(zip(names, sizes, strict=False)) | steps

    def __str__(self) -> str:
        shape = f"{self.B} x {self.T} x {self.H} x {'/'.join(map(str, dict.fromkeys(self.sizes)))}"
        flags = " packed" * bool(self.lengths) + " states" * self.states + " reverse" * self.reverse
        flags += f" {self.form}" * (self.form != "chunked")
        return shape + flags + (f" chunks of {self.chunk}" if self.chunk else "")


@dataclass(frozen=True)
class Entry:
    """One thing to do. `kind`: compile, error, graph, time, a check (`benchmarks.gpu.checks`), a measurement
    (`benchmarks.gpu.measures`); `who`: rnnc, the peer, or the tool that checks; `kernel`: its number.
    """

    kind: str
    model: str
    dtype: str
    call: Call
    who: str = "rnnc"
    kernel: int = -1

    @property
    def key(self) -> str:
        """What the entry is found by."""
        return json.dumps(self.as_dict(), sort_keys=True)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def of(data: dict[str, Any]) -> Entry:
        """The entry that was written as plain data."""
        call = data["call"]
        tuples = {name: tuple(call[name]) for name in ("sizes", "lengths")}
        return Entry(**{**data, "call": Call(**{**call, **tuples})})

    def __str__(self) -> str:
        number = f" kernel {self.kernel}" if self.kernel >= 0 else ""
        return f"{self.kind} {self.model} {self.dtype} {self.call} {self.who}{number}"


def shapes(dry: bool, most: int) -> Iterator[Call]:
    """The calls that are timed, with heads of at most that size."""
    for B, T, H, size in SHAPES:
        head = min(size, most)
        yield (
            Call(1, 20, 1, (head // 16,) * 2, chunk=16) if dry else Call(B, T, H * size // head, (head,) * 2)
        )


def cases(dry: bool, dtype: str, size: int) -> Iterator[Call]:
    """The calls that are compared with the reference: ragged, packed, odd; and other sizes of a chunk."""
    if dry:
        yield Call(1, 21, 2, (5, 6), G=1, states=True, chunk=16)
        if dtype == "fp32":
            yield Call(1, 26, 1, (5, 3), lengths=(0, 17, 1, 0, 8), states=True, chunk=16)
            yield Call(1, 21, 2, (5, 6), G=1, states=True, form="recurrent")
        return
    lengths = (0, 300, 1, 0, 63, 64, 65, 500, 0)
    yield Call(2, 1000, 4, (size, size), G=2, states=True)
    if dtype != "fp16":
        yield Call(1, sum(lengths), 2, (size, size), lengths=lengths, states=True)
    if dtype == "bf16":
        yield Call(1, 130, 3, (72, 40), reverse=True)
        yield from (Call(2, 200, 2, (other, other), states=True) for other in OTHER_SIZES if other != size)
        yield Call(1, 65536, 1, (size, size))
        yield from (Call(2, 200, 2, (size, size), states=True, chunk=chunk) for chunk in (16, 32, 64))
        yield Call(1, sum(lengths), 2, (size, size), lengths=lengths, states=True, form="recurrent")
    if dtype == "fp32":
        yield Call(2, 200, 4, (size, size), G=2, states=True, form="recurrent")


def of_models(models: Sequence[str], dry: bool) -> tuple[list[Entry], list[Entry]]:
    """Comparisons and times of all models, what matters most first."""
    errors, times = [], []
    for dtype in DTYPES:
        for model in models:
            found = [
                Entry("error", model, dtype, call) for call in cases(dry, dtype, HEAD_SIZES.get(model, 128))
            ]
            errors += found
            if dtype == "bf16" and found:
                errors.append(replace(found[0], kind="graph"))
    for number in range(len(SHAPES)):
        for who in ("rnnc", PEER):
            for model in models:
                call = list(shapes(dry, HEAD_SIZES.get(model, 256)))[number]
                times.append(Entry("time", model, "fp16" if dry else "bf16", call, who))
    return sorted(errors, key=rank), sorted(dict.fromkeys(times), key=rank)


def checks(models: Sequence[str], roles: Sequence[str], dry: bool) -> list[Entry]:
    """Calls in compiled graphs and under autocast, with more than 2^31 elements, under compute-sanitizer (for
    the models `roles`, whose kernels have all roles), in training.
    """
    dtype, small = ("fp16", Call(1, 20, 1, (8, 8))) if dry else ("bf16", Call(2, 200, 2, (64, 64)))
    big = Call(2, 20, 3, (8, 8)) if dry else Call(17, 8192, 128, (128, 128))
    first = [model for model in models if model in FIRST]
    found = [Entry("traced", model, dtype, small) for model in first]
    found += [Entry("large", model, dtype, big) for model in first if model in LARGE]
    packed = Call(1, 200, 2, (64, 64), lengths=(70, 0, 130), states=True)
    for tool in ("memcheck", "racecheck"):
        found += [Entry("sanitizer", model, dtype, packed, tool) for model in roles]
    return [*found, Entry("demo", "two_read_delta", "fp32", small)]


def measures(models: Sequence[str], dry: bool) -> list[Entry]:
    """The card's ceilings, one step of the walk over chunks, four and eight warps."""
    dtype, call = ("fp16", Call(1, 20, 1, (8, 8))) if dry else ("bf16", Call(1, 8192, 1, (128, 128)))
    first = [model for model in models if model in FIRST]
    found = [Entry("ceilings", "", dtype, call)]
    return found + [Entry(kind, model, dtype, call) for kind in ("step", "warps") for model in first]


def rank(entry: Entry) -> tuple[bool, int]:
    """By this, entries and the kernels that they need are done: some time may not be left for the last."""
    call = entry.call
    plainly = not (call.lengths or call.reverse or call.chunk or call.form != "chunked")
    if entry.who == PEER:
        tier = 6
    elif entry.kind == "time":
        tier = 1
    elif plainly:
        tier = {"bf16": 0, "fp32": 2, "fp16": 3}[entry.dtype]
    else:
        tier = 4 if call.lengths else 5
    return entry.model not in FIRST, tier


def warm_ups(times: Sequence[Entry]) -> list[Entry]:
    """Short calls that compile the peer's kernels, all that its tuning will try, before it is timed.

    Those at the first shape: what is chosen there holds for the others.
    """
    first = {e.model: e for e in reversed(times) if e.who == PEER and e.model in FIRST}
    return [replace(e, kind="compile", call=replace(e.call, T=min(e.call.T, 512))) for e in first.values()]
