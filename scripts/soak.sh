#!/usr/bin/env bash
# Everything that is too long for `make test`, each once: the crash suite with LONGSHORE_KILLS kills of the daemon (200), all of
# test/faults in its long form with LONGSHORE_CYCLES life cycles (2000), and a thousand endpoints with their interfaces. Tests tell
# what they do while they run; the totals come last. About 20 minutes on two quiet cores.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "soak: containers need root" >&2; exit 1; }
export LONGSHORE_SOAK=1 LONGSHORE_THOUSAND=1 LONGSHORE_KILLS=${LONGSHORE_KILLS:-200} LONGSHORE_CYCLES=${LONGSHORE_CYCLES:-2000}
out=$(mktemp)
trap 'rm -f "$out"' EXIT
echo "soak: $LONGSHORE_KILLS kills, $LONGSHORE_CYCLES life cycles"

# With -p 1 and -v lines come when they are said. The timeout is each package's: six times what a quiet machine needs.
code=0
{
    go test -count=1 -p 1 -v -timeout 90m ./test/crash ./test/faults || code=$?
    go test -count=1 -v -timeout 90m -run '^TestThousandEndpoints$' ./internal/service/engine/networks || code=$?
    exit $code
} 2>&1 | tee "$out" || code=$?

count() { grep -cE "^--- $1: " "$out" || true; }
echo
echo "soak: the slowest tests"
grep -E '^--- (PASS|FAIL): ' "$out" | sed -E 's/^--- (PASS|FAIL): ([^ ]+) \(([0-9.]+)s\)/\3 \2 \1/' | sort -rn | head -5 |
    while read -r seconds name result; do printf '    %8.1f s  %s (%s)\n' "$seconds" "$name" "$result"; done
grep -E '^--- (FAIL|SKIP): ' "$out" | sed 's/^--- /    /' || true
echo "soak: $(count PASS) tests passed, $(count FAIL) failed, $(count SKIP) were skipped, in $((SECONDS / 60)) min $((SECONDS % 60)) s"
exit "$code"
