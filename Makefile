# The two commands of the README: `make demo` and `make test`. Everything they need is installed into .venv.

PYTHON ?= python3
PRESET ?= ml-100k
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
EXTRAS := train,export,server,text,tune,tensorboard,tensorrt-rtx,dev

.PHONY: help demo test test-gpu lint benchmark clean

help:
	@echo "make demo [PRESET=ml-100k|smoke]  logs -> teacher -> student -> ONNX -> live tritonserver, with the table"
	@echo "make test                         linters, type checker, import contracts and tests"
	@echo "make test-gpu                     engines on the GPU of this machine"
	@echo "make benchmark [PRESET=...]       pytest --benchmark-only on what make demo left; then: distilrec report"
	@echo "make clean                        remove .venv and runs"

# A tritonserver that cannot start is told before the training, not after it.
demo: $(INSTALLED)
	$(BIN)/distilrec link-tritonserver
	$(BIN)/distilrec demo --preset $(PRESET)

test: lint
	$(BIN)/python -m pytest

test-gpu: $(INSTALLED)
	$(BIN)/python -m pytest tests/gpu

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

benchmark: $(INSTALLED)
	$(BIN)/python -m pytest --benchmark-only --run-preset $(PRESET)

clean:
	rm -rf $(VENV) runs

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"found Python {sys.version.split()[0]}, expected 3.11 or newer: make PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV) || { echo "Python cannot make virtual environments here. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@
