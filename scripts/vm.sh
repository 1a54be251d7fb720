#!/usr/bin/env bash
# Runs black-box tests in a virtual machine with what few hosts have together: systemd as init, control groups v2,
# AppArmor, project quotas, NFS, CRIU, ipvlan, VLANs and firewalld. `make test-vm` calls it as root.
#
# scripts/vm.sh [PACKAGE…]   directories of test packages; the default is what proves something that other hosts cannot
#   VM_RUN=REGEXP    only these tests            VM_MEMORY=4096, VM_TIMEOUT=2400 (seconds)
#   VM_ACCEL=kvm|uml|tcg  kvm: qemu on the host's processor (the default where it virtualizes); uml: User Mode Linux, a kernel
#                    that is a process (the default elsewhere; it has neither nf_tables' IPv4 nor cpuset nor CRIU's calls: what
#                    needs them is skipped); tcg: qemu with a translated processor, which has all and is ten times slower
#   VM_INIT=COMMAND  a command that the machine runs before the tests
#
# .cache/vm keeps the root file system (made once for each list of packages below; needs a Debian mirror), the whole output
# (output.log) and the kernel's and systemd's (console.log).
set -euo pipefail
cd "$(dirname "$0")/.."
cache=$PWD/.cache/vm
packages=("$@")
[ "${#packages[@]}" -gt 0 ] || packages=(test/vm test/enginewhole test/networks test/daemon
    internal/driver/projectquota internal/driver/apparmor internal/driver/cgroup internal/driver/hostcheck)

suite=bookworm
mirror=${VM_MIRROR:-http://deb.debian.org/debian}
software=(linux-image-amd64 user-mode-linux systemd-sysv dbus udev kmod apparmor libpam-systemd
    nfs-kernel-server nfs-common criu firewalld e2fsprogs xfsprogs quota iproute2 nftables iptables procps util-linux bsdutils bsdextrautils
    runc crun busybox-static git curl jq openssl ca-certificates rsyslog rsyslog-gnutls strace
    docker-compose python3-docker skopeo)

[ "$(id -u)" = 0 ] || { echo "test-vm: needs root: the machine's files belong to its root" >&2; exit 1; }

image=$cache/root-$(echo "$suite ${software[*]} $(sed -n '/^root_image()/,/^}/p' "$0")" | sha256sum | cut -c1-12)

# root_image makes $image.ext4 and what boots it: $image.kernel with $image.initrd, and $image.uml.
root_image() {
    echo "test-vm: making the root file system (once, some minutes)"
    mkdir -p "$cache"
    rm -rf --one-file-system "$cache"/root-* "$cache/tree"
    local list tree=$cache/tree
    list=$(IFS=,; echo "${software[*]}")
    # In a mount namespace of its own: what an interrupted run has mounted below the tree is gone with it.
    nice unshare --mount mmdebstrap --quiet --variant=minbase --include="$list" --aptopt='Acquire::Languages "none"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$suite" "$tree" "$mirror"
    for unit in firewalld nfs-server nfs-blkmap rsyslog docker apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
        e2scrub_reap fstrim.timer; do
        systemctl --root="$tree" --quiet disable "$unit" 2>/dev/null || true
    done
    systemctl --root="$tree" --quiet mask e2scrub_reap.service systemd-firstboot.service getty@tty1.service 2>/dev/null || true
    echo longshore-vm >"$tree/etc/hostname"
    printf '127.0.0.1 localhost longshore-vm\n::1 localhost\n' >"$tree/etc/hosts"
    printf 'LABEL=root / ext4 defaults 0 0\nLABEL=longshore /longshore ext4 defaults 0 0\n' >"$tree/etc/fstab"
    mkdir -p "$tree/longshore" "$tree/etc/systemd/system/multi-user.target.wants"
    cat >"$tree/etc/systemd/system/longshore-vm.service" <<'UNIT'
[Unit]
Description=Black-box tests of Longshore
RequiresMountsFor=/longshore
After=network.target dbus.service apparmor.service
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=oneshot
ExecStart=/longshore/guest
Environment=HOME=/root
Delegate=yes
LimitNOFILE=1048576
LimitMEMLOCK=infinity
TasksMax=infinity

[Install]
WantedBy=multi-user.target
UNIT
    ln -s ../longshore-vm.service "$tree/etc/systemd/system/multi-user.target.wants/"
    initial_root "$tree"
    mv "$tree"/usr/bin/linux.uml "$image.uml"
    mv "$tree"/usr/lib/uml/modules/* "$tree/usr/lib/modules/"
    truncate -s 16G "$image.part"
    nice mkfs.ext4 -q -F -E lazy_itable_init=1,lazy_journal_init=1,nodiscard -L root -d "$tree" "$image.part"
    mv "$image.part" "$image.ext4"
    rm -rf --one-file-system "$tree"
}

# initial_root makes the first file system of the machine: a busybox that loads what the disk needs.
initial_root() {
    local tree=$1 version work
    version=$(basename "$tree"/boot/vmlinuz-* | cut -d- -f2-)
    work=$(mktemp -d)
    mkdir -p "$work"/{bin,dev,proc,sys,root,modules}
    cp "$tree/bin/busybox" "$work/bin/"
    local n=100
    for module in virtio_pci virtio_blk crc32c_generic ext4; do
        while read -r insmod path _; do
            [ "$insmod" = insmod ] || continue
            ls "$work"/modules/*-"$(basename "$path")" >/dev/null 2>&1 && continue
            n=$((n + 1))
            cp "$path" "$work/modules/$n-$(basename "$path")"
        done < <(modprobe -d "$tree" -S "$version" --show-depends "$module")
    done
    cat >"$work/init" <<'INIT'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
for m in /modules/*; do $b insmod "$m"; done
until $b mount -t ext4 -o ro /dev/vda /root; do $b sleep 0.1; done
exec $b switch_root /root /sbin/init
INIT
    chmod 0755 "$work/init"
    (cd "$work" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$image.initrd"
    cp "$tree/boot/vmlinuz-$version" "$image.kernel"
    rm -rf "$work"
}

# programs makes $cache/disk.ext4: the tree's tracked files, the programs, the tests' programs and what runs them.
programs() {
    local stage=$cache/stage
    rm -rf "$stage"
    mkdir -p "$stage"/{src,tests}
    git ls-files -co --exclude-standard -z | tar --null -T - --ignore-failed-read -c 2>/dev/null | tar -x -C "$stage/src"
    cp -r bin "$stage/src/bin"
    install -m 0755 "$(command -v docker)" "$stage/docker"
    : >"$stage/packages"
    for package in "${packages[@]}"; do
        package=${package#./}
        nice go test -c -o "$stage/tests/${package//\//-}" "./$package"
        echo "$package" >>"$stage/packages"
    done
    printf 'export VM_RUN=%q VM_TIMEOUT=%q LONGSHORE_VM=1\n%s\n' "${VM_RUN:-}" "${VM_TIMEOUT:-2400}" "${VM_INIT:-}" >"$stage/settings"
    install -m 0755 scripts/vm-guest.sh "$stage/guest"
    rm -f "$cache/disk.ext4"
    truncate -s $(($(du -sm "$stage" | cut -f1) * 5 / 4 + 256))M "$cache/disk.ext4"
    mkfs.ext4 -q -F -E lazy_itable_init=1,nodiscard -L longshore -d "$stage" "$cache/disk.ext4"
    rm -rf "$stage"
}

# machine boots, shows what matters of the tests' output as it comes, and answers with the tests' exit code.
machine() {
    : >"$cache/output.log"
    local accel=${VM_ACCEL:-uml}
    # Other modules than these two make a /dev/kvm as well, which runs kernels of their own only.
    if [ -z "${VM_ACCEL:-}" ] && [ -w /dev/kvm ] && { [ -d /sys/module/kvm_intel ] || [ -d /sys/module/kvm_amd ]; }; then accel=kvm; fi
    local arguments="rw systemd.unified_cgroup_hierarchy=1 apparmor=1 security=apparmor systemd.mask=apparmor.service systemd.journald.forward_to_console=1"
    local memory=${VM_MEMORY:-4096} command
    if [ "$accel" = uml ]; then
        rm -f "$cache/cow"
        # shellcheck disable=SC2206 # the arguments are words
        command=("$image.uml" "mem=${memory}M" "umid=longshore-$$" "ubd0=$cache/cow,$image.ext4" "ubd1=$cache/disk.ext4" root=/dev/ubda
            con=null con0=null,fd:1 "longshore.output=$cache/output.log" $arguments)
    else
        local cpu=host
        [ "$accel" = kvm ] || { cpu=max; accel=tcg,thread=multi,tb-size=1024; }
        command=(qemu-system-x86_64 -accel "$accel" -cpu "$cpu" -smp 2 -m "$memory" -display none -monitor none -no-reboot -nic none
            -object rng-random,id=rng,filename=/dev/urandom -device virtio-rng-pci,rng=rng
            -kernel "$image.kernel" -initrd "$image.initrd" -append "root=/dev/vda console=ttyS0 mitigations=off $arguments"
            -drive "file=$image.ext4,format=raw,if=virtio,snapshot=on,cache=unsafe" -drive "file=$cache/disk.ext4,format=raw,if=virtio,cache=unsafe"
            -serial stdio -device virtio-serial -chardev "file,id=out,path=$cache/output.log" -device virtserialport,chardev=out)
    fi
    # User Mode Linux keeps its memory in a file; one on a disk is written back all the time.
    local room=$cache
    [ "$(df -m --output=avail /dev/shm 2>/dev/null | tail -1)" -gt $((memory * 5 / 4)) ] 2>/dev/null && room=/dev/shm
    TMPDIR=$room timeout --foreground "${VM_TIMEOUT:-2400}" "${command[@]}" </dev/null >"$cache/console.log" 2>&1 &
    local vm=$!
    trap 'kill $vm 2>/dev/null || true' EXIT
    tail -n +1 -f --pid=$vm "$cache/output.log" | grep --line-buffered -E '^(vm: |ok |FAIL|panic:|--- PASS| *--- (FAIL|SKIP))|^ +[a-z_]+_test.go:[0-9]+: ' || true
    wait $vm || true
    trap - EXIT
    rm -f "$cache/cow"
    local code
    code=$(sed -n 's/\r$//; s/^vm: exit //p' "$cache/output.log")
    [ -n "$code" ] || { echo "test-vm: the machine ended before the tests did: see $cache/console.log" >&2; tail -20 "$cache/console.log" >&2; exit 1; }
    exit "$code"
}

[ -s "$image.ext4" ] || root_image
programs
machine
