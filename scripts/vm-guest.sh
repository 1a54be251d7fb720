#!/usr/bin/env bash
# Runs inside the virtual machine of scripts/vm.sh: all tests of the disk, one package after the other.
set -uo pipefail
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
output=$(sed -n 's/.*longshore\.output=\([^ ]*\).*/\1/p' /proc/cmdline)
if [ -n "$output" ]; then # User Mode Linux: a file of the host's
    mkdir -p /host
    mount -t hostfs none /host -o "$(dirname "$output")"
    output=/host/$(basename "$output")
    for name in iptables ip6tables; do update-alternatives --set $name /usr/sbin/$name-legacy >/dev/null; done
    modprobe -a iptable_nat ip6table_nat iptable_filter ip6table_filter
else
    modprobe virtio_console
    until output=$(echo /dev/vport*p1) && [ -c "$output" ]; do sleep 0.1; done
fi
exec >>"$output" 2>&1 </dev/null
install -m 0755 /longshore/docker /usr/local/bin/docker
ip link set lo up
. /longshore/settings
echo "vm: $(uname -r), systemd $(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p'), $(stat -fc %T /sys/fs/cgroup)"
code=0
while read -r package; do
    cd "/longshore/src/$package" || exit 1
    began=$SECONDS
    if "/longshore/tests/${package//\//-}" -test.v -test.timeout "${VM_TIMEOUT}s" -test.run "$VM_RUN"; then
        echo "ok $package $((SECONDS - began))s"
    else
        echo "FAIL $package $((SECONDS - began))s"
        code=1
    fi
done </longshore/packages
echo "vm: exit $code"
