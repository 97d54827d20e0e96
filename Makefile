# The two commands most people need: `make run` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
HOST   ?= 127.0.0.1
PORT   ?= 8000
# Where pip looks for torch; empty means PyPI. README, "PyTorch's CPU or CUDA build", says what to put here.
TORCH_INDEX_URL ?=
LOWEST ?= .venv-lowest
PROTO  ?= .venv-proto
# The last that generates for protobuf 6; its code runs with protobuf 6 and 7.
PROTOC ?= grpcio-tools==1.78.0
# What pytest is told: tests in two processes. More need more memory than time they save.
PYTEST ?= -n 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run install install-test test e2e coverage lowest faults quality mutants bench-check gpu check format proto clean

help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.installed ## start the service with the shipped checkpoints
	@$(BIN)/servoloop serve --host $(HOST) --port $(PORT)

install: $(VENV)/.installed ## make the environment in .venv

install-test: $(VENV)/.installed-test ## and what the tests and trainings need

test: $(VENV)/.installed-test ## run the whole test suite, in two processes (PYTEST="-n 0 -x tests/models": otherwise)
	@$(BIN)/python -m pytest $(PYTEST)

e2e: $(VENV)/.installed-test ## ask a running service by the clients that people have (E2E='kserve': that family alone)
	@$(BIN)/python -m tests.clients $(E2E)

coverage: $(VENV)/.installed-test ## run it and say what lines and branches of ours no test reached
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(PYTEST)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

lowest: $(LOWEST)/.installed ## run it with the lowest versions that pyproject.toml allows, in an environment of its own
	@$(LOWEST)/bin/python -m pytest $(PYTEST)

faults: $(VENV)/.installed-test ## break a running service in every way, and print what it did (FAULTS='--quick': a short form; --optimised: on the back ends it chooses)
	@$(BIN)/python -m tests.faults $(FAULTS)

quality: $(VENV)/.installed-test ## compare what a running service says of its model with scikit-learn, killed too, on SQLite and PostgreSQL (QUALITY='--rows 500'; needs Debian's dataset-fashion-mnist)
	@$(BIN)/python -m tests.end_to_end.live_quality $(QUALITY)
	@$(BIN)/python -m tests.end_to_end.live_quality --postgres $(QUALITY) told killed drift

mutants: $(VENV)/.installed-mutation ## change the code line by line, and name the changes no test noticed (MODULE='service.wire*')
	@$(BIN)/mutmut run $(if $(MODULE),'$(MODULE)')
	@$(BIN)/mutmut results

bench-check: $(VENV)/.installed-test ## compare speed with a no-op server and with bare forwards, by ratios (under a minute; needs wrk)
	@$(BIN)/python -m benchmarks check

gpu: $(VENV)/.installed-test ## on a machine with an NVIDIA GPU: the tests that need one, then the benchmark (GPU='--json FILE')
	@$(BIN)/python -c 'import sys, torch; torch.cuda.is_available() or sys.exit(f"make gpu needs a GPU; torch {torch.__version__} sees none")'
	@$(BIN)/python -m pytest -m gpu
	@$(BIN)/python -m benchmarks gpu $(GPU)

check: $(VENV)/.installed-test ## lint, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(VENV)/.installed-test ## let ruff arrange the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

proto: ## generate the gRPC messages from service/grpc_api/inference.proto, in an environment of its own
	@$(PYTHON) -m venv $(PROTO)
	@$(PROTO)/bin/python -m pip --disable-pip-version-check install --quiet $(PROTOC)
	@$(PROTO)/bin/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. service/grpc_api/inference.proto
	@rm -rf $(PROTO)

clean: ## remove the environment and the caches
	rm -rf $(VENV) $(LOWEST) $(PROTO) .venv-e2e mutants .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null \
	  || { echo "There is no $(PYTHON) here. Servoloop needs Python 3.11 or newer; name one: make run PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Servoloop needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make run PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
	  || { echo "Python's venv module is missing. On Debian or Ubuntu: sudo apt-get install python3-venv"; exit 1; }
	@echo "Making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing PyTorch into $(VENV), once: about 200 MB for the CPU build, several GB for CUDA"
	@$(PIP) install --constraint constraints.txt $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) torch
	@echo "Installing Servoloop and the rest"
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[openvino]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@echo "Installing what the tests and trainings need"
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[train,test]'
	@touch $@

$(VENV)/.installed-mutation: $(VENV)/.installed-test
	@echo "Installing what changes the code"
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[train,test,mutation]'
	@touch $@

# pip knows no lowest versions; uv does. It upgrades, or what is installed already stays where a bound was lowered.
$(LOWEST)/.installed: pyproject.toml
	@$(MAKE) --no-print-directory VENV=$(LOWEST) $(LOWEST)/bin/python
	@echo "Installing the lowest versions into $(LOWEST) (UV_TORCH_BACKEND=cpu takes PyTorch's CPU build)"
	@$(LOWEST)/bin/python -m pip --disable-pip-version-check install --quiet uv
	@$(LOWEST)/bin/python -m uv pip install --python $(LOWEST) --resolution lowest-direct --upgrade \
	  --editable '.[openvino,onnx,postgres,train,test]'
	@touch $@
