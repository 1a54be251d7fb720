package shimclient

import (
	"reflect"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"longshore/internal/base/shimproto"
	"longshore/internal/core/runtime"
)

// TestGround: which containers the shim may enter by itself.
func TestGround(t *testing.T) {
	launch := func(change func(l *runtime.Launch)) *runtime.Launch {
		l := &runtime.Launch{
			ID: "id", CgroupDirs: []string{"/g"}, Runtime: runtime.Binary{Path: "/usr/bin/crun", Root: "/state", NoCgroup: true},
			Spec: &specs.Spec{
				Process:     &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_CHOWN"}}},
				Linux:       &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}}},
				Annotations: map[string]string{"of.the.user": "x"},
			},
		}
		change(l)
		return l
	}
	if g := groundOf(launch(func(*runtime.Launch) {})); g == nil || g.Filter != "" {
		t.Errorf("without a profile: %+v", g)
	}
	g := groundOf(launch(func(l *runtime.Launch) { l.Spec.Annotations[seccompAnnotation] = "x" }))
	if g == nil || g.Filter != "/state/id/seccomp.bpf" {
		t.Errorf("with a compiled profile: %+v", g)
	}
	for name, change := range map[string]func(l *runtime.Launch){
		"another runtime":          func(l *runtime.Launch) { l.Runtime.Path = "/usr/bin/runc" },
		"a runtime with arguments": func(l *runtime.Launch) { l.Runtime.Args = []string{"--systemd-cgroup"} },
		"the runtime's groups":     func(l *runtime.Launch) { l.Runtime.NoCgroup = false },
		"no groups":                func(l *runtime.Launch) { l.CgroupDirs = nil },
		"the stdio of a mapped root": func(l *runtime.Launch) {
			l.StdioUID = 100000
		},
		"a user namespace": func(l *runtime.Launch) {
			l.Spec.Linux.Namespaces = append(l.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		},
		"the host's mounts": func(l *runtime.Launch) { l.Spec.Linux.Namespaces = nil },
		"a profile for the runtime": func(l *runtime.Launch) {
			l.Spec.Linux.Seccomp = &specs.LinuxSeccomp{}
		},
		"a personality":        func(l *runtime.Launch) { l.Spec.Linux.Personality = &specs.LinuxPersonality{} },
		"a label for mounts":   func(l *runtime.Launch) { l.Spec.Linux.MountLabel = "x" },
		"a handler":            func(l *runtime.Launch) { l.Spec.Annotations["run.oci.handler"] = "krun" },
		"SYS_PTRACE":           func(l *runtime.Launch) { l.Spec.Process.Capabilities.Bounding = []string{"CAP_SYS_PTRACE"} },
		"no Linux part at all": func(l *runtime.Launch) { l.Spec.Linux = nil },
	} {
		if g := groundOf(launch(change)); g != nil {
			t.Errorf("%s: the shim enters", name)
		}
	}
}

func TestPlan(t *testing.T) {
	score, umask := -5, uint32(0o27)
	p := specs.Process{
		Args: []string{"sh"}, Env: []string{"A=b"}, Cwd: "/w", NoNewPrivileges: true, OOMScoreAdj: &score,
		User:         specs.User{UID: 1, GID: 2, AdditionalGids: []uint32{2, 3}, Umask: &umask},
		Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"}, Effective: []string{"CAP_KILL"}},
		Rlimits:      []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1, Hard: 2}},
	}
	want := &shimproto.Plan{
		Args: p.Args, Env: p.Env, Cwd: "/w", UID: 1, GID: 2, Groups: []uint32{2, 3}, Umask: 0o27,
		Caps:    shimproto.Caps{Bounding: 1<<0 | 1<<40, Effective: 1 << 5},
		Rlimits: []shimproto.Rlimit{{Resource: 7, Soft: 1, Hard: 2}}, NoNewPrivileges: true, SetScore: true, Score: -5,
		Filter: "/f", Document: "{}",
	}
	ground := &ground{Filter: "/f"}
	if got := planOf(ground, &p, []byte("{}")); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant\n%+v", got, want)
	}
	if planOf(nil, &p, nil) != nil || planOf(ground, &p, []byte(strings.Repeat(" ", maxDocument+1))) != nil {
		t.Error("a plan without ground, or one that is too long")
	}
	for name, change := range map[string]func(p *specs.Process){
		"terminal":           func(p *specs.Process) { p.Terminal = true },
		"AppArmor":           func(p *specs.Process) { p.ApparmorProfile = "unconfined" },
		"SELinux":            func(p *specs.Process) { p.SelinuxLabel = "x" },
		"scheduler":          func(p *specs.Process) { p.Scheduler = &specs.Scheduler{} },
		"no capabilities":    func(p *specs.Process) { p.Capabilities = nil },
		"unknown capability": func(p *specs.Process) { p.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_NEW"}} },
		"unknown limit":      func(p *specs.Process) { p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NEW"}} },
		"NUL":                func(p *specs.Process) { p.Args = []string{"a\x00b"} },
		"no command":         func(p *specs.Process) { p.Args = []string{""} },
		"odd variable":       func(p *specs.Process) { p.Env = []string{"=x"} },
	} {
		changed := p
		change(&changed)
		if planOf(ground, &changed, nil) != nil {
			t.Errorf("%s: the shim enters", name)
		}
	}
}
