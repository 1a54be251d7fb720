#!/usr/bin/env bash
# Writes a tar of a small root filesystem made from the host's static busybox to standard output.
set -euo pipefail
bb=$(command -v busybox)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp"/{bin,dev,etc,home,proc,root,sys,tmp,usr/bin,usr/sbin,var/spool/mail,var/www}
chmod 1777 "$tmp/tmp"
cp "$bb" "$tmp/bin/busybox"
"$tmp/bin/busybox" --install "$tmp/bin" # one process: hundreds take a minute where processes are dear
ln -s /bin/env "$tmp/usr/bin/env"
cat >"$tmp/etc/passwd" <<'P'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
P
cat >"$tmp/etc/group" <<'G'
root:x:0:
daemon:x:1:
tty:x:5:
www-data:x:33:
users:x:100:
nogroup:x:65534:
G
tar --numeric-owner --owner=0 --group=0 --sort=name --mtime=@0 -C "$tmp" -c .
