"""A recurrence that is in no library, from its spec to a trained model: what `rnnc demo` runs."""

from __future__ import annotations

import itertools
import time
from importlib.resources import files
from pathlib import Path

import torch
from rich.console import Console
from rich.syntax import Syntax

import rnnc
from rnnc.analysis import analyse
from rnnc.codegen.compiler import compile_text
from rnnc.codegen.standalone import standalone
from rnnc.examples.character_model import CharacterModel, evaluate, reference_text, sample, train
from rnnc.files import make_folder, write_text
from rnnc.ops.testing import property_test
from rnnc.progress import bar, track
from rnnc.threads import settle_threads

SPEC = files("rnnc.examples") / "two_read_delta.rnn"
console = Console(highlight=False, soft_wrap=True)


def run(steps: int = 320, output: Path = Path("demo-output")) -> None:
    """Checks, explains, proves, tests and compiles the spec, then trains a character model with it."""
    text = SPEC.read_text(encoding="utf-8")
    settle_threads()
    make_folder(output)
    title("The spec: examples/two_read_delta.rnn")
    console.print(Syntax(text, "python", background_color="default"))
    show_evidence(text, output)
    train_model(rnnc.compile(text), steps)


def show_evidence(text: str, output: Path) -> None:
    """Everything that can be known before training."""
    title("rnnc check")
    analysis = analyse(text, SPEC.name)
    for key, value in analysis.facts.items():
        console.print(f"{key:<12} {value}", markup=False)
    compiled, operator = compile_text(text, SPEC.name), rnnc.compile(text)
    title("rnnc explain")
    console.print(compiled.explain(), markup=False)
    title("rnnc prove")
    console.print(str(operator.prove()), markup=False)
    title("rnnc test -n 10")
    report = property_test(operator, 10, progress=lambda cases: track(cases, "cases", 10))
    console.print(str(report), markup=False)
    title("rnnc compile")
    target = output / "two_read_delta.py"
    write_text(target, standalone(compiled))
    console.print(f"{target}: one file that needs only torch", markup=False)


def train_model(operator: rnnc.Operator, steps: int) -> None:
    """Two layers, trained and measured on text that was held out; then a few lines from the model."""
    title("training")
    torch.manual_seed(0)
    text = reference_text()
    alphabet = sorted(set(text))
    data = torch.tensor([alphabet.index(character) for character in text])
    cut = len(data) * 9 // 10
    model = CharacterModel(operator, len(alphabet))
    size = sum(parameter.numel() for parameter in model.parameters())
    console.print(
        f"Python's language reference, {len(data):,} characters, the last tenth held out; {size:,} weights"
    )
    start = time.perf_counter()
    with bar("loss") as progress:
        task = progress.add_task("steps", total=steps, loss=float("nan"))
        for loss in train(model, data[:cut], steps):
            progress.update(task, advance=1, loss=loss)
    console.print(f"trained in {time.perf_counter() - start:.0f} s")
    console.print(f"held-out loss              {evaluate(model, data[cut:]):.3f} nats per character")
    console.print(f"  the recurrence zeroed    {evaluate(model, data[cut:], gain=0.0):.3f}")
    title("a sample, by step")
    prompt = "The "
    tokens = sample(model, torch.tensor([alphabet.index(character) for character in prompt]))
    console.print(prompt + "".join(alphabet[token] for token in itertools.islice(tokens, 300)), markup=False)


def title(text: str) -> None:
    """A line across the screen."""
    console.rule(f"[bold]{text}", align="left")


if __name__ == "__main__":
    run()
