#!/usr/bin/env bash
# Puts the Go that go.mod names into .cache/go, from the module proxy, where there is none or one that is too old to fetch
# it by itself: go.sh [enough], which only tells whether there is one. The sums are those of the proxy's archives; they change with go.mod's version.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^go //p' go.mod)
declare -A sums=(
    [1.26.8-amd64]=30c2b1bf7dcc88d3eb0a1364e47ddd9128edb3110a30e8a0ef61cd5856b31de7
    [1.26.8-arm64]=02b36b6787b3ac767668f630e2998df45a3b1f9ffee08d1bf3ef6487cd658d99
)

case $(go version 2>/dev/null || true) in
"go version go1."[0-9]" "* | "go version go1."[0-9].* | "go version go1.1"* | "go version go1.20"*) ;; # knows no toolchains
"go version go1."*) exit 0 ;;
esac
[ "${1:-}" != enough ] || exit 1

arch=$(dpkg --print-architecture)
sum=${sums[$version-$arch]:-}
[ -n "$sum" ] || {
    echo "setup: Longshore is built with Go $version: install it for $arch, for example from https://go.dev/dl, and put it on the PATH" >&2
    exit 1
}
name=golang.org/toolchain@v0.0.1-go$version.linux-$arch
echo "setup: Go $version into .cache/go (70 MB)"
tmp=.cache/go.new
rm -rf "$tmp"
mkdir -p "$tmp"
trap 'rm -rf "$tmp"' EXIT
proxy=${GOPROXY:-}
case $proxy in http*) proxy=${proxy%%[,|]*} ;; *) proxy=https://proxy.golang.org ;; esac
curl -fsSL --retry 3 -o "$tmp/go.zip" "$proxy/golang.org/toolchain/@v/${name#*@}.zip"
echo "$sum  $tmp/go.zip" | sha256sum -c --quiet
unzip -q "$tmp/go.zip" -d "$tmp"
chmod +x "$tmp/$name"/bin/* "$tmp/$name"/pkg/tool/*/*
rm -rf .cache/go
mv "$tmp/$name" .cache/go
