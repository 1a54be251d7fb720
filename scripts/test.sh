#!/usr/bin/env bash
# Everything, on real containers where we are root.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.cache/bin:$PATH" # versitygw
[ "$(id -u)" = 0 ] || echo "test: not root: tests that need containers say what they skip"
packages=$(go list ./... | grep -v -e '^longshore/test' -e '^longshore/internal/arch')
go test -count=1 -timeout 10m $packages
go test -count=1 -timeout 15m -p 1 ./test/...
