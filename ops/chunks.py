"""The chunk size of a call on a CPU: what costs least per token.

Longer chunks spread what is done once per chunk (the calls, a pass over the state), shorter ones form fewer
pairs of tokens; small matrix products are less efficient.
"""

from __future__ import annotations

SIZES = (16, 32, 64, 128)
# Nanoseconds on one core of a server of 2023, float32.
CALLS = 60_000.0  # what a chunk takes beyond its arithmetic
FLOP = 0.01  # in a large matrix product
SMALL = 5  # rows: a product of C rows reaches C / (C + SMALL) of that rate
BYTE = 0.04  # of a pass over an array in the caches
PAIR = 5.5  # of a pair of tokens: its decay, masks, the triangular inverse


def best_chunk(parallel: int, state: int, features: int) -> int:
    """For `parallel` sequences and heads, a state of `state` entries whose axes have `features` in sum."""
    return min(SIZES, key=lambda chunk: _time(chunk, parallel, state, features))


def _time(chunk: int, parallel: int, state: int, features: int) -> float:
    """Nanoseconds per token: three products with the state, four of pairs of tokens."""
    flops = 6 * chunk * state + 4 * chunk**2 * features
    each = flops * FLOP * (1 + SMALL / chunk) + state * 8 * BYTE + chunk**2 * PAIR
    return (CALLS + parallel * each) / chunk
