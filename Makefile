# Two commands do everything on a fresh Debian 12 or 13: `make rehearse` and `make test`.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# The lab needs root. On an operator's machine make asks for it by sudo, and only where it is needed.
SUDO := $(shell command -v sudo)
NO_SUDO = { echo "this needs root, and sudo is not installed: run make as root" >&2; exit 2; };
AS_ROOT := $(if $(filter 0,$(shell id -u)),,$(if $(SUDO),,$(NO_SUDO)) sudo --preserve-env=XDG_STATE_HOME)

.PHONY: help setup rehearse test lint unit scenarios machine test-vm load docs bench clean
.DEFAULT_GOAL := help

help: ## show these lines
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.ready ## install Debian packages and the virtual environment

$(VENV)/.ready: pyproject.toml constraints.txt auditors.txt debian-packages.txt
	@./install-packages.sh
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the Python environment in $(VENV)"
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@test -x $(VENV)/auditors/bin/python || $(PYTHON) -m venv $(VENV)/auditors
	@$(VENV)/auditors/bin/python -m pip install --quiet --requirement auditors.txt
	@touch $@

rehearse: setup ## provision, harden and verify one throwaway Jitsi host
	@$(AS_ROOT) $(BIN)/ratssaal rehearse

test: setup ## everything that must pass
	@echo "One virtual machine beside lint and unit tests (a quarter of an hour where KVM does not work); each tells all at its end"
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target machine lint unit
	@$(MAKE) --no-print-directory scenarios

lint: setup ## style, types, Ansible and shell checks
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	PATH="$(CURDIR)/$(BIN):$$PATH" ansible-lint --offline -q
	shellcheck install-packages.sh .ci/run
	shellcheck --exclude=SC1090,SC1091 $$(grep -rlE '^#!/bin/(ba)?sh' orchestrator/lab/standins/packages)

unit: setup ## tests that need neither root nor a host
	$(BIN)/python -m pytest -q -n 2 --dist loadfile tests/unit

scenarios: setup ## tests on throwaway lab hosts (root)
	$(AS_ROOT) $(BIN)/python -m pytest -q -ra -n 5 --dist loadgroup --no-loadscope-reorder --durations=15 tests/scenarios

machine: setup ## one virtual machine: boot, converge, reboot, verify (root)
	$(AS_ROOT) $(BIN)/python -m pytest -q -ra --durations=0 tests/vm/test_machine.py

test-vm: setup ## all tests on virtual machines (root; an hour where KVM does not work)
	$(AS_ROOT) $(BIN)/python -m pytest -q -ra -n 2 -v --dist loadgroup --durations=0 tests/vm

load: setup ## five minutes of a meeting of fifty under the sandboxes (root)
	$(AS_ROOT) env RATSSAAL_LOAD_SECONDS=300 $(BIN)/python -m pytest -q -ra tests/scenarios/test_sandbox_load.py

docs: setup ## write the generated pages anew
	$(BIN)/python docs/generate.py

bench: setup ## measure, print ratios
	$(AS_ROOT) $(BIN)/python -m tests.bench

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
