"""How kernels run, on disk: chosen once for the sizes, the dtype and the GPU of a call, not by every process.

A choice lies beside the modules, in the same cache and under the same care (`rnnc.ops.cache`), found again by
all that it depends on: the text of the kernels, this package, what is known of kernels on the GPU, Triton.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeVar, cast

from rnnc.codegen.hardware import Hardware
from rnnc.codegen.tiling_record import TooLarge
from rnnc.ops import cache, tuned

Chosen = TypeVar("Chosen")
HEADER = '''"""How kernels run, as it was chosen."""

from math import inf
from types import MappingProxyType as mappingproxy

from rnnc.codegen.resources import Configuration, Need
from rnnc.codegen.tiling_record import Choice, Measured, Tiling, TooLarge
from rnnc.codegen.times import Times
from rnnc.ops.triton_call import Tiled

'''


def kept(text: str, given: tuple[object, ...], hardware: Hardware, choose: Callable[[], Chosen]) -> Chosen:
    """What `choose` returns, of named tuples and numbers, or what it returned in another process.

    `text`: of the module of the kernels; `given`: what the choice is made for. Raises TooLarge where the
    choice did.
    """

    def produce() -> str:
        try:
            found: object = choose()
        except TooLarge as reason:
            found = TooLarge(*reason.args)
        return f"{HEADER}CHOSEN = {found!r}\n"

    known = tuned.digest(hardware), tuned.triton_version(), cache.digest("rnnc.ops", "rnnc.ops.tuned")
    parts = (hashlib.sha256(text.encode()).hexdigest(), repr(given), repr(hardware), *known)
    module, _ = cache.load("choice", "\n".join(parts), produce)
    if isinstance(module.CHOSEN, TooLarge):
        raise module.CHOSEN
    return cast(Chosen, module.CHOSEN)
