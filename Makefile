# Riskloom: `make demo` runs the main job, `make test` passes the tests; both set everything up first.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: help setup demo test lint bench peers clean lock archive hadoop-up hadoop-down check-tools check-browser

PYTHON ?= python3.11
BIN := .venv/bin
# Trust what the machine trusts: behind a hospital's proxy that is not what uv brings.
export UV_SYSTEM_CERTS := true
JARS := .venv/lib/python3.11/site-packages/pyspark/jars
DEMO := build/demo

help:            ## Say what there is.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

setup: .venv/.ready ## Install everything at its pinned version; Horovod is compiled once.

demo: setup      ## Simulate 4,000 people and run the whole way, from raw files to the report.
	$(BIN)/riskloom simulate --raw $(DEMO)/raw
	$(BIN)/riskloom run conf/demo.yaml
	$(BIN)/riskloom recovered conf/demo.yaml

test: | check-browser setup ## Run all tests, those on real Hadoop too.
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder

lint: setup      ## Format, lint, types and the house's import rules.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup peers ## Measure the demo against its limits, and ours against peers.
	$(BIN)/python -m tests.benchmarks

peers: build/peers/petastorm/.ready build/peers/hail/.ready ## Install the peers that ours is measured against, each in its own environment.

archive: build/archive/environment.tar.gz ## The environment that YARN containers unpack.

hadoop-up: setup ## Start HDFS and YARN on this machine (loopback only).
	$(BIN)/python deploy/hadoop/cluster.py up

hadoop-down:     ## Stop them and leave nothing running.
	$(BIN)/python deploy/hadoop/cluster.py down

lock:            ## Resolve the dependencies anew.
	deploy/lock/update.sh

clean:           ## Remove what was built, the environment and Horovod's wheel excepted.
	rm -rf $(DEMO) build/lgg build/hadoop build/archive dist *.egg-info

check-browser:
	@command -v chromium > /dev/null || { echo "chromium is missing (the report is tested in it): apt-get install chromium" >&2; exit 2; }

check-tools:
	@command -v $(PYTHON) > /dev/null || { echo "Python 3.11 is missing: apt-get install python3.11 python3.11-venv, or pyenv install 3.11" >&2; exit 2; }
	@java -version 2>&1 | grep -q '"17\.' || { echo "JDK 17 is missing: apt-get install openjdk-17-jdk-headless" >&2; exit 2; }
	@command -v g++ > /dev/null || { echo "The C++ compiler is missing: apt-get install g++" >&2; exit 2; }

.venv/.ready: deploy/lock/dev.txt deploy/lock/uv.txt deploy/horovod/horovod.txt deploy/jars/spark.sha256 pyproject.toml | check-tools
	[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/lock/uv.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r deploy/lock/dev.txt
	deploy/horovod/build.sh $(BIN)/python build/wheels
	$(BIN)/uv pip install --quiet --no-deps build/wheels/horovod-*.whl
	deploy/jars/fetch.sh $(BIN)/python spark build/jars/spark
	cp build/jars/spark/*.jar $(JARS)/
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

build/peers/%/.ready: deploy/lock/%.txt | setup
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(@D)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(@D)/bin/python --require-hashes -r $<
	touch $@

build/archive/environment.tar.gz: setup deploy/lock/train.txt deploy/lock/report.txt
	deploy/archive.sh $(BIN)/python build/archive
