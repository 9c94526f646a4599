"""`python -m benchmarks`, or `make bench`: times, memory and errors beside the peers, on this machine.

`benchmarks.gpu` (`make gpu`) compiles and checks the kernels on a machine with one GPU and no network;
`benchmarks.overhead` counts what a call costs the host. Nothing needs to be installed but what rnnc imports:
where rnnc itself is not, its folders are found beside this one.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def find_rnnc() -> None:
    """Makes `rnnc.dsl` and the others importable from the repository."""
    import rnnc

    try:
        import rnnc.dsl
    except ModuleNotFoundError:
        rnnc.__path__.append(str(ROOT))


find_rnnc()
