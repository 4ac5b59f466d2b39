# SPDX-License-Identifier: Apache-2.0
# `make help` lists the targets.

VENV    := .venv
BIN     := $(VENV)/bin
CLANG   ?= clang-19
BPFTOOL ?= $(or $(shell command -v bpftool),/usr/sbin/bpftool)
OBJECTS := operator/wildcard_operator/objects
PYTEST  := $(BIN)/pytest

BPF_PROGRAMS := $(wildcard bpf/*.bpf.c)
BPF_OBJECTS  := $(patsubst bpf/%.bpf.c,$(OBJECTS)/%.bpf.o,$(BPF_PROGRAMS))
BPF_CFLAGS   := -O2 -g -target bpf -mcpu=v3 -Wall -Wextra -Werror -Ibpf
# Debian's place for nft, bpftool and others, which not every user's shell looks into.
export PATH := $(PATH):/usr/sbin:/sbin

.DEFAULT_GOAL := help
.PHONY: examples help setup packages bpf demo kube-tools test test-unit test-bpf test-node test-cluster test-chart images test-realcluster generate dashboard-picture test-long \
	lint format bench bench-map bench-compiler bench-node bench-control docs clean
.DELETE_ON_ERROR:

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | sed -E 's/:.*## /\t/' | column -ts "$$(printf '\t')"

setup: packages $(VENV)/.installed bpf ## Install what is missing and build the BPF objects

packages: # Debian packages, where root; else says which are missing
	@hack/packages.sh

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || python3 -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt 'pip>=25.1'
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e . --group dev
	@touch $@

bpf: $(BPF_OBJECTS) ## Compile the BPF programs

bpf/vmlinux.h:
	@$(BPFTOOL) btf dump file /sys/kernel/btf/vmlinux format c > $@

$(OBJECTS)/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h bpf/lib/*.h bpf/wildcard/*.h) bpf/vmlinux.h
	@mkdir -p $(OBJECTS)
	$(CLANG) $(BPF_CFLAGS) -c $< -o $@

kube-tools: ## Build the Kubernetes binaries that the cluster tests run (ten minutes, once)
	@tests/support/kubetools/build.sh >&2

demo: setup ## Watch policies decide on real packets, in half a minute
	@PYTHONPATH=tests $(BIN)/python hack/demo/demo.py

test: setup lint kube-tools images ## Run every check and test that CI runs
	$(PYTEST) -m 'not long' tests

test-unit: setup ## Pure Python: no root, no kernel
	$(PYTEST) tests/unit

test-bpf: setup ## The wildcard map and the programs in the running kernel
	$(PYTEST) -m 'not long' tests/bpf

test-node: setup ## A node with pods made of network namespaces, real packets
	$(PYTEST) -m 'not long' tests/node

test-cluster: setup kube-tools ## Against a real API server and etcd; KUBERNETES=1.32.2: of this version
	$(PYTEST) -m 'not long' tests/cluster

test-chart: setup kube-tools ## The Helm chart: rendered, validated, installed; KUBERNETES as above
	$(PYTEST) -m 'not long' tests/chart

images: setup ## The container image without a container engine, for test-realcluster
	@hack/packages.sh realcluster
	@tests/support/realcluster/images.sh >&2

test-realcluster: setup kube-tools images ## Install, upgrade and uninstall the chart on two real kubelets (root)
	$(PYTEST) tests/realcluster

generate: setup ## Write what is generated: the chart's copies, the dashboard, the rendered manifest, references
	$(BIN)/python hack/generate.py

dashboard-picture: setup ## Plot the dashboard from a run with real traffic, for the documentation
	DASHBOARD_PICTURE=$(CURDIR)/docs/images/dashboard.svg $(PYTEST) tests/cluster/test_dashboard.py

docs: setup ## The documentation as a site, in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

test-long: setup kube-tools images ## Everything, with the tests that run for minutes
	$(PYTEST) tests

lint: setup ## Formatting, lint, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	clang-format-19 --dry-run --Werror $$(git ls-files 'bpf/*.h' 'bpf/*.c' 'examples/*.c' 'tests/*.c')

format: setup ## Format the sources
	$(BIN)/ruff check --fix-only -q .
	$(BIN)/ruff format -q .
	clang-format-19 -i $$(git ls-files 'bpf/*.h' 'bpf/*.c' 'examples/*.c' 'tests/*.c')

build/examples/%.bpf.o: examples/*/%.bpf.c bpf/vmlinux.h
	@mkdir -p $(@D)
	$(CLANG) $(BPF_CFLAGS) -c $< -o $@

examples: build/examples/drop.bpf.o build/examples/ports.bpf.o ## Compile the examples

bench: bench-map bench-compiler bench-node bench-control ## All benchmarks, an hour

build/bench/%.bpf.o: bench/%.bpf.c bpf/vmlinux.h
	@mkdir -p $(@D)
	$(CLANG) $(BPF_CFLAGS) -c $< -o $@

bench-map: setup build/bench/baselines.bpf.o ## The map beside the kernel's own; writes docs/performance.md
	$(BIN)/python bench/map.py

bench-control: setup kube-tools ## Operator and agents on a real API server; writes docs/performance-control.md
	$(BIN)/python bench/control.py

bench-node: setup ## Throughput, packets, XDP, latency and memory of a node; writes docs/performance-node.md
	PYTHONPATH=tests $(BIN)/python bench/node.py

bench-compiler: setup ## The compiler's times, memory and entries; writes docs/performance-compiler.md
	nice $(BIN)/python bench/compiler.py

clean: ## Remove what was built
	rm -rf $(VENV) $(OBJECTS) bpf/vmlinux.h build dist
