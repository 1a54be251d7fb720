#!/usr/bin/env bash
# The fast part: formatting, vet, structure, race tests of what needs no privilege.
set -euo pipefail
cd "$(dirname "$0")/.."
bad=$(gofmt -l cmd internal test)
[ -z "$bad" ] || { echo "not gofmt-clean:"; echo "$bad"; exit 1; }
packages=$(go list ./...)
go vet $packages
if command -v golangci-lint >/dev/null; then golangci-lint run; fi
go test -count=1 ./internal/arch
# The race detector needs cgo; where there is no C compiler the same tests run without it.
pure=$(go list ./internal/base/... ./internal/core/... ./internal/server/route ./internal/server/stream ./internal/server/httperr)
if command -v gcc >/dev/null; then CGO_ENABLED=1 go test -race $pure; else go test $pure; fi
