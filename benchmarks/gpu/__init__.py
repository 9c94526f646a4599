"""`python -m benchmarks.gpu`, or `make gpu`: the kernels on a machine with one GPU and no network.

Nothing needs to be installed there but what rnnc imports: where rnnc itself is not, its folders are found
beside this one.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def find_rnnc() -> None:
    """Makes `rnnc.dsl` and the others importable from the repository."""
    import rnnc

    try:
        import rnnc.dsl
    except ModuleNotFoundError:
        rnnc.__path__.append(str(ROOT))


find_rnnc()
