# `make quickstart` and `make test` are all the set-up there is: each makes its environment when there is none.

PYTHON ?= python3
VENV ?= .venv
VENV5 ?= .venv-transformers5
TORCH = torch==2.13.0
# A file's tests share what they set up, so a file stays with one process. Files with few tests are not left for the end:
# those that start processes of their own take longest.
PARALLEL = -n 2 --dist loadfile --no-loadscope-reorder
# What neither calls transformers nor reads what it wrote, and the documentation's code, runs once, in the main leg.
ONE_MAJOR = tests/docs tests/distillation/losses tests/hub/test_card_hostile.py tests/measure/report
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check

.PHONY: bench-export docs quickstart test test-integration test-transformers5 lint format bench clean help

help:
	@echo "make quickstart          the main job on a real model and real sentences (about ten minutes on two cores)"
	@echo "make test                unit tests, with transformers 4.57"
	@echo "make test-transformers5  the same with transformers 5"
	@echo "make test-integration    tests on the real model"
	@echo "make lint                ruff and mypy"
	@echo "make docs                the documentation, to build/docs/html; stops at any warning or broken link"
	@echo "make bench               training steps against each other, results to benchmarks/results"
	@echo "make bench-export        exported files against Optimum's"

quickstart: $(VENV)/.quickstart
	HF_HUB_OFFLINE=1 $(VENV)/bin/hfcompress quickstart $(ARGS)

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest $(PARALLEL) $(ARGS)

test-integration: $(VENV)/.dev $(VENV)/.quickstart
	$(VENV)/bin/python -m pytest -m integration $(ARGS)

test-transformers5: $(VENV5)/.dev
	OMP_NUM_THREADS=1 $(VENV5)/bin/python -m pytest $(PARALLEL) $(addprefix --ignore=,$(ONE_MAJOR)) $(ARGS)

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: $(VENV)/.quickstart $(VENV)/.benchmarks
	HF_HUB_OFFLINE=1 $(VENV)/bin/python benchmarks/distillation.py --rounds 40 $(ARGS)

bench-export: $(VENV)/.quickstart $(VENV)/.benchmarks $(VENV5)/.dev
	HF_HUB_OFFLINE=1 $(VENV)/bin/python benchmarks/export.py --transformers5 $(VENV5)/bin/python $(ARGS)

docs: $(VENV)/.dev
	HF_HUB_OFFLINE=1 $(VENV)/bin/python docs/make_site.py $(ARGS)

clean:
	rm -rf $(VENV) $(VENV5) build dist *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV5)/bin/python:
	$(PYTHON) -m venv $(VENV5)

$(VENV)/.installed: pyproject.toml constraints/transformers4.txt | $(VENV)/bin/python
	@echo "installing hfcompress with transformers 4.57 into $(VENV)"
	$(VENV)/bin/python $(PIP_INSTALL) $(TORCH)
	$(VENV)/bin/python $(PIP_INSTALL) --constraint constraints/transformers4.txt --editable '.[optimum,report]'
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(VENV)/bin/python $(PIP_INSTALL) --constraint constraints/transformers4.txt --editable '.[optimum,report,dev,docs]'
	@touch $@

$(VENV)/.quickstart: $(VENV)/.installed constraints/quickstart.txt
	$(VENV)/bin/python $(PIP_INSTALL) --no-deps --require-hashes --requirement constraints/quickstart.txt
	@touch $@

$(VENV)/.benchmarks: $(VENV)/.installed constraints/benchmarks.txt
	$(VENV)/bin/python $(PIP_INSTALL) --no-deps --require-hashes --requirement constraints/benchmarks.txt
	@touch $@

$(VENV5)/.dev: pyproject.toml constraints/transformers5.txt | $(VENV5)/bin/python
	@echo "installing hfcompress with transformers 5 into $(VENV5)"
	$(VENV5)/bin/python $(PIP_INSTALL) $(TORCH)
	$(VENV5)/bin/python $(PIP_INSTALL) --constraint constraints/transformers5.txt --editable '.[onnx,report,dev,docs]'
	@touch $@
