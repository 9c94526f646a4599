"""`python -m benchmarks.gpu`, or `make gpu`: the kernels on a machine with one GPU and no network."""
