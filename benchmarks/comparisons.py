"""The entries of `python -m benchmarks`: operators that have a peer, at common shapes and growing lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.candidates import NAIVE, OWN, candidates
from benchmarks.entries import SHAPES, Call, Entry
from rnnc.offline import HEAD_SIZES
from rnnc.peers import PEERS

# B, T, H, and the size of both axes: what a CPU does in a second or so.
CPU_SHAPES = ((1, 2048, 8, 128), (2, 1024, 4, 64))
TINY = ((1, 40, 2, 8),)
# Tokens in all, heads, size; lengths. On a CPU one sequence.
GROWTH = {"cuda": (131072, 16, 128), "cpu": (0, 4, 128), "tiny": (0, 2, 8)}
LENGTHS = {
    "cuda": tuple(1024 << n for n in range(8)),
    "cpu": (1024, 4096, 16384, 65536),
    "tiny": (32, 64),
}


def compared(device: str) -> list[str]:
    """The built-in models that have a peer on a kind of device."""
    return [name for name, peers in PEERS.items() if any(peer.device == device for peer in peers)]


def entries(models: Sequence[str], device: str, tiny: bool = False, naive: bool = False) -> list[Entry]:
    """What there is to time; the candidates of one shape one after the other."""
    found = []
    scale = "tiny" if tiny else device
    dtype = "bf16" if device == "cuda" else "fp32"
    shapes = {"tiny": TINY, "cpu": CPU_SHAPES, "cuda": SHAPES}[scale]
    for number, shape in enumerate(shapes):
        for model in models:
            who = [*candidates(model, device), *([NAIVE] if naive and not number else [])]
            found += [Entry("time", model, dtype, _call(model, shape), each) for each in who]
    for model in models:
        for call in growth(model, scale):
            who = candidates(model, device) if device == "cuda" else [OWN]
            found += [Entry("time", model, dtype, call, each) for each in who]
    return list(dict.fromkeys(found))


def growth(model: str, scale: str) -> Iterator[Call]:
    """The calls that differ in length alone, at as many tokens in all."""
    tokens, heads, size = GROWTH[scale]
    for length in LENGTHS[scale]:
        yield _call(model, (max(1, tokens // length), length, heads, size))


def is_growth(entry: Entry) -> bool:
    """Whether the entry is one of a series that differs in length alone."""
    return any(entry.call in growth(entry.model, scale) for scale in GROWTH)


def _call(model: str, shape: tuple[int, int, int, int]) -> Call:
    """The shape with heads of a size that the model is used with: more of them if they are smaller."""
    B, T, H, size = shape
    head = min(size, HEAD_SIZES.get(model, 256))
    return Call(B, T, H * size // head, (head, head))
