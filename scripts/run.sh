#!/usr/bin/env bash
# Checks the host, starts the engine in the foreground and, as soon as it answers, runs a first container on it.
set -euo pipefail
cd "$(dirname "$0")/.."
root=${LONGSHORE_DATA_ROOT:-/var/lib/longshore}
exec_root=${LONGSHORE_EXEC_ROOT:-/run/longshore}
socket=${LONGSHORE_SOCKET:-$exec_root/docker.sock}
export DOCKER_HOST=unix://$socket
[ "$(id -u)" = 0 ] || { echo "run: containers need root: use sudo make run" >&2; exit 1; }

bin/longshore check --data-root "$root" --exec-root "$exec_root"

first_container() {
    for _ in $(seq 200); do
        docker version >/dev/null 2>&1 && break
        kill -0 "$1" 2>/dev/null || return 0
        read -rt 0.1 <> <(:) || true
    done
    if ! docker image inspect busybox >/dev/null 2>&1; then
        echo "run: making the first image, busybox, from $(command -v busybox)"
        scripts/busybox-image.sh | docker import --change 'CMD ["sh"]' --change 'ENV PATH=/bin' - busybox >/dev/null
    fi
    docker run --rm busybox echo "Hello from a container on Longshore."
    echo
    echo "The engine is up. In another terminal:"
    echo
    echo "    export DOCKER_HOST=unix://$socket"
    echo "    docker run -it --rm busybox"
    echo
    echo "Ctrl-C stops the engine; containers keep running unless it was started with --live-restore=false."
}

first_container $$ &
exec bin/longshore engine -H "unix://$socket" --data-root "$root" --exec-root "$exec_root" --pidfile "$exec_root/longshore.pid" "$@"
