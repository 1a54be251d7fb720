#!/usr/bin/env bash
# Installs what is missing, and only that: setup.sh run|test|bench|vm
set -euo pipefail
what=${1:-run}
repo=$(cd "$(dirname "$0")/.." && pwd)
export PATH=$repo/.cache/go/bin:$PATH

missing=()
want() { # command package
    command -v "$1" >/dev/null || missing+=("$2")
}
want runc runc
want crun crun
want busybox busybox-static
want nft nftables
want ip iproute2
want tar tar
want git git
want make make
if ! "$repo/scripts/go.sh" enough; then # to fetch it
    want curl curl
    want unzip unzip
    [ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
fi
if [ "$what" = vm ]; then
    want qemu-system-x86_64 qemu-system-x86
    want mmdebstrap mmdebstrap
    want mkfs.ext4 e2fsprogs
    want modprobe kmod
elif [ "$what" != run ]; then
    want skopeo skopeo
    want docker-compose docker-compose
    want docker-registry docker-registry
    want jq jq
    want curl curl
    want iptables iptables
    want rsyslogd rsyslog
    want chromium chromium
    ls /usr/lib/*/rsyslog/lmnsd_gtls.so >/dev/null 2>&1 || missing+=(rsyslog-gnutls)
    python3 -c 'import docker' 2>/dev/null || [ -d /usr/lib/python3/dist-packages/docker ] || missing+=(python3-docker)
    [ -x /usr/lib/postgresql/15/bin/postgres ] || missing+=(postgresql)
fi

docker_cli() {
    command -v docker >/dev/null && return
    # Debian's docker.io carries CLI and daemon in one package: take the client out without installing the daemon.
    echo "setup: taking the docker CLI out of Debian's docker.io"
    tmp=$(mktemp -d)
    (cd "$tmp" && apt-get download -q -o APT::Sandbox::User=root docker.io >/dev/null && dpkg -x docker.io_*.deb .)
    install -m 0755 "$tmp/usr/bin/docker" /usr/local/bin/docker
    rm -rf "$tmp"
}

# no_services keeps packages from starting their daemons while they are installed.
no_services() {
    [ -e /usr/sbin/policy-rc.d ] && return
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 0755 /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
}

if [ "${#missing[@]}" -gt 0 ] || ! command -v docker >/dev/null; then
    [ "$(id -u)" = 0 ] || { echo "setup: missing ${missing[*]} docker: run as root, or install them yourself" >&2; exit 1; }
    command -v apt-get >/dev/null || { echo "setup: missing ${missing[*]}: install them (this script knows only Debian)" >&2; exit 1; }
    [ "${#missing[@]}" -eq 0 ] || echo "setup: installing ${missing[*]}"
    apt-get update -q >/dev/null
    no_services
    if [ "${#missing[@]}" -gt 0 ]; then
        DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes apt-get install -qy --no-install-recommends "${missing[@]}" >/dev/null
    fi
    docker_cli
fi
if [ "$what" = bench ] && ! command -v dockerd >/dev/null; then
    echo "setup: installing dockerd and docker-registry as yardsticks (not started)"
    apt-get update -q >/dev/null
    no_services
    cli=$(command -v docker || true)
    DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes apt-get install -qy --no-install-recommends docker.io docker-registry >/dev/null
    [ -z "$cli" ] || echo "setup: the docker CLI stays $cli"
fi

"$repo/scripts/go.sh"

# The S3 server of the tests, built from source into the tree's own cache.
if [ "$what" = test ] && ! command -v versitygw >/dev/null; then
    if [ ! -x "$repo/.cache/bin/versitygw" ]; then
        echo "setup: building versitygw, the S3 server of the tests"
        (cd / && CGO_ENABLED=0 GOBIN="$repo/.cache/bin" go install github.com/versity/versitygw/cmd/versitygw@v1.8.0) ||
            echo "setup: versitygw is not to be had: the tests with S3 are skipped" >&2
    fi
fi
