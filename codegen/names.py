"""Names in emitted text: the user's are kept, and get a trailing underscore where they would hide another."""

from __future__ import annotations

import keyword
from collections.abc import Iterable


class Names:
    """The names taken in one scope of emitted Python.

    >>> names = Names(["torch"])
    >>> names.fresh("q"), names.fresh("torch"), names.fresh("q")
    ('q', 'torch_', 'q_2')
    """

    def __init__(self, reserved: Iterable[str]) -> None:
        self.reserved = frozenset(reserved)
        self.taken = set(self.reserved)

    def fresh(self, name: str) -> str:
        """`name`, or the nearest one that is free; it counts as taken from now on."""
        stem = f"{name}_" if name in self.reserved or keyword.iskeyword(name) else name
        free = stem
        number = 2
        while free in self.taken:
            free, number = f"{stem.rstrip('_')}_{number}", number + 1
        self.taken.add(free)
        return free


# What a module of torch calls its own; a parameter of such a name would break it.
MODULE_ATTRIBUTES = frozenset(
    [
        "T_destination",
        "add_module",
        "apply",
        "bfloat16",
        "buffers",
        "call_super_init",
        "children",
        "compile",
        "cpu",
        "cuda",
        "d_model",
        "double",
        "dump_patches",
        "eval",
        "extra_repr",
        "float",
        "forward",
        "get_buffer",
        "get_extra_state",
        "get_parameter",
        "get_submodule",
        "half",
        "ipu",
        "load_state_dict",
        "modules",
        "mtia",
        "named_buffers",
        "named_children",
        "named_modules",
        "named_parameters",
        "operator",
        "parameters",
        "register_backward_hook",
        "register_buffer",
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
        "register_load_state_dict_post_hook",
        "register_load_state_dict_pre_hook",
        "register_module",
        "register_parameter",
        "register_state_dict_post_hook",
        "register_state_dict_pre_hook",
        "requires_grad_",
        "set_extra_state",
        "set_submodule",
        "share_memory",
        "state_dict",
        "to",
        "to_empty",
        "train",
        "training",
        "type",
        "xpu",
        "zero_grad",
        "num_heads",
        "num_groups",
    ]
)
