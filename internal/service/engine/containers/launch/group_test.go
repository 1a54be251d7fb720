package launch

import (
	"testing"

	"github.com/moby/moby/api/types/container"

	core "longshore/internal/core/container"
)

func TestGroups(t *testing.T) {
	for _, x := range []struct {
		systemd       bool
		daemon, asked string
		path, told    string
	}{
		{false, "", "", "/longshore/id", "/longshore/id"},
		{false, "/x", "", "/x/id", "/x/id"},
		{false, "/x", "y/z", "/y/z/id", "/y/z/id"},
		{true, "", "", "/system.slice/docker-id.scope", "system.slice:docker:id"},
		{true, "my.slice", "", "/my.slice/docker-id.scope", "my.slice:docker:id"},
		{true, "", "a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice/docker-id.scope", "a-b-c.slice:docker:id"},
		{true, "", "-.slice", "/docker-id.scope", "-.slice:docker:id"},
	} {
		l := New(Config{SystemdCgroup: x.systemd, CgroupParent: x.daemon}, Deps{})
		rec := &core.Record{ID: "id", HostConfig: &container.HostConfig{Resources: container.Resources{CgroupParent: x.asked}}}
		if p, told := l.cgroupPath(rec), l.cgroupsPath(rec); p != x.path || told != x.told {
			t.Errorf("%+v: %s %s", x, p, told)
		}
	}
	l := New(Config{SystemdCgroup: true}, Deps{})
	for parent, ok := range map[string]bool{"": true, "a.slice": true, "/a": false, ".slice": false, "a.scope": false} {
		if err := l.CheckCgroupParent(parent); (err == nil) != ok {
			t.Errorf("%q: %v", parent, err)
		}
	}
	if err := New(Config{}, Deps{}).CheckCgroupParent("/a"); err != nil {
		t.Error(err)
	}
}
