package engine

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

// lists shows all containers twice at some versions: as ps does, from what is kept of each, and with sizes, which are made
// anew each time.
func lists(t *testing.T, d *harness.Daemon, version string) (kept, fresh []map[string]any) {
	t.Helper()
	for query, into := range map[string]*[]map[string]any{"": &kept, "&size=1": &fresh} {
		resp, err := d.Client().Get("http://d/v" + version + "/containers/json?all=1" + query)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("list at %s: %s %v: %s", version, resp.Status, err, text)
		}
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatalf("list at %s: %v: %s", version, err, text)
		}
		for _, c := range *into {
			maps.DeleteFunc(c, func(k string, _ any) bool { return k == "SizeRw" || k == "SizeRootFs" })
		}
	}
	return kept, fresh
}

// TestListFollows: what lists keep of a container is gone with the first change of it.
func TestListFollows(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	d.OK("network", "create", "--subnet", "10.87.0.0/24", "listed")
	defer d.OK("network", "rm", "listed")
	d.OK("run", "-d", "--name", "beside", "busybox", "sleep", "1000")
	// shows compares both lists, and what a template says of the container.
	shows := func(want, what string) {
		t.Helper()
		for _, version := range []string{"1.55", "1.41", "1.24"} {
			var kept, fresh []map[string]any
			if !harness.Within(30*time.Second, func() bool { // a minute may begin between the two
				kept, fresh = lists(t, d, version)
				return reflect.DeepEqual(kept, fresh)
			}) {
				t.Fatalf("%s, at %s:\n%v\nwant\n%v", what, version, kept, fresh)
			}
		}
		got := d.OK("ps", "-a", "--no-trunc", "--filter", "label=watched", "--format", "{{.Names}}|{{.State}}|{{.Image}}|{{.Ports}}|{{.Networks}}|{{.Label \"watched\"}}")
		got = strings.Replace(got, "listed,bridge", "bridge,listed", 1) // the client tells them in any order
		if got != want {
			t.Errorf("%s: %s\nwant %s", what, got, want)
		}
	}
	d.OK("tag", "busybox", "mine")
	d.OK("create", "--name", "one", "-l", "watched=yes", "-p", "127.0.0.1:18087:80", "--health-cmd", "test -e /well", "--health-interval", "100ms", "--health-start-period", "100s", "mine", "sleep", "1000")
	shows("one|created|mine||bridge|yes", "created")
	d.OK("rename", "one", "two")
	shows("two|created|mine||bridge|yes", "renamed")
	d.OK("network", "connect", "--ip", "10.87.0.9", "listed", "two")
	shows("two|created|mine||bridge,listed|yes", "connected")
	d.OK("network", "disconnect", "listed", "two")
	shows("two|created|mine||bridge|yes", "disconnected")
	d.OK("start", "two")
	const port = "127.0.0.1:18087->80/tcp"
	shows("two|running|mine|"+port+"|bridge|yes", "started")
	d.OK("network", "connect", "listed", "two")
	shows("two|running|mine|"+port+"|bridge,listed|yes", "connected while it runs")
	d.OK("pause", "two")
	shows("two|paused|mine|"+port+"|bridge,listed|yes", "paused")
	d.OK("unpause", "two")
	shows("two|running|mine|"+port+"|bridge,listed|yes", "unpaused")
	d.OK("exec", "two", "touch", "/well")
	harness.Eventually(t, 30*time.Second, "the list says healthy", func() bool {
		return strings.Contains(d.OK("ps", "--filter", "label=watched", "--format", "{{.Status}}"), "(healthy)")
	})
	shows("two|running|mine|"+port+"|bridge,listed|yes", "healthy")
	d.OK("run", "-d", "--name", "parent", "--link", "two:db", "busybox", "sleep", "1000")
	shows("two,parent/db|running|mine|"+port+"|bridge,listed|yes", "linked")
	d.OK("rename", "parent", "mother")
	shows("two,mother/db|running|mine|"+port+"|bridge,listed|yes", "linked by another name")
	d.OK("rm", "-f", "mother")
	shows("two|running|mine|"+port+"|bridge,listed|yes", "no longer linked")
	d.OK("update", "--restart", "on-failure:3", "two")
	shows("two|running|mine|"+port+"|bridge,listed|yes", "updated")
	d.OK("network", "disconnect", "listed", "two")
	shows("two|running|mine|"+port+"|bridge|yes", "disconnected while it runs")
	other := d.OK("commit", "beside", "mine") // the name means another image now
	if id := d.OK("inspect", "-f", "{{.Image}}", "two"); id == other {
		t.Fatal("the commit is the image that was there")
	} else {
		shows("two|running|"+id+"|"+port+"|bridge|yes", "its image has lost the name")
	}
	d.OK("tag", "busybox", "mine")
	shows("two|running|mine|"+port+"|bridge|yes", "its image has the name again")
	d.OK("restart", "-t", "0", "two")
	shows("two|running|mine|"+port+"|bridge|yes", "restarted")
	d.OK("kill", "two")
	d.OK("wait", "two")
	shows("two|exited|mine||bridge|yes", "killed")
	d.Stop()
	d.Up()
	shows("two|exited|mine||bridge|yes", "after a restart of the daemon")
	d.OK("rm", "two")
	shows("", "removed")
	d.OK("rm", "-f", "beside")
	if kept, _ := lists(t, d, "1.55"); kept == nil || len(kept) != 0 {
		t.Errorf("an empty list is %v", kept)
	}
}
