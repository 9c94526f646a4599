# Everything runs in .venv with the versions of constraints.txt.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt
# Compiled files are written whatever the environment says: tests start many processes, and there are two runs.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist worksteal -q

.PHONY: demo test smoke lint format regenerate offline gpu bench goldens clean

demo: $(VENV)/installed
	$(BIN)/rnnc demo

test: smoke
	$(PYTEST) -m "not smoke and not gpu"

smoke: $(VENV)/installed-test
	$(PYTEST) -m "smoke and not gpu"

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -q tests/test_style.py  # mypy, on the packages laid out as they are imported

format: $(VENV)/installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

regenerate: $(VENV)/installed
	$(BIN)/rnnc regenerate

offline: $(VENV)/installed-test
	$(PIP) --editable ".[triton]"
	$(BIN)/python -m rnnc.offline

# On a machine with a GPU and no network: with the Python that is there, nothing is installed.
gpu:
	$(PYTHON) -m benchmarks.gpu $(GPU)

# Times beside the libraries that are installed, on the device that is there; BENCH="--models mamba2 --threads 2".
bench: $(VENV)/installed
	$(PIP) --editable ".[bench,plot]"
	$(BIN)/python -m benchmarks $(BENCH)

goldens: $(VENV)/installed-test
	$(PYTEST) --update-golden

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis demo-output

# torch comes first, alone: its version decides which build everything else is resolved against.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rnnc needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(PIP) --editable ".[test]"
	touch $@
