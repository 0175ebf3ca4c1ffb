# Everything a person or CI does with this repository. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := $(shell sed -n '/^name = "uv"$$/{n;s/^version = "\(.*\)"/\1/p;}' uv.lock)
PROTOS := $(wildcard protos/dsv4_tp/v1/*.proto)
PROTOC = PATH="$(CURDIR)/$(BIN):$$PATH" python -m grpc_tools.protoc -Iprotos --python_out=$(1) --grpc_python_out=$(1) \
	--mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1) $(PROTOS)
OLD_PYTHON := dsv4-tp needs Python 3.11 or newer: make setup PYTHON=/path/to/python3.11
ALONE := cluster or hosts or ranks
DEMO_PROMPTS := examples/demo_model/prompts

.PHONY: setup demo train-demo demo-figures test lint types protos protos-diff check soak bench bench-pictures bench-cache bench-batching bench-load bench-serving bench-peers bench-beside bench-simulate bench-layers bench-scaling bench-halves help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(VENV)/.ready ## make .venv with the locked dependencies and the dsv4-tp command

demo: setup ## two ranks on this machine go on with a story and answer a question
	$(BIN)/dsv4-tp launch --hosts localhost,localhost --model demo --temperature 0 --max-tokens 80 \
		--prompt "$$(cat $(DEMO_PROMPTS)/story.txt)" --prompt "$$(cat $(DEMO_PROMPTS)/question.txt)"

train-demo: setup ## train the demo model anew, resumable: make train-demo ARGS=--help
	$(BIN)/python -m examples.demo_model.train $(ARGS)

demo-figures: setup ## measure the demo model, the figures of its card
	$(BIN)/python -m examples.demo_model.evaluate $(ARGS)

test: setup ## the test suite but for what is slow; what starts ranks of its own gets the machine to itself
	@# both, whatever the first finds; 5 says that ARGS names none of a kind
	@$(BIN)/pytest -n 2 --dist loadscope -m "not (slow or $(ALONE))" $(ARGS) || [ $$? = 5 ] || failed=1; \
	$(BIN)/pytest -m "($(ALONE)) and not slow" $(ARGS) || [ $$? = 5 ] || failed=1; \
	exit $${failed:-0}

lint: setup ## style, formatting, import layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: setup ## pyright, strict
	$(BIN)/pyright --pythonpath $(BIN)/python

protos: setup ## generate dsv4_tp/v1 from protos/
	$(call PROTOC,.)

protos-diff: setup ## fail if dsv4_tp/v1 is not what protos/ generates
	rm -rf build/protos && mkdir -p build/protos
	$(call PROTOC,build/protos)
	diff -r -x __init__.py -x __pycache__ build/protos/dsv4_tp/v1 dsv4_tp/v1

check: lint types protos-diff test ## all that CI asks for

soak: setup ## slow tests; random caches, shares, schemas, fleets and requests, drafts, chance, leaks, faults, replays, stress, clients, resumable: make soak CASES=1000 ROUNDS=60
	$(BIN)/pytest -m slow
	$(BIN)/python -m tests.soak.cache_schedules $(CASES)
	$(BIN)/python -m tests.soak.ranks_equal_one $(CASES)
	$(BIN)/python -m tests.soak.structured $(CASES)
	$(BIN)/python -m tests.soak.fleet
	$(BIN)/python -m tests.soak.many_requests $(ROUNDS)
	$(BIN)/python -m tests.soak.speculation $(ROUNDS)
	$(BIN)/python -m tests.soak.chances
	$(BIN)/python -m tests.soak.leaks
	$(BIN)/python -m tests.soak.faults
	$(BIN)/python -m tests.soak.replay
	$(BIN)/python -m tests.soak.random_faults
	$(BIN)/python -m tests.soak.stress
	$(BIN)/python -m tests.soak.clients

bench: setup ## the bench suite, counts beside what is published: make bench ARGS=--help
	$(BIN)/python -m benchmarks.suite $(ARGS)

bench-pictures: setup ## draw docs/pictures anew from what is published
	$(BIN)/python -m benchmarks.pictures

bench-cache: setup ## what a context costs in bytes and steps: make bench-cache ARGS=--help
	$(BIN)/python -m benchmarks.cache $(ARGS)

bench-batching: setup ## what sharing steps saves, what a long prompt delays, what choosing sends
	$(BIN)/python -m benchmarks.batching $(ARGS)

bench-load: setup ## bytes off the disk and peak memory of loading a rank, 15 GB of disk, Linux only
	$(BIN)/python -m benchmarks.load $(ARGS)

bench-layers: setup ## what layers take of a CPU: make bench-layers ARGS="--against DIR"
	$(BIN)/python -m benchmarks.layers $(ARGS)

bench-scaling: setup ## two ranks beside one, on wide layers
	$(BIN)/python -m benchmarks.scaling $(ARGS)

bench-halves: setup ## a chunk in two halves beside one piece, over slow links, root on Linux only
	$(BIN)/python -m benchmarks.halves $(ARGS)

bench-peers: setup ## the forecast of `plan --chips` beside what others have published
	$(BIN)/python -m benchmarks.peers $(ARGS)

bench-beside: setup build/beside/.ready ## transformers and mlx-lm beside this, on the same weights, in turns
	$(BIN)/python -m benchmarks.beside $(ARGS)

bench-simulate: setup ## the forecast for clusters from one Mac to sixteen
	$(BIN)/python -m benchmarks.simulate $(ARGS)

bench-serving: setup ## what the coordinator, the agents and HTTP take per token; latency beside mlx_lm.server
	$(BIN)/python -m benchmarks.serving $(ARGS)

$(VENV)/.ready: pyproject.toml uv.lock dsv4_tp/native/yield_shim.c | $(BIN)/uv
	$(BIN)/uv sync --locked --quiet --system-certs
	$(BIN)/python -m dsv4_tp.native || echo "no yield shim: ranks beyond the cores will be slow"
	touch $@

# Of no use but to bench-beside, which runs it in processes of its own.
build/beside/.ready: benchmarks/beside/requirements.txt | setup
	$(BIN)/python -m venv --clear build/beside
	build/beside/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

# The uv that is locked: another one would not find in its cache what this one has put there.
$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit("$(OLD_PYTHON)" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
