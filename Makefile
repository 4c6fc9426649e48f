# SPDX-License-Identifier: GPL-3.0-or-later
# Everything that is made lies below .build; the lab's containers are podman's.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup shell lint sanity unit molecule matrix core cores test static beside quietly images benchmark build docs reference release demo demo-needs demo-shell demo-down clean

HOST ?= cella
# for what is no Debian package: another Python brings another ansible-core
PYTHON := python3
# A scenario makes the cells anew; the rest of the lab stays from one to the next.
SCENARIOS = python tests/tools/scenarios.py $(SCENARIO)
BUILD := $(CURDIR)/.build
VENV := $(BUILD)/$(subst python3,venv,$(notdir $(PYTHON)))
COLLECTION := $(BUILD)/collections/ansible_collections/pic/cells

# The one place that says what the tools find in their environment.
export PATH := $(VENV)/bin:$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(BUILD)/collections
export ANSIBLE_HOME := $(BUILD)/ansible
export CONTAINERS_CONF := $(CURDIR)/tests/lab/containers.conf
export MOLECULE_GLOB := molecule/*/molecule.yml
export MYPYPATH := $(BUILD)/collections
export PYTHONPATH := $(BUILD)/collections

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' Makefile | expand -t 14

setup: $(BUILD)/packages.stamp $(VENV).stamp $(BUILD)/oldest.stamp $(COLLECTION) ## install the tools: Debian packages that are missing (as root), and a venv

shell: setup ## a shell in which the tools are found, and find this tree as the collection
	@$(SHELL) --norc

lint: build ## all linters
	tests/tools/lint.sh $(BUILD)/dist/pic-cells-*.tar.gz

sanity: setup ## ansible-test sanity, on a copy of the tree
	tests/tools/sanity.sh

unit: setup ## unit tests: no root, no network
	pytest -n auto

molecule: setup ## the scenarios but for awx and prediction, in the lab (root); one of them: SCENARIO=exit_relay
	$(SCENARIOS)

# Each scenario has a kind of cell of its own otherwise.
matrix: setup ## the scenarios at length, on both releases of Debian with both kinds of iptables (root; hours)
	set -e; for release in bookworm trixie; do for backend in nft legacy; do \
		echo "--- $$release, iptables-$$backend"; \
		PIC_AT_LENGTH=1 PIC_LAB_ROUNDS=20 PIC_LAB_CELLS_RELEASE=$$release PIC_LAB_BACKEND=$$backend $(SCENARIOS); done; done

core: setup ## unit tests with one version of ansible-core: CORE=2.18, or CORE=devel
	PIC_AT_LENGTH=1 PATH="$$(tests/tools/core.sh "$(PYTHON)" "$(CORE)")/bin:$$PATH" pytest -n auto

cores: setup ## unit tests on each Python here from 3.9 on; sanity and exit_relay with the newest ansible-core (root; half an hour)
	PIC_AT_LENGTH=1 tests/tools/cores.sh

test: static beside unit ## lint, documentation, sanity, unit tests and scenarios

static: setup
	$(MAKE) --jobs=2 --output-sync=target --no-print-directory lint docs images

# Packets are late on a busy machine, and so are unit tests that wait for something. Sanity takes what the scenarios leave of the processor.
beside: setup
	$(MAKE) --jobs=2 --output-sync=target --no-print-directory quietly molecule

quietly: setup
	tests/tools/quietly.sh $(MAKE) --jobs=1 --no-print-directory sanity

images: setup
	python tests/lab/lab.py images

benchmark: setup $(BUILD)/benchmark.stamp ## all benchmarks, as tables and in .build/benchmark.json (root; SHORT=--short takes two minutes)
	PYTHONPATH=$(PYTHONPATH):tests/lab python tests/benchmarks/all.py --json $(BUILD)/benchmark.json $(SHORT)

build: setup ## the collection's artifact
	rm -rf $(BUILD)/dist
	ansible-galaxy collection build --output-path $(BUILD)/dist

release: setup ## make this tree that of a release: VERSION=1.0.0 (CONTRIBUTING.md says what comes before and after)
	tests/tools/release.sh "$(VERSION)"

docs: setup ## the documentation site, in .build/docs
	tests/tools/docs.sh $(BUILD)/docs

reference: setup ## write docs/variables.md anew, from the argument specification and the surveys
	python tests/tools/variables.py

demo: demo-needs setup ## bring up three cells and show who sees whom (root)
	python tests/lab/lab.py up
	ansible-playbook -i molecule/inventory.yml pic.cells.site
	python tests/lab/lab.py phones
	python tests/lab/lab.py demo

demo-needs:
	@tests/tools/demo.sh

demo-shell: setup ## a shell on a host of the lab: HOST=cella
	python tests/lab/lab.py shell $(HOST)

demo-down: setup ## remove the lab's containers and networks
	python tests/lab/lab.py down

clean: ## remove .build (first make demo-down: its keys go too)
	rm -rf $(BUILD)

$(BUILD)/packages.stamp: tests/tools/packages.sh
	tests/tools/packages.sh
	@mkdir -p $(@D) && touch $@

$(BUILD)/benchmark.stamp: tests/tools/packages.sh
	tests/tools/packages.sh benchmark
	@mkdir -p $(@D) && touch $@

$(VENV).stamp: requirements-dev.txt tests/unit/requirements.txt | $(BUILD)/packages.stamp
	test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	@touch $@

# beside the other, since it shares nothing with it
$(BUILD)/oldest.stamp: tests/tools/oldest.sh meta/runtime.yml tests/unit/requirements.txt | $(BUILD)/packages.stamp
	tests/tools/oldest.sh $(BUILD)/oldest
	@touch $@

# relative, so that the tree can be moved
$(COLLECTION):
	@mkdir -p $(@D)
	ln -s ../../../.. $@
