# The two commands of the README: `make demo` and `make test`. Everything they need is installed into .venv.

PYTHON ?= python3
PRESET ?= ml-100k
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
EXTRAS := train,export,server,text,image,scale,tune,tensorboard,tensorrt-rtx,docs,dev

# Tests run in processes with one PyTorch thread each: threads of several models on the same cores wait for each other, which made
# the tests take twice as long. Three processes on two cores, because those with servers wait much.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 3 --dist loadfile

.PHONY: help demo demo-update quick test test-gpu lint docs benchmark clean

help:
	@echo "make demo [PRESET=ml-100k|smoke]  logs -> teacher -> student -> ONNX -> live tritonserver, with the table"
	@echo "make demo-update                  new events of MovieLens-100K -> update, verdict, promotion into a live server under load"
	@echo "make quick                        format, lint, types, import contracts and fast tests: before each commit"
	@echo "make test                         the same with all tests, and their line coverage"
	@echo "make test-gpu                     training, ONNX Runtime, engines and Triton on this machine's GPU; writes runs/gpu-report.md"
	@echo "make docs                         the site, in docs/build/index.html"
	@echo "make benchmark [PRESET=...]       pytest --benchmark-only on what make demo left; then: distilrec report"
	@echo "make clean                        remove .venv and runs"

# A tritonserver that cannot start is told before the training, not after it.
demo: $(INSTALLED)
	$(BIN)/distilrec link-tritonserver
	$(BIN)/distilrec demo --preset $(PRESET)

# The second act: new events, an update, its verdict, and promotion into the running server under load.
demo-update: $(INSTALLED)
	$(BIN)/distilrec link-tritonserver
	$(BIN)/distilrec demo-update

quick: lint
	$(PYTEST) -m fast tests

test: lint
	$(PYTEST) --cov --cov-report=term:skip-covered

test-gpu: $(INSTALLED)
	$(BIN)/python -m pytest -rs --gpu-report runs/gpu-report.md tests/gpu

lint: $(INSTALLED)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(INSTALLED)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -q -b html docs docs/build

benchmark: $(INSTALLED)
	$(BIN)/python -m pytest --benchmark-only --run-preset $(PRESET)

clean:
	rm -rf $(VENV) runs docs/build docs/generated

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"found Python {sys.version.split()[0]}, expected 3.11 or newer: make PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV) || { echo "Python cannot make virtual environments here. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@
