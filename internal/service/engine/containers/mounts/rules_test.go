package mounts

import (
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

func TestRules(t *testing.T) {
	parse := func(r Rules, bind string) string {
		list, err := Parse(&container.Config{}, &container.HostConfig{Binds: []string{bind}}, nil, r)
		if err != nil {
			return err.Error()
		}
		m := list[0]
		s := string(m.Propagation)
		if m.SoftPropagation {
			s += " soft"
		}
		if m.Recursion.ReadOnlyNonRecursive {
			s += " plain"
		}
		return s
	}
	refusal := `invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root, daemon root: "/var/lib/docker", bind mount source: "/var", propagation: "private"`
	for _, c := range []struct {
		plain      bool
		bind, want string
	}{
		{false, "/srv:/m", "rprivate"},
		{false, "/srv:/m:ro", "rprivate"},
		{true, "/srv:/m:ro", "rprivate plain"},
		{true, "/srv:/m", "rprivate"},
		{false, "/srv:/m:private", "private"},
		{false, "/var/lib/docker2:/m", "rprivate"},
		{false, "/var/lib/docker:/m", "rslave soft"},
		{false, "/var/lib/docker/volumes:/m", "rslave soft"},
		{true, "/:/m:ro", "rslave soft plain"},
		{false, "/var:/m:rshared", "rshared"},
		{false, "/var:/m:rslave", "rslave"},
		{false, "/var:/m:private", refusal},
		{false, "v:/m:ro", ""},
	} {
		if got := parse(Rules{DataRoot: "/var/lib/docker", PlainReadOnly: c.plain}, c.bind); got != c.want {
			t.Errorf("%s (plain %v)\n got %s\nwant %s", c.bind, c.plain, got, c.want)
		}
	}
	if got := parse(Rules{}, "/:/m:"+string(mount.PropagationPrivate)); got != "private" {
		t.Errorf("without a root: %s", got)
	}
}
