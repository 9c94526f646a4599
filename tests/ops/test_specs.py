"""The built-in specs: they check without a warning, name their paper, and keep to their class."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

import rnnc.ops
from rnnc.dsl.checker import check
from rnnc.dsl.initialisers import INITIALISERS as KNOWN
from rnnc.dsl.normaliser import normalise
from rnnc.dsl.parser import parse
from rnnc.dsl.recurrence import Recurrence
from rnnc.dsl.stages import split
from rnnc.ops.initialisers import INITIALISERS

pytestmark = pytest.mark.smoke
NAMES = tuple(
    "abc comba delta_net delta_net_signed delta_product dplr gated_delta_net gated_delta_net2 "
    "gated_delta_product gated_oja gla gla_signed gsa iplr kda kimi_delta_product linear_attention mamba2 "
    "mamba2_signed momentum_delta preconditioned_delta retention rwkv6 rwkv7 titans_linear".split()
)
STAGES = {
    "abc": [(), ("A",), ("B",)],
    "gsa": [("A",), ("B",)],
    "preconditioned_delta": [(), ("S",)],
}  # matrices, stage by stage
COUPLED = ("momentum_delta", "titans_linear")
READS = dict.fromkeys(
    "comba delta_net delta_net_signed delta_product dplr gated_delta_net gated_delta_net2 "
    "gated_delta_product gated_oja iplr kda kimi_delta_product rwkv7".split(),
    1,
)
NONE = dict.fromkeys("delta_net delta_net_signed delta_product iplr linear_attention".split())
NONE |= dict.fromkeys(COUPLED)
CHANNELS = dict.fromkeys(
    "dplr gated_delta_net2 gla gla_signed kda kimi_delta_product rwkv6 rwkv7".split(), ("K",)
)
VALUES = {"gated_oja": ("V",)}
DECAYS = {**NONE, **CHANNELS, **VALUES}


def checked(name: str) -> Recurrence:
    text = files("rnnc.ops").joinpath(f"{name}.rnn").read_text("utf-8")
    return check(parse(text, f"{name}.rnn"))


def test_the_folder_decides_what_is_built_in() -> None:
    assert rnnc.ops.builtin_names() == NAMES
    assert set(NAMES) <= set(dir(rnnc.ops))
    with pytest.raises(AttributeError, match="no attribute 'gated_delta'"):
        _ = rnnc.ops.gated_delta


@pytest.mark.parametrize("name", NAMES)
def test_spec(name: str) -> None:
    recurrence = checked(name)
    assert recurrence.name == name
    assert recurrence.warnings == ()
    assert recurrence.layer is not None
    assert re.search(r"\(.+ \d{4}, arXiv:\d{4}\.\d{5}", recurrence.doc)
    body = re.sub(r'""".*?"""', "", recurrence.source, flags=re.DOTALL).partition("layer:")[0]
    lines = [line for line in body.splitlines() if line.split("#")[0].strip()]
    assert len(lines) <= 15


@pytest.mark.parametrize("name", [name for name in NAMES if name not in STAGES])
def test_class(name: str) -> None:
    normal = normalise(checked(name))
    assert len(normal.reads) == READS.get(name, 0)
    assert normal.micro == ("n" if name.endswith("product") else None)
    found = None if normal.decay is None else normal.decay.axes
    assert found == DECAYS.get(name, ())
    assert (normal.coupled is not None) == (name in COUPLED)


@pytest.mark.parametrize("name", STAGES)
def test_stages(name: str) -> None:
    stages = [normalise(stage) for stage in split(checked(name))]
    matrices = [() if each.elementwise is not None else (each.state,) for each in stages]
    assert matrices == STAGES[name]
    assert sum(len(each.reads) for each in stages) == name.endswith("delta")


@pytest.mark.parametrize("name", COUPLED)
def test_momentum(name: str) -> None:
    """One write, into both states, which reads one of them."""
    coupled = normalise(checked(name)).coupled
    assert coupled is not None
    assert coupled.states == ("M", "S")
    assert [[entry is not None for entry in row] for row in coupled.mixing] == [[True, False], [True, True]]
    (write,) = coupled.writes
    assert None not in write.keys
    assert [read is not None for read in write.reads] == [False, True]


def test_initialisers_are_those_of_the_language() -> None:
    assert set(INITIALISERS) | {"fixed"} == set(KNOWN)
