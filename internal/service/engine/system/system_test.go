package system

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/volume"

	"longshore/internal/core/host"
	"longshore/internal/driver/journal"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

func TestParseTime(t *testing.T) {
	for text, want := range map[string]time.Time{
		"":                              {},
		"-5":                            {},
		"0":                             time.Unix(0, 0),
		"1136073845":                    time.Unix(1136073845, 0),
		"1136073845.000000001":          time.Unix(1136073845, 1),
		"1136073845.5":                  time.Unix(1136073845, 500_000_000),
		"10m":                           now.Add(-10 * time.Minute),
		"1h30m":                         now.Add(-90 * time.Minute),
		"-1h":                           now.Add(time.Hour),
		"2006-01-02":                    time.Date(2006, 1, 2, 0, 0, 0, 0, time.UTC),
		"2006-01-02T15":                 time.Date(2006, 1, 2, 15, 0, 0, 0, time.UTC),
		"2006-01-02T15:04":              time.Date(2006, 1, 2, 15, 4, 0, 0, time.UTC),
		"2006-01-02T15:04:05":           time.Date(2006, 1, 2, 15, 4, 5, 0, time.UTC),
		"2006-01-02T15:04:05.000000009": time.Date(2006, 1, 2, 15, 4, 5, 9, time.UTC),
		"2006-01-02T15:04:05.5Z":        time.Date(2006, 1, 2, 15, 4, 5, 5e8, time.UTC),
		"2006-01-02T15:04:05+02:00":     time.Date(2006, 1, 2, 13, 4, 5, 0, time.UTC),
		"2006-01-02T15:04Z":             time.Date(2006, 1, 2, 15, 4, 0, 0, time.UTC),
		"2006-01-02Z":                   time.Date(2006, 1, 2, 0, 0, 0, 0, time.UTC),
	} {
		if got, err := ParseTime(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"x", "1.x", "1.-5", "1.0000000001", "9999999999999", "2006", "2006-13-01", "0001-01-01", "9999-01-01", "1 "} {
		if got, err := ParseTime(text, now); text != "2006" && !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"1.5", "2006-01-02T15:04:05+02:00", "3h", "-1", "1e9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := ParseTime(text, now); (err != nil) != (errors.Is(err, errdefs.ErrInvalidArgument)) || (err != nil && !got.IsZero()) {
			t.Fatalf("%q: %v, %v", text, got, err)
		}
	})
}

func TestFilter(t *testing.T) {
	start := events.Message{Type: "container", Action: "start", Scope: "local", Actor: events.Actor{ID: "abcdef", Attributes: map[string]string{"name": "web", "image": "repo:5000/app:1", "tier": "front"}}}
	health := start
	health.Action = "health_status: healthy"
	exec := start
	exec.Action = "exec_create: sh -c true"
	pull := events.Message{Type: "image", Action: "pull", Scope: "local", Actor: events.Actor{ID: "repo:5000/app:1", Attributes: map[string]string{"name": "repo:5000/app"}}}
	join := events.Message{Type: "network", Action: "connect", Scope: "local", Actor: events.Actor{ID: "net1", Attributes: map[string]string{"name": "bridge", "container": "abcdef"}}}
	for _, c := range []struct {
		f    filter
		m    events.Message
		want bool
	}{
		{nil, start, true},
		{filter{"type": {"container"}}, start, true},
		{filter{"type": {"image", "network"}}, start, false},
		{filter{"type": {"image", "network"}}, join, true},
		{filter{"event": {"start"}}, start, true},
		{filter{"event": {"star"}}, start, false},
		{filter{"event": {"health_status"}}, health, true},
		{filter{"event": {"health_status: healthy"}}, health, true},
		{filter{"event": {"health_status: unhealthy"}}, health, false},
		{filter{"event": {"exec_create"}}, exec, true},
		{filter{"container": {"web"}}, start, true},
		{filter{"container": {"abc"}}, start, true},
		{filter{"container": {"xyz", "web"}}, start, true},
		{filter{"container": {"xyz"}}, start, false},
		{filter{"container": {"web"}}, pull, false},
		{filter{"image": {"repo:5000/app"}}, start, true},
		{filter{"image": {"repo:5000/app:1"}}, start, true},
		{filter{"image": {"repo:5000/app"}}, pull, true},
		{filter{"image": {"repo:5000/app:1"}}, pull, true},
		{filter{"image": {"other"}}, pull, false},
		{filter{"network": {"bridge"}}, join, true},
		{filter{"network": {"host"}}, join, false},
		{filter{"label": {"tier"}}, start, true},
		{filter{"label": {"tier=front"}}, start, true},
		{filter{"label": {"tier=front", "gone"}}, start, false},
		{filter{"scope": {"swarm"}}, start, false},
		{filter{"scope": {"local"}, "type": {"container"}, "event": {"start", "die"}}, start, true},
		{filter{"unknown": {"x"}}, start, true},
	} {
		if got := c.f.matches(&c.m); got != c.want {
			t.Errorf("%v on %s %s: %v", c.f, c.m.Type, c.m.Action, got)
		}
	}
}

type counts struct{}

func (counts) Counts() (running, paused, stopped int) { return 3, 2, 1 }

func service(t *testing.T, d Deps) *Service {
	t.Helper()
	j, err := journal.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	d.Events, d.Containers = j, counts{}
	d.Facts = func() *host.Facts {
		return &host.Facts{Hostname: "node", Kernel: "6.1", OS: "Debian", OSType: "linux", Arch: "x86_64", NCPU: 2, MemTotal: 1 << 30, Cgroup: host.Cgroup{Version: "2", Driver: "cgroupfs", Pids: true}}
	}
	return New(Config{ID: "id", Version: "1.2", APIVersion: "1.55", MinAPIVersion: "1.0", HTTPProxy: "http://user:secret@proxy:3128/x", Warnings: []string{"WARNING: more"}}, d)
}

func TestInfo(t *testing.T) {
	s := service(t, Deps{Images: func() int { return 7 }})
	i := s.Info(t.Context())
	if i.Containers != 6 || i.ContainersRunning != 3 || i.ContainersPaused != 2 || i.ContainersStopped != 1 || i.Images != 7 {
		t.Errorf("%+v", i)
	}
	if i.Name != "node" || i.Architecture != "x86_64" || i.NCPU != 2 || !i.PidsLimit || i.MemoryLimit || i.NFd < 3 || i.NGoroutines < 1 {
		t.Errorf("%+v", i)
	}
	if i.HTTPProxy != "http://xxxxx:xxxxx@proxy:3128/x" {
		t.Error(i.HTTPProxy)
	}
	if !slices.Contains(i.Warnings, "WARNING: No memory limit support") || !slices.Contains(i.Warnings, "WARNING: more") {
		t.Error(i.Warnings)
	}
	if i.RegistryConfig == nil || i.Swarm.LocalNodeState != "inactive" || i.Labels == nil || i.SecurityOptions == nil {
		t.Errorf("%+v", i)
	}
	if v := s.Version(); v.Version != "1.2" || v.Components[0].Details["ApiVersion"] != "1.55" || v.KernelVersion != "6.1" {
		t.Errorf("%+v", v)
	}
}

func TestMasked(t *testing.T) {
	for url, want := range map[string]string{
		"": "", "http://proxy:1": "http://proxy:1", "user@proxy": "xxxxx:xxxxx@proxy", "http://a@b:c@proxy/": "http://xxxxx:xxxxx@proxy/", "http://proxy/p@th": "http://proxy/p@th",
	} {
		if got := masked(url); got != want {
			t.Errorf("%q: %q", url, got)
		}
	}
}

func TestDiskUsage(t *testing.T) {
	s := service(t, Deps{Usage: Usage{
		Containers: func(context.Context) ([]*container.Summary, error) {
			return []*container.Summary{{State: "running", SizeRw: 10}, {State: "paused", SizeRw: 5}, {State: "exited", SizeRw: 7}, {State: "created"}}, nil
		},
		Images: func(context.Context) (int64, []*image.Summary, error) {
			return 1000, []*image.Summary{{Containers: 1, Size: 400, SharedSize: 100}, {Containers: 0, Size: 700, SharedSize: 100}, {Containers: 2, Size: -1}}, nil
		},
		Volumes: func(_ context.Context, items bool) (*volume.DiskUsage, error) {
			return &volume.DiskUsage{TotalCount: 4}, nil
		},
		BuildCache: func(context.Context, bool) (*build.DiskUsage, error) { return nil, errors.New("not to be asked") },
	}})
	u, err := s.DiskUsage(t.Context(), UsageOptions{Types: []string{"container", "image", "volume"}, Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	if c := u.ContainerUsage; c.TotalCount != 4 || c.ActiveCount != 2 || c.TotalSize != 22 || c.Reclaimable != 7 || len(c.Items) != 4 {
		t.Errorf("%+v", c)
	}
	if i := u.ImageUsage; i.TotalCount != 3 || i.ActiveCount != 2 || i.TotalSize != 1000 || i.Reclaimable != 700 || len(i.Items) != 3 {
		t.Errorf("%+v", i)
	}
	if u.VolumeUsage.TotalCount != 4 || u.BuildCacheUsage != nil {
		t.Errorf("%+v", u)
	}
	if _, err := s.DiskUsage(t.Context(), UsageOptions{Types: []string{"moon"}}); !errors.Is(err, errdefs.ErrInvalidArgument) || err.Error() != "unknown object type: moon" {
		t.Error(err)
	}
	if _, err := s.DiskUsage(t.Context(), UsageOptions{}); err == nil {
		t.Error("the failure of a part was lost")
	}
}

func TestEventsOptions(t *testing.T) {
	s := service(t, Deps{Now: func() time.Time { return now }})
	for _, o := range []EventsOptions{{Since: "x"}, {Until: "x"}, {Since: "10", Until: "9"}} {
		if _, err := s.Events(o); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	_, err := s.Events(EventsOptions{Since: "10", Until: "9"})
	if err == nil || err.Error() != "`since` time (10) cannot be after `until` time (9)" {
		t.Error(err)
	}
}

func TestLoadID(t *testing.T) {
	root := filepath.Join(t.TempDir(), "new")
	id, err := LoadID(root)
	if err != nil || !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) {
		t.Fatal(id, err)
	}
	if again, err := LoadID(root); err != nil || again != id {
		t.Fatal(again, err)
	}
	if err := os.WriteFile(filepath.Join(root, "engine-id"), []byte("theirs\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if theirs, err := LoadID(root); err != nil || theirs != "theirs" {
		t.Fatal(theirs, err)
	}
}
