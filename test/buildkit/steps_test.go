package buildkit_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/util/entitlements"

	"longshore/test/harness"
)

// said builds a Dockerfile with attributes and gives what its steps wrote.
func said(t *testing.T, c *client.Client, attrs map[string]string, dockerfile ...string) string {
	t.Helper()
	opt := options(t, lines(dockerfile...), nil)
	for k, v := range attrs {
		opt.FrontendAttrs[k] = v
	}
	if attrs["force-network-mode"] == "host" {
		opt.AllowedEntitlements = []string{"network.host"}
	}
	return must(t, c, opt).log
}

// TestSteps looks at what the processes of steps find.
func TestSteps(t *testing.T) {
	d := harness.Start(t, "--dns", "192.0.2.53")
	d.Busybox()
	d.OK("network", "create", "--subnet", "10.77.0.0/24", "mine")
	c := connect(t, d)
	const look = "RUN ip -o -4 addr show; cat /etc/resolv.conf /etc/hosts; ip route"
	for name, part := range map[string]struct {
		attrs      map[string]string
		dockerfile []string
		want, not  []string
	}{
		"bridge":                   {nil, []string{look}, []string{"eth0", "172.17.", "nameserver 192.0.2.53", "default via"}, nil},
		"host":                     {map[string]string{"force-network-mode": "host"}, []string{look}, []string{"docker0"}, []string{" eth0 "}},
		"none":                     {map[string]string{"force-network-mode": "none"}, []string{look}, nil, []string{"eth0", "docker0"}},
		"one step without network": {nil, []string{"RUN --network=none ip -o -4 addr show", "RUN echo with $(ip -o -4 addr show eth0)"}, []string{"with 2: eth0", "172.17."}, nil},
		"extra hosts":              {map[string]string{"add-hosts": "first=192.0.2.1,second=2001:db8::2"}, []string{"RUN cat /etc/hosts"}, []string{"192.0.2.1\tfirst", "2001:db8::2\tsecond"}, nil},
		"shm":                      {map[string]string{"shm-size": "33554432"}, []string{"RUN df -k /dev/shm"}, []string{"32768"}, nil},
		"ulimit":                   {map[string]string{"ulimit": "nofile=123:456"}, []string{"RUN ulimit -n; ulimit -Hn"}, []string{"123", "456"}, nil},
		"memory": {map[string]string{"memory": "33554432"},
			[]string{"RUN cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true"}, []string{"33554432"}, nil},
		"cpu": {map[string]string{"cpushares": "512", "cpuquota": "50000", "cpuperiod": "100000", "cpusetcpus": "0"},
			[]string{"RUN cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null; grep Cpus_allowed_list /proc/self/status"}, []string{"50000", "Cpus_allowed_list:\t0"}, nil},
		"capabilities": {nil, []string{"RUN grep -E 'CapEff|Seccomp:|NoNewPrivs' /proc/self/status"}, []string{"00000000a80425fb", "Seccomp:\t2"}, nil},
		"tmpfs":        {nil, []string{"RUN --mount=type=tmpfs,target=/t,size=1m df -k /t"}, []string{"1024"}, nil},
		"bind":         {nil, []string{"RUN --mount=type=bind,from=busybox,target=/other ls /other"}, []string{"etc"}, nil},
		"hostname":     {map[string]string{"hostname": "builder"}, []string{"RUN hostname"}, []string{"builder"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			log := said(t, c, part.attrs, append([]string{"FROM busybox"}, part.dockerfile...)...)
			for _, w := range part.want {
				if !strings.Contains(log, w) {
					t.Errorf("no %q in\n%s", w, log)
				}
			}
			for _, w := range part.not {
				if strings.Contains(log, w) {
					t.Errorf("%q in\n%s", w, log)
				}
			}
		})
	}
	t.Run("insecure is not allowed", func(t *testing.T) {
		_, err := c.ControlClient().Solve(t.Context(), &controlapi.SolveRequest{Ref: "insecure", Frontend: "dockerfile.v0", Entitlements: []string{"security.insecure"}})
		if err == nil || !strings.Contains(err.Error(), "security.insecure") {
			t.Errorf("error: %v", err)
		}
	})
}

// TestInstructions builds what the Dockerfile frontend offers beyond the classic instructions.
func TestInstructions(t *testing.T) {
	d := harness.Start(t)
	d.Busybox()
	c := connect(t, d)
	for name, part := range map[string]struct {
		dockerfile []string
		files      map[string]string
		want       string // what the last step writes
	}{
		"heredoc": {dockerfile: []string{"FROM busybox", "RUN <<EOF", "echo one > /out", "echo two >> /out", "EOF",
			"COPY <<one <<two /dir/", "first", "one", "second", "two", `RUN cat /out /dir/one /dir/two | tr '\n' ' '`}, want: "one two first second"},
		"link":    {dockerfile: []string{"FROM busybox", "RUN echo below > /below", "COPY --link a.txt /deep/a.txt", "RUN cat /below /deep/a.txt"}, files: map[string]string{"a.txt": "A"}, want: "below\nA"},
		"chmod":   {dockerfile: []string{"FROM busybox", "COPY --chmod=751 --chown=33:33 a.txt /a.txt", "RUN stat -c '%a %u' /a.txt"}, files: map[string]string{"a.txt": "A"}, want: "751 33"},
		"parents": {dockerfile: []string{"FROM busybox", "COPY --parents x/./y/*.txt /to/", "RUN find /to -type f"}, files: map[string]string{"x/y/z.txt": "Z"}, want: "/to/y/z.txt"},
		"exclude": {dockerfile: []string{"FROM busybox", "COPY --exclude=*.log in /to/", "RUN ls /to"}, files: map[string]string{"in/a.log": "x", "in/b": "x"}, want: "b"},
		"ignored": {dockerfile: []string{"FROM busybox", "COPY . /to/", "RUN ls /to"}, files: map[string]string{".dockerignore": "*\n!kept", "kept": "x", "dropped": "x"}, want: "kept"},
		"stages":  {dockerfile: []string{"FROM busybox AS one", "RUN echo 1 > /n", "FROM busybox AS two", "COPY --from=one /n /n", "FROM two", "RUN cat /n"}, want: "1"},
		"arguments": {dockerfile: []string{"ARG tag=latest", "FROM busybox:$tag", "ARG TARGETPLATFORM", "ARG with=default", "ENV kept=$with", "RUN echo $TARGETPLATFORM $kept"},
			want: "linux/amd64 default"},
		"shell":   {dockerfile: []string{"FROM busybox", `SHELL ["/bin/sh", "-c", "echo asked for: $0"]`, "RUN echo traced"}, want: "asked for: echo traced"},
		"workdir": {dockerfile: []string{"FROM busybox", "WORKDIR /a", "WORKDIR b", "USER 33", "RUN pwd; id -u"}, want: "/a/b\n33"},
		"archive": {dockerfile: []string{"FROM busybox", "RUN mkdir /in && echo x > /in/f && tar -cf /in.tar -C /in .", "FROM busybox", "COPY --from=0 /in.tar /", "RUN mkdir /u && tar -xf /in.tar -C /u && ls /u"}, want: "f"},
	} {
		t.Run(name, func(t *testing.T) {
			s := must(t, c, options(t, lines(part.dockerfile...), part.files))
			if !strings.Contains(s.log, part.want) {
				t.Errorf("no %q in\n%s", part.want, s.log)
			}
		})
	}
	t.Run("remote", func(t *testing.T) { testRemote(t, d, c) })
	t.Run("on build", func(t *testing.T) { testOnBuild(t, d, c) })
	t.Run("by ID", func(t *testing.T) { testByID(t, d, c) })
}

// testRemote adds files from a server and from a git repository.
func testRemote(t *testing.T, d *harness.Daemon, c *client.Client) {
	base := serveFiles(t, d)
	log := said(t, c, nil, "FROM busybox",
		"ADD --checksum=sha256:c641344867e9806fadfd219f25b62b97c94db0eed04a1d79e93676533cfb782b "+base+"/hello.txt /", "RUN cat /hello.txt",
		"ADD "+base+"/repo.git#main:sub /repo", "RUN ls /repo")
	if !strings.Contains(log, "hi there") || !strings.Contains(log, "inside") {
		t.Errorf("log: %s", log)
	}
	opt := options(t, lines("FROM busybox", "ADD --checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000 "+base+"/hello.txt /"), nil)
	if s := solve(t.Context(), t, c, opt); s.err == nil || !strings.Contains(s.err.Error(), "digest mismatch") {
		t.Errorf("wrong checksum: %v", s.err)
	}
}

func testOnBuild(t *testing.T, d *harness.Daemon, c *client.Client) {
	opt := options(t, lines("FROM busybox", "ONBUILD RUN echo from the base", "HEALTHCHECK --interval=7s CMD true", "STOPSIGNAL SIGUSR1", "VOLUME /v", "EXPOSE 80/udp"), nil)
	opt.Exports = image("docker.io/library/trigger:1")
	must(t, c, opt)
	if log := said(t, c, nil, "FROM trigger:1", "RUN echo own"); !strings.Contains(log, "from the base") {
		t.Errorf("log: %s", log)
	}
	got := d.OK("inspect", "-f", "{{.Config.Healthcheck.Interval}} {{.Config.StopSignal}} {{.Config.Volumes}} {{.Config.ExposedPorts}} {{.Config.OnBuild}}", "trigger:1")
	if want := "7s SIGUSR1 map[/v:{}] map[80/udp:{}] [RUN echo from the base]"; got != want {
		t.Errorf("config: %s", got)
	}
}

func testByID(t *testing.T, d *harness.Daemon, c *client.Client) {
	id := strings.TrimPrefix(d.OK("images", "--no-trunc", "-q", "busybox"), "sha256:")
	for _, name := range []string{id[:12], "sha256:" + id[:20], "busybox@sha256:" + id} {
		if log := said(t, c, nil, "FROM "+name, "RUN echo based"); !strings.Contains(log, "based") && !strings.Contains(log, "CACHED") {
			t.Errorf("FROM %s: %s", name, log)
		}
	}
	opt := options(t, lines("FROM nothing/here"), nil)
	if s := solve(t.Context(), t, c, opt); s.err == nil {
		t.Error("an unknown base was found")
	}
}

// serveFiles serves hello.txt and a git repository in the daemon's network.
func serveFiles(t *testing.T, d *harness.Daemon) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hello.txt"), []byte("hi there\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(dir, "work")
	if err := os.MkdirAll(filepath.Join(work, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(work, "sub", "inside"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	git(t, work, "init", "-q", "-b", "main")
	git(t, work, "add", ".")
	git(t, work, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "first")
	git(t, dir, "clone", "-q", "--bare", "work", "repo.git")
	git(t, filepath.Join(dir, "repo.git"), "update-server-info")
	return serve(t, d, dir)
}

// TestFrontends names frontends by "# syntax=" where no registry answers.
func TestFrontends(t *testing.T) {
	d := harness.Start(t)
	d.Busybox()
	c := connect(t, d)
	for _, name := range []string{"docker/dockerfile:1", "docker/dockerfile", "docker.io/docker/dockerfile:1.7"} {
		if log := said(t, c, nil, "# syntax="+name, "FROM busybox", "RUN <<EOF", "echo built in", "EOF"); !strings.Contains(log, "built in") && !strings.Contains(log, "CACHED") {
			t.Errorf("%s: %s", name, log)
		}
	}
	for _, name := range []string{"example.invalid/frontend", "docker/dockerfile:1-labs"} {
		opt := options(t, lines("# syntax="+name, "FROM busybox"), nil)
		if s := solve(t.Context(), t, c, opt); s.err == nil {
			t.Errorf("%s was found", name)
		}
	}
}

// TestDevices gives a device that a vendor describes to a step, which Dockerfiles of the stable syntax cannot ask for.
func TestDevices(t *testing.T) {
	specs := t.TempDir()
	d := harness.Start(t, "--cdi-spec-dir", specs)
	d.Busybox()
	c := connect(t, d)
	step := func(more ...entitlements.Entitlement) solved {
		def, err := llb.Image("docker.io/library/busybox:latest", llb.ResolveModePreferLocal).
			Run(llb.Shlex(`sh -c "echo ONE=$ONE; ls /dev/one"`), llb.AddCDIDevice(llb.CDIDeviceName("vendor.com/class=one"))).Root().Marshal(t.Context(), llb.LinuxAmd64)
		if err != nil {
			t.Fatal(err)
		}
		opt := client.SolveOpt{}
		for _, e := range more {
			opt.AllowedEntitlements = append(opt.AllowedEntitlements, string(e))
		}
		return solveGraph(t.Context(), t, c, def, opt)
	}
	if s := step(entitlements.EntitlementDevice); s.err == nil || !strings.Contains(s.err.Error(), "vendor.com/class=one") {
		t.Errorf("a device that nobody describes: %v", s.err)
	}
	description := `{"cdiVersion": "0.5.0", "kind": "vendor.com/class", "devices": [
		{"name": "one", "containerEdits": {"env": ["ONE=1"], "deviceNodes": [{"path": "/dev/one", "hostPath": "/dev/null", "permissions": "rw"}]}}]}`
	if err := os.WriteFile(filepath.Join(specs, "vendor.json"), []byte(description), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, 30*time.Second, "the device of a description that came later", func() bool {
		s := step(entitlements.EntitlementDevice)
		return s.err == nil && strings.Contains(s.log, "ONE=1\n/dev/one\n")
	})
	if s := step(); s.err == nil || !strings.Contains(s.err.Error(), "device vendor.com/class=one is requested by the build but not allowed") {
		t.Errorf("without leave: %v", s.err)
	}
}
