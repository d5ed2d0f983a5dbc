# `make check` is what CI runs. On a fresh clone say `make setup` first.
PYTHON ?= .venv/bin/python

.PHONY: setup check lint types test slow docs catalogue onnx-env format clean

setup: ## a virtual environment with everything that `make check` needs
	python3 -m venv .venv
	.venv/bin/pip install -e ".[dev]"

check: lint types test docs ## what CI runs

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m pyright --pythonpath $(PYTHON)

test:
	$(PYTHON) -m pytest

slow: ## what `make test` leaves out: every family of the zoo learns, the deepest backbones
	$(PYTHON) -m pytest -m slow

docs: ## into docs/_build/html; warnings are errors
	$(PYTHON) -m sphinx -W --keep-going -q -b html docs docs/_build/html

catalogue: ## write what follows from the registry: tables of README and papers, snapshots of new networks
	$(PYTHON) docs/catalogue.py

onnx-env: ## an environment of its own for `jaxseg export --format onnx`
	python3 -m venv .venv-onnx
	.venv-onnx/bin/pip install jax2onnx onnxruntime safetensors scipy jaxtyping

format:
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

clean:
	rm -rf docs/_build docs/_generated build dist
