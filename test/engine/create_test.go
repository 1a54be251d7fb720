package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"longshore/test/harness"
)

// TestCreate: what each option of create makes of a container, seen from inside.
func TestCreate(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	part(t, d, "configuration", createConfig)
	part(t, d, "mounts", createMounts)
	part(t, d, "security", createSecurity)
	part(t, d, "devices, limits, sysctls", createLimits)
	part(t, d, "namespaces", createNamespaces)
	part(t, d, "refusals", createRefusals)
}

// inside runs shell scripts in containers of the given options and checks what they print.
func inside(t *testing.T, d *harness.Daemon, table []insideCase) {
	t.Helper()
	for _, c := range table {
		args := append(append([]string{"run", "--rm"}, strings.Fields(c.options)...), "busybox", "sh", "-c", c.script)
		r := d.Docker(args...)
		if got := strings.TrimSpace(r.Out); got != c.want || r.Code != 0 {
			t.Errorf("docker run %s: %s\n%s\nexit %d\n%s%s\nwant\n%s", c.options, c.script, got, r.Code, r.Out, r.Err, c.want)
		}
	}
}

type insideCase struct{ options, script, want string }

func createConfig(t *testing.T, d *harness.Daemon) {
	file := filepath.Join(t.TempDir(), "env")
	write(t, file, "# a comment\nF=from file\nG\n")
	inside(t, d, []insideCase{
		{"-h box --domainname example.org", "hostname; cat /proc/sys/kernel/domainname; grep -c 'box.example.org box' /etc/hosts", "box\nexample.org\n1"},
		{"-e A=b -e EMPTY= --env-file " + file, `echo "$A|$EMPTY|$F"; env | grep -c ^EMPTY=`, "b||from file\n1"},
		{"-u 33", "id -u; id -g", "33\n33"},
		{"-u nobody:users", "id -u; id -g", "65534\n100"},
		{"-u 12345:54321", "id -u; id -g", "12345\n54321"},
		{"--group-add tty --group-add 777", "id -G", "0 5 777"},
		{"-w /made/on/the/way", "pwd", "/made/on/the/way"},
		{"--entrypoint /bin/echo", "x", "sh -c x"},
		{"--add-host a:1.2.3.4 --add-host gate:host-gateway", "grep -c '1.2.3.4.a$' /etc/hosts; grep gate /etc/hosts | cut -f1 | cut -d. -f1 | grep -c '^1'", "1\n1"},
		{"--dns 9.9.9.9 --dns-search corp --dns-option ndots:3", "cat /etc/resolv.conf | grep -v '^#' | sort", "nameserver 9.9.9.9\noptions ndots:3\nsearch corp"},
		{"--init", "cat /proc/1/comm | head -c 4; echo; ps | grep -c '^ *1 .*sh'", "dock\n1"},
		{"-t", "test -t 0 && test -t 1 && echo yes", "yes"},
	})
	id := d.OK("create", "--name", "conf", "-l", "k=v", "-l", "empty", "--expose", "80", "--expose", "90-91/udp", "--stop-signal", "SIGINT", "--stop-timeout", "3", "--restart", "on-failure:4",
		"--log-driver", "json-file", "--log-opt", "max-size=1m", "--log-opt", "tag={{.Name}}", "--health-cmd", "x", "--health-interval", "3s", "--health-timeout", "2s", "--health-retries", "5", "--health-start-period", "1s",
		"--health-start-interval", "1s", "--annotation", "org.example=1", "--cidfile", filepath.Join(t.TempDir(), "cid"), "--mac-address", "02:42:ac:11:00:77", "-i", "-a", "stdin", "-a", "stdout", "busybox")
	says(t, d, `{"empty":"","k":"v"} {"80/tcp":{},"90/udp":{},"91/udp":{}} SIGINT 3 {"Name":"on-failure","MaximumRetryCount":4} {"Type":"json-file","Config":{"max-size":"1m","tag":"{{.Name}}"}} `+
		`{"Test":["CMD-SHELL","x"],"Interval":3000000000,"Timeout":2000000000,"StartPeriod":1000000000,"StartInterval":1000000000,"Retries":5} {"org.example":"1"} true true false`,
		"inspect", "-f", `{{json .Config.Labels}} {{json .Config.ExposedPorts}} {{.Config.StopSignal}} {{.Config.StopTimeout}} {{json .HostConfig.RestartPolicy}} {{json .HostConfig.LogConfig}} {{json .Config.Healthcheck}} {{json .HostConfig.Annotations}} {{.Config.OpenStdin}} {{.Config.AttachStdin}} {{.Config.AttachStderr}}`, id)
	d.OK("rm", id)
	if name := d.OK("inspect", "-f", "{{.Name}}", d.OK("create", "busybox")); !strings.Contains(name, "_") {
		t.Errorf("the made-up name is %q", name)
	}
	says(t, d, "02:42:ac:11:00:77", "run", "--rm", "--mac-address", "02:42:ac:11:00:77", "busybox", "cat", "/sys/class/net/eth0/address")
}

func createMounts(t *testing.T, d *harness.Daemon) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), "host\n")
	if err := os.Symlink("/etc", filepath.Join(dir, "outside")); err != nil {
		t.Fatal(err)
	}
	d.OK("create", "--name", "giver", "-v", "given:/given", "-v", dir+":/bound:ro", "-v", "/anon", "busybox")
	inside(t, d, []insideCase{
		{"-v " + dir + ":/b", "cat /b/f; echo w >/b/w && echo written", "host\nwritten"},
		{"-v " + dir + ":/b:ro", "cat /b/w; touch /b/x 2>/dev/null || echo refused", "w\nrefused"},
		{"-v " + dir + "/f:/etc/one", "cat /etc/one", "host"},
		{"-v " + dir + "/made/by/engine:/b", "ls -d /b", "/b"},
		{"--mount type=bind,source=" + dir + ",target=/b,readonly", "cat /b/f; touch /b/x 2>/dev/null || echo refused", "host\nrefused"},
		{"--mount type=volume,source=vol,target=/v,volume-label=a=b", "echo kept >/v/f; cat /v/f", "kept"},
		{"--mount type=volume,source=vol,target=/v,readonly", "cat /v/f; touch /v/x 2>/dev/null || echo refused", "kept\nrefused"},
		{"--mount type=volume,source=nocopy,target=/etc,volume-nocopy", "ls /etc | grep -c group || true", "0"},
		{"-v copied:/etc", "ls /etc | grep -c group", "1"},
		{"-v vol:/v:nocopy", "cat /v/f", "kept"},
		{"--mount type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=0700", "df -k /t | tail -1 | awk '{print $2}'; stat -c %a /t", "1024\n700"},
		{"--tmpfs /t:size=2m,mode=1700,noexec", "df -k /t | tail -1 | awk '{print $2}'; stat -c %a /t; grep ' /t ' /proc/mounts | grep -c noexec", "2048\n1700\n1"},
		{"--shm-size 3m", "df -k /dev/shm | tail -1 | awk '{print $2}'", "3072"},
		{"", "df -k /dev/shm | tail -1 | awk '{print $2}'", "65536"},
		{"--read-only", "touch /x 2>/dev/null || echo refused; touch /dev/shm/x && echo shm", "refused\nshm"},
		{"--read-only --tmpfs /run -v vol:/v", "touch /run/x /v/x && echo written", "written"},
		{"--volumes-from giver", "ls -d /given /bound /anon; touch /given/x; touch /bound/x 2>/dev/null || echo refused", "/anon\n/bound\n/given\nrefused"},
		{"--volumes-from giver:ro", "touch /given/x 2>/dev/null || echo refused", "refused"},
	})
	says(t, d, "b", "volume", "inspect", "-f", "{{.Labels.a}}", "vol")
	says(t, d, "bind "+dir+" /b false rprivate", "inspect", "-f", `{{range .Mounts}}{{.Type}} {{.Source}} {{.Destination}} {{.RW}} {{.Propagation}}{{end}}`, d.OK("create", "-v", dir+":/b:ro", "busybox"))
	d.Fails("bind source path does not exist: "+dir+"/none", "create", "--mount", "type=bind,source="+dir+"/none,target=/b", "busybox")
	d.Fails("Duplicate mount point: /b", "create", "-v", dir+":/b", "-v", "vol:/b", "busybox")
	d.Fails("destination can't be '/'", "create", "-v", dir+":/", "busybox")
	d.Fails("includes invalid characters for a local volume name", "create", "-v", "rel/ative:/b", "busybox")
	d.Fails("No such container: nobody", "create", "--volumes-from", "nobody", "busybox")
	d.Fails("but it is not a shared mount", "run", "--rm", "-v", dir+":/b:rshared", "busybox", "true")
	d.Fails("invalid mode: nonsense", "create", "-v", "vol:/b:nonsense", "busybox")
}

func createSecurity(t *testing.T, d *harness.Daemon) {
	const caps = "grep CapEff /proc/self/status | cut -f2"
	profile := filepath.Join(t.TempDir(), "seccomp.json")
	write(t, profile, `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}`)
	inside(t, d, []insideCase{
		{"", caps, "00000000a80425fb"},
		{"--cap-add NET_ADMIN", caps + "; ip link set lo mtu 1400 && echo set", "00000000a80435fb\nset"},
		{"--cap-drop CAP_CHOWN", caps, "00000000a80425fa"},
		{"--cap-drop ALL --cap-add CHOWN", caps, "0000000000000001"},
		{"--cap-add ALL --cap-drop SYS_ADMIN", "test " + "$(" + caps + ") != 00000000a80425fb && echo more", "more"},
		{"--user 33 --cap-add NET_ADMIN", caps, "0000000000000000"},
		{"", "grep Seccomp: /proc/self/status | cut -f2; unshare -m true 2>/dev/null || echo refused", "2\nrefused"},
		{"--security-opt seccomp=unconfined", "grep Seccomp: /proc/self/status | cut -f2", "0"},
		{"--security-opt seccomp=" + profile, "mkdir /m 2>&1 || true", "mkdir: can't create directory '/m': Operation not permitted"},
		{"--security-opt no-new-privileges", "grep NoNewPrivs /proc/self/status | cut -f2", "1"},
		{"--privileged", "test -e /dev/fuse && echo devices; grep Seccomp: /proc/self/status | cut -f2; mount -t tmpfs x /mnt 2>/dev/null || mkdir /mnt && mount -t tmpfs x /mnt && echo mounted", "devices\n0\nmounted"},
		{"", "cat /proc/kcore | wc -c; ls /proc/acpi /sys/firmware 2>/dev/null | grep -v : | grep -c .; touch /proc/sys/kernel/hostname 2>/dev/null || echo refused", "0\n0\nrefused"},
		{"--security-opt systempaths=unconfined", "test -w /proc/sys/kernel/hostname && echo writable", "writable"},
	})
	says(t, d, "[no-new-privileges] [seccomp=unconfined]", "inspect", "-f", `[{{index .HostConfig.SecurityOpt 0}}] [{{index .HostConfig.SecurityOpt 1}}]`,
		d.OK("create", "--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined", "busybox"))
	d.Fails(`invalid CapAdd: unknown capability: "CAP_NONSENSE"`, "create", "--cap-add", "NONSENSE", "busybox")
	d.Fails("Invalid --security-opt", "create", "--security-opt", "nonsense", "busybox")
	if r := d.Docker("create", "--security-opt", "seccomp="+filepath.Join(t.TempDir(), "none"), "busybox"); r.Code != 1 && r.Code != 125 {
		t.Errorf("a missing profile: %+v", r)
	}
}

func createLimits(t *testing.T, d *harness.Daemon) {
	inside(t, d, []insideCase{
		{"--device /dev/fuse:/dev/mine:r", "test -c /dev/mine; (exec 3</dev/mine) && echo read; (exec 3>/dev/mine) 2>/dev/null || echo refused", "read\nrefused"},
		{"--device /dev/fuse", "test -c /dev/fuse && echo there", "there"},
		{"--ulimit nofile=100:200 --ulimit core=0", "ulimit -n; ulimit -Hn; ulimit -c", "100\n200\n0"},
		{"--sysctl net.ipv4.ip_unprivileged_port_start=99 --sysctl kernel.msgmax=4096", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax", "99\n4096"},
		{"--oom-score-adj 321", "cat /proc/self/oom_score_adj", "321"},
	})
	id := d.OK("run", "-d", "--name", "limited", "-m", "32m", "--memory-swap", "48m", "--memory-reservation", "16m", "--memory-swappiness", "10", "-c", "300", "--cpu-period", "50000", "--cpu-quota", "25000",
		"--cpuset-cpus", "0", "--cpuset-mems", "0", "--pids-limit", "77", "--blkio-weight", "300", "--oom-kill-disable=false", "--device-cgroup-rule", "c 10:200 rwm", "busybox", "sleep", "1000")
	defer d.OK("rm", "-f", id)
	for want, files := range map[string][2]string{
		"33554432": {"memory/memory.limit_in_bytes", "memory.max"}, "50331648": {"memory/memory.memsw.limit_in_bytes", ""}, "16777216": {"memory/memory.soft_limit_in_bytes", "memory.low"},
		"10": {"memory/memory.swappiness", ""}, "300": {"cpu/cpu.shares", ""}, "50000": {"cpu/cpu.cfs_period_us", ""}, "25000": {"cpu/cpu.cfs_quota_us", ""}, "0": {"cpuset/cpuset.cpus", "cpuset.cpus"}, "77": {"pids/pids.max", "pids.max"},
	} {
		if got, ok := group(d, id, files); ok && got != want {
			t.Errorf("%v is %q, want %s", files, got, want)
		}
	}
	d.OK("update", "-m", "64m", "--memory-swap", "80m", "-c", "200", "--cpu-period", "100000", "--cpu-quota", "30000", "--pids-limit", "88", "--restart", "on-failure:2", "--memory-reservation", "20m", id)
	for want, files := range map[string][2]string{
		"67108864": {"memory/memory.limit_in_bytes", "memory.max"}, "83886080": {"memory/memory.memsw.limit_in_bytes", ""}, "20971520": {"memory/memory.soft_limit_in_bytes", "memory.low"},
		"200": {"cpu/cpu.shares", ""}, "30000": {"cpu/cpu.cfs_quota_us", ""}, "88": {"pids/pids.max", "pids.max"},
	} {
		if got, ok := group(d, id, files); ok && got != want {
			t.Errorf("after update: %v is %q, want %s", files, got, want)
		}
	}
	says(t, d, "67108864 200 88 on-failure 2", "inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.CpuShares}} {{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}", id)
	d.Fails("Minimum memory limit allowed is 6MB", "update", "-m", "1m", id)
	d.Fails("Memory limit should be smaller than already set memoryswap limit", "update", "-m", "100m", id)
	d.OK("update", "--cpuset-cpus", "0-1", id)
	if got, ok := group(d, id, [2]string{"cpuset/cpuset.cpus", "cpuset.cpus"}); ok && got != "0-1" {
		t.Errorf("cpuset is %s", got)
	}
	says(t, d, "500000000", "inspect", "-f", "{{.HostConfig.NanoCpus}}", d.OK("create", "--cpus", "0.5", "busybox"))
}

// group reads a file of a container's group: of version 1 with its controller, or of version 2; not ok where the host has neither.
func group(d *harness.Daemon, id string, files [2]string) (string, bool) {
	controller, file, _ := strings.Cut(files[0], "/")
	for _, path := range []string{
		filepath.Join("/sys/fs/cgroup", controller, filepath.Base(d.Dir), id, file), filepath.Join("/sys/fs/cgroup", filepath.Base(d.Dir), id, files[1]),
	} {
		if b, err := os.ReadFile(path); err == nil {
			return strings.TrimSpace(string(b)), true
		}
	}
	return "", false
}

func createNamespaces(t *testing.T, d *harness.Daemon) {
	id := d.OK("run", "-d", "--name", "owner", "--ipc", "shareable", "busybox", "sleep", "1000")
	defer d.OK("rm", "-f", id)
	of := func(ns string) string { return d.OK("exec", id, "readlink", "/proc/self/ns/"+ns) }
	host := func(ns string) string {
		link, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			t.Fatal(err)
		}
		return link
	}
	link := func(ns string) string { return "readlink /proc/self/ns/" + ns }
	inside(t, d, []insideCase{
		{"--network container:owner", link("net"), of("net")},
		{"--ipc container:owner", link("ipc"), of("ipc")},
		{"--pid container:owner", link("pid"), of("pid")},
		{"--ipc host", link("ipc"), host("ipc")},
		{"--pid host", link("pid"), host("pid")},
		{"--uts host", link("uts"), host("uts")},
		{"--cgroupns host", link("cgroup"), host("cgroup")},
		{"--ipc none", "ls /dev/shm 2>/dev/null | wc -l; grep -c /dev/shm /proc/mounts || true", "0\n0"},
		{"--ipc private", "grep -c /dev/shm /proc/mounts", "1"},
		{"--userns host", link("user"), host("user")},
		{"--cgroupns private", "test $(readlink /proc/self/ns/cgroup) != " + strings.ReplaceAll(host("cgroup"), "[", `\[`) + " && echo own", "own"},
	})
	d.OK("run", "-d", "--name", "closed", "--ipc", "private", "busybox", "sleep", "1000")
	defer d.OK("rm", "-f", "closed")
	d.Fails("non-shareable IPC", "run", "--rm", "--ipc", "container:closed", "busybox", "true")
	d.Fails("No such container: nobody", "run", "--rm", "--network", "container:nobody", "busybox", "true")
	d.OK("create", "--name", "asleep", "busybox")
	d.Fails("cannot join network namespace of a non running container", "run", "--rm", "--network", "container:asleep", "busybox", "true")
	// Links of old, with their variables.
	d.OK("run", "-d", "--name", "db", "--expose", "5432", "-e", "SECRET=1", "busybox", "sleep", "1000")
	defer d.OK("rm", "-f", "db")
	tells(t, d, []string{"\tdata ", "DATA_PORT_5432_TCP=tcp://", "DATA_ENV_SECRET=1", "DATA_NAME="}, "run", "--rm", "--link", "db:data", "busybox", "sh", "-c", "cat /etc/hosts; env")
}

func createRefusals(t *testing.T, d *harness.Daemon) {
	before := d.OK("ps", "-aq")
	for words, options := range map[string]string{
		"No such image: none":                                                    "none --pull=never",
		"Minimum memory limit allowed is 6MB":                                    "busybox -m 5m",
		"Minimum memoryswap limit should be larger than memory limit":            "busybox -m 64m --memory-swap 32m",
		"You should always set the Memory limit when using Memoryswap limit":     "busybox --memory-swap 64m",
		"Minimum memory limit can not be less than memory reservation limit":     "busybox -m 64m --memory-reservation 128m",
		"range of CPUs is from 0.01 to":                                          "busybox --cpus 10000",
		"Conflicting options: Nano CPUs and CPU Period cannot both be set":       "busybox --cpus 1 --cpu-period 1000",
		"CPU cfs quota can not be less than 1ms":                                 "busybox --cpu-quota 999",
		"Requested CPUs are not available":                                       "busybox --cpuset-cpus 4095",
		"range for oom score adj is [-1000, 1000]":                               "busybox --oom-score-adj 1001",
		"conflicting options: hostname and the network mode":                     "busybox -h x --network container:y",
		"conflicting options: dns and the network mode":                          "busybox --dns 1.1.1.1 --network container:y",
		"it needs to be an absolute path":                                        "busybox -w rel",
		"invalid IPC mode: nonsense":                                             "busybox --ipc nonsense",
		"logger: no log driver named 'nonsense' is registered":                   "busybox --log-driver nonsense",
		"unknown log opt 'nonsense' for json-file log driver":                    "busybox --log-opt nonsense=1",
		"unknown or invalid runtime name: nonsense":                              "busybox --runtime nonsense",
		"Invalid container name (x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed": "busybox --name x",
	} {
		image, rest, _ := strings.Cut(options, " ")
		r := d.Docker(append(append([]string{"create"}, strings.Fields(rest)...), image)...)
		if r.Code == 0 || !strings.Contains(r.Err, words) {
			t.Errorf("docker create %s: exit %d, want %q: %s", rest, r.Code, words, r.Err)
		}
	}
	if after := d.OK("ps", "-aq"); after != before {
		t.Errorf("containers before:\n%s\nand after refusals:\n%s", before, after)
	}
	if status, text := exchange(t, d, "POST", "/containers/create", `{"Image":"busybox","HostConfig":{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}}`); status != 400 || !strings.Contains(text, "can't create 'AutoRemove' container with restart policy") {
		t.Errorf("AutoRemove and a restart policy: %d %s", status, text)
	}
	d.OK("create", "--name", "lost", "--network", "nonsense", "busybox") // the network may come before it starts
	d.Fails("network nonsense not found", "start", "lost")
	says(t, d, "created", "inspect", "-f", "{{.State.Status}}", "lost")
	d.OK("rm", "lost")
	for _, sysctl := range []string{"kernel.hostname=x", "nonsense=1"} {
		if r := d.Docker("run", "--rm", "--sysctl", sysctl, "busybox", "true"); r.Code != 125 && r.Code != 127 && r.Code != 126 {
			t.Errorf("sysctl %s: %s", sysctl, fmt.Sprint(r))
		}
	}
}
