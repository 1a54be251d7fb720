package buildkit_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"golang.org/x/sync/errgroup"

	"longshore/test/harness"
)

// TestRemap builds on an engine with --userns-remap: the steps' root is nobody on the host, and what they make belongs to
// root in the image.
func TestRemap(t *testing.T) {
	d := harness.StartRemapped(t)
	c := connect(t, d)
	opt := options(t, lines("FROM busybox AS base",
		"RUN cat /proc/self/uid_map | xargs echo map; stat -c 'own %u:%g' / /bin /etc/hosts /etc/resolv.conf",
		"RUN echo mine > /mine && chown 1234 /mine && ls /sys/class/net | xargs echo links",
		"WORKDIR /work/deep", "COPY --chown=33:33 file .", "RUN stat -c 'file %u:%g' file && rm -f /etc/motd && echo more >> file",
		"USER 1234:1234", "RUN id -u && touch /tmp/theirs && ! touch /denied",
		"FROM base", "USER root",
		"RUN --mount=type=secret,id=token,required=true stat -c 'secret %u %a' /run/secrets/token && cat /run/secrets/token",
		"RUN --mount=type=tmpfs,target=/t touch /t/f && stat -c 'tmpfs %u' /t/f",
		"RUN --mount=type=bind,from=base,source=/work,target=/other stat -c 'other %u' /other/deep/file",
		"RUN --mount=type=cache,target=/keep echo x >> /keep/f && stat -c 'cache %u' /keep/f",
		"RUN --mount=type=cache,target=/keep wc -l < /keep/f | xargs echo count",
		"RUN --network=none ls /sys/class/net | xargs echo alone"),
		map[string]string{"file": "hello\n"})
	opt.Session = []session.Attachable{secretsprovider.FromMap(map[string][]byte{"token": []byte("hidden\n")})}
	opt.Exports = image("docker.io/library/made:1")
	s := must(t, c, opt)
	for _, want := range []string{"map 0 300000 65536", "own 0:0\nown 0:0\nown 0:0\nown 0:0\n", "links eth0 lo", "file 33:33", "1234\n", "secret 0 400\nhidden",
		"tmpfs 0", "other 33", "cache 0", "count 1", "alone lo"} {
		if !strings.Contains(s.log, want) {
			t.Errorf("no %q in\n%s", want, s.log)
		}
	}
	const look = "stat -c %u:%g / /mine /work/deep /work/deep/file /tmp/theirs; cat /work/deep/file"
	want := "0:0\n1234:0\n0:0\n33:33\n1234:1234\nhello\nmore"
	for _, more := range [][]string{nil, {"--userns", "host"}} {
		args := append(append([]string{"run", "--rm"}, more...), "made:1", "sh", "-c", look)
		if out := d.OK(args...); out != want {
			t.Errorf("%v: %q", more, out)
		}
	}
	opt = options(t, lines("FROM busybox", "RUN ls /sys/class/net /sys/fs/cgroup >/dev/null; ip -o link show docker0 | wc -l"), nil)
	opt.FrontendAttrs["force-network-mode"] = "host"
	opt.AllowedEntitlements = []string{"network.host"}
	if s := must(t, c, opt); !strings.Contains(s.log, "1\n") {
		t.Errorf("the host's network: %s", s.log)
	}
	t.Run("a cache that two steps share", func(t *testing.T) { sharedCache(t, c) })
	left, err := filepath.Glob(filepath.Join(d.ExecRoot(), "buildkit", "shifted-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// sharedCache has two builds write to one cache at the same time, each waiting for what the other wrote.
func sharedCache(t *testing.T, c *client.Client) {
	var g errgroup.Group
	for _, turn := range []struct{ mine, theirs string }{{"a", "b"}, {"b", "a"}} {
		opt := options(t, lines("FROM busybox", "RUN --mount=type=cache,id=shared,target=/keep touch /keep/"+turn.mine+
			"; for i in $(seq 600); do test -e /keep/"+turn.theirs+" && exit 0; sleep 0.1; done; exit 1"), nil)
		g.Go(func() error { return solve(t.Context(), t, c, opt).err })
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}
