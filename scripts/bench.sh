#!/usr/bin/env bash
# Prints the table of docs/benchmarks.md: Longshore beside dockerd and bare runc, measured in one run.
set -euo pipefail
cd "$(dirname "$0")/.."
go run ./test/bench "$@"
