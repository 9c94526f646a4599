"""The forward pass cut in other ways than `pre | scan`: candidates for calls that keep nothing.

`whole`: one launch walks the chunks and forms by itself what `pre` would have left in memory. It pays where
chunks are short, and where launches cost more than the work. `apart`: the walk leaves the state at the start
of every chunk and no outputs; these a kernel forms of it, all chunks at once: the shortest chain.
`undivided`: where outputs are summed over the value axis, programs of the walk that have all of that axis
form them, instead of a kernel after it, while the state is in the cache. This one also writes what the
backward pass reads, so that every call may run so, where a program has registers enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from rnnc.codegen.hardware import Hardware
from rnnc.codegen.kernel_record import Kernel, UnsupportedOnGpu
from rnnc.codegen.kernels import apart, undivided, whole
from rnnc.codegen.resources import cover
from rnnc.codegen.stretches import LAUNCH
from rnnc.codegen.tiling import CHUNKS, best
from rnnc.codegen.tiling_record import Choice, Findings, TooLarge
from rnnc.codegen.times import LOADS, times
from rnnc.codegen.torch_module import Form
from rnnc.codegen.work import Work
from rnnc.dsl.normal import Normal

if TYPE_CHECKING:
    from rnnc.codegen.compiler import Compiled

DEFAULT = ""  # the cut that the backward pass goes with
GAIN = 0.9  # the part of the time that another cut must leave at most: it is an estimate
Works = Mapping[str, Mapping[str, Work]]  # by cut, then by kernel, in the order of launches


@dataclass(frozen=True, slots=True)
class Cut:
    """`kernels` after the first `shared` of the default cut; `reason`: why there are none; `keeps`: they
    write what the backward pass reads.
    """

    name: str
    shared: int
    kernels: tuple[Kernel, ...]
    reason: str = ""
    keeps: bool = False


def plan_cuts(form: Form, normal: Normal, forward: Sequence[Kernel], lean: bool = False) -> tuple[Cut, ...]:
    """The other cuts than `forward`, which is what there is besides; `lean`: see `plans`."""
    return tuple(_cuts(form, normal, forward, lean))


def _cuts(form: Form, normal: Normal, forward: Sequence[Kernel], lean: bool) -> Iterator[Cut]:
    if len(forward) > 1:
        try:
            yield Cut("whole", 0, (_named(whole(form, normal), "whole"),))
        except UnsupportedOnGpu as reason:
            yield Cut("whole", 0, (), str(reason))
    scan = next(number for number, kernel in enumerate(forward) if kernel.serial)
    if any(array.place == "token" for array in forward[scan].stores):
        walk, outputs = apart(form, normal, lean)
        yield Cut("apart", scan, (_named(walk, "walk"), _named(outputs, "outputs")))
    yield from keeping_cuts(form, normal, forward, lean)


def keeping_cuts(
    form: Form, normal: Normal, forward: Sequence[Kernel], lean: bool = False
) -> tuple[Cut, ...]:
    """Those that write what the backward pass reads."""
    found = undivided(form, normal, lean) if len(forward) > 2 else None
    if found is None:
        return ()
    scan = next(number for number, kernel in enumerate(forward) if kernel.serial)
    return (Cut("undivided", scan, (_named(found, "undivided"),), keeps=True),)


def keeping(compiled: Compiled) -> tuple[Cut, ...]:
    """Those of a recurrence that write what the backward pass reads."""
    forward, _, lean = compiled.kernels
    form = next(form for form in compiled.forms if form.name == "chunked")
    return keeping_cuts(form, compiled.normal, forward, lean)


def _named(kernel: Kernel, name: str) -> Kernel:
    after = kernel.after and _named(kernel.after, "after")
    return replace(kernel, name=f"{kernel.name.removesuffix(kernel.role)}{name}", after=after)


class Forward(NamedTuple):
    """A forward pass by itself: its cut, tokens of a chunk, the choices of its kernels by name, and the
    seconds of a call, launches and all.
    """

    cut: str
    chunk: int
    kernels: Mapping[str, Choice]
    seconds: float

    @property
    def fits(self) -> bool:
        return all(choice.fits for choice in self.kernels.values())

    @property
    def compiled(self) -> bool:
        """Whether compilers have seen all of it."""
        return all(choice.measured for choice in self.kernels.values())


def passes(
    works: Works,
    sizes: Mapping[str, int],
    size: int,
    hardware: Hardware,
    length: int,
    chunk: int | None = None,
    findings: Mapping[str, Findings] | None = None,
) -> list[Forward]:
    """The cuts for every length of a chunk, or one, by their time for sequences of that length: those that
    fit first.
    """
    known = findings or {}
    heads = LOADS[0][0]
    longest = cover(length)
    found = []
    for cut, kernels in works.items():
        for tokens in (chunk,) if chunk else CHUNKS:
            if tokens > longest and tokens != chunk:
                continue
            try:
                each = {
                    name: best(work, sizes, size, hardware, tokens, known.get(name, {}))
                    for name, work in kernels.items()
                }
            except TooLarge:
                continue
            spent = (
                times(kernels[name], sizes, one.configuration, one.need, hardware, size, (heads, length))
                for name, one in each.items()
            )
            seconds = sum(one.seconds for one in spent) * heads * length + len(each) * LAUNCH
            found.append(Forward(cut, tokens, each, seconds))
    return sorted(found, key=lambda one: (not one.fits, one.seconds))


def chosen(found: Sequence[Forward], chunk: int, unseen: bool = False) -> Forward | None:
    """The pass that goes before the default cut for chunks of that many tokens; None: nothing does.

    Where compilers have seen any of the kernels, only what they have seen goes before it, or with `unseen`
    what would if it fits.
    """
    usual = next((one for one in found if one.cut == DEFAULT and one.chunk == chunk), None)
    if usual is None:
        return None
    anything = unseen or not any(choice.measured for one in found for choice in one.kernels.values())
    others = [one for one in found if one.cut != DEFAULT and one.fits and (one.compiled or anything)]
    return others[0] if others and others[0].seconds <= GAIN * usual.seconds else None
