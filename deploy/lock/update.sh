#!/usr/bin/env bash
# Resolve pyproject.toml once for everything, then cut the lean groups from that one resolution.
# usage: deploy/lock/update.sh        (needs .venv/bin/uv)
set -euo pipefail
cd "$(dirname "$0")/../.."
compile() { .venv/bin/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 "$@" pyproject.toml; }
compile --all-extras -o deploy/lock/dev.txt
compile -c deploy/lock/dev.txt -o deploy/lock/core.txt
compile -c deploy/lock/dev.txt --extra train -o deploy/lock/train.txt
compile -c deploy/lock/dev.txt --extra report -o deploy/lock/report.txt
# The peers of the benchmarks: stock Petastorm with what it was made for, and Hail.
for peer in petastorm hail; do
  .venv/bin/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 -o "deploy/lock/$peer.txt" "deploy/lock/$peer.in"
done
