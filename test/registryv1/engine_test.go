package registryv1

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netns"

	"longshore/test/harness"
)

const host = "localhost:5000"

// serve runs engine and registry in one process.
func serve(t *testing.T) *harness.Daemon {
	t.Helper()
	d := harness.New(t)
	d.Command = "serve"
	d.Up()
	return d
}

// inside is a client in the daemon's network namespace.
func inside(d *harness.Daemon) *client {
	d.T.Helper()
	c := newClient(d.T, host, "", "")
	c.http.Transport = &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		type dialled struct {
			conn net.Conn
			err  error
		}
		out := make(chan dialled, 1)
		go func() {
			runtime.LockOSThread() // the thread ends with the goroutine: it is in another namespace
			ns, err := netns.GetFromName(d.NetNS)
			if err == nil {
				defer ns.Close() //nolint:errcheck // read only
				err = netns.Set(ns)
			}
			if err != nil {
				out <- dialled{nil, err}
				return
			}
			conn, err := (&net.Dialer{}).DialContext(ctx, network, strings.Replace(addr, "localhost", "127.0.0.1", 1))
			out <- dialled{conn, err}
		}()
		got := <-out
		return got.conn, got.err
	}}
	d.T.Cleanup(c.http.CloseIdleConnections)
	return c
}

// busyboxLayer is a layer with a program that runs.
func busyboxLayer(t testing.TB) []byte {
	t.Helper()
	var program []byte
	for _, path := range []string{"/bin/busybox", "/usr/bin/busybox"} {
		if data, err := os.ReadFile(path); err == nil {
			program = data
			break
		}
	}
	if program == nil {
		t.Skip("busybox-static is not installed")
	}
	return tarOf(t, file{"bin/", "", '5'}, file{"bin/busybox", string(program), 0}, file{"bin/sh", "busybox", '2'}, file{"bin/cat", "busybox", '2'},
		file{"bin/echo", "busybox", '2'}, file{"etc/", "", '5'}, file{"etc/greeting", "of the base", 0}, file{"etc/gone", "x", 0})
}

// oldImages is a base with busybox and what a Dockerfile of 2013 made of it.
func oldImages(t testing.TB) []image {
	t.Helper()
	base := newImage(t, "busybox", nil, nil, busyboxLayer(t))
	mid := newImage(t, "greeting", &base, nil, gzipped(t, tarOf(t, file{"etc/greeting", "hello from 2013", 0}, file{"etc/.wh.gone", "", 0})))
	top := newImage(t, "command", &mid, map[string]any{
		"Cmd": []string{"/bin/cat", "/etc/greeting"}, "Env": []string{"PATH=/bin", "ERA=2013"}, "Memory": 0, "Hostname": "x", "PortSpecs": []string{"80"},
	}, make([]byte, 1024))
	return []image{base, mid, top}
}

// TestRunsOnTheEngine: pushed by a client of the old days with layers of a real image, pulled and run by docker of today;
// searched for; pushed back, and pulled by the old client; deleted.
func TestRunsOnTheEngine(t *testing.T) {
	d := serve(t)
	c := inside(d)
	chain := oldImages(t)
	c.push("team/app", "v1", chain)
	if out := d.OK("run", "--rm", host+"/team/app:v1"); out != "hello from 2013" {
		t.Fatalf("got %q", out)
	}
	if out := d.OK("run", "--rm", host+"/team/app:v1", "sh", "-c", "echo $ERA; [ -e /etc/gone ] || echo gone"); out != "2013\ngone" {
		t.Fatalf("got %q", out)
	}
	if out := d.OK("inspect", "-f", "{{json .Config.ExposedPorts}} {{.Os}}/{{.Architecture}} {{len .RootFS.Layers}}", host+"/team/app:v1"); out != `{"80/tcp":{}} linux/amd64 2` {
		t.Fatalf("got %q", out)
	}
	for _, term := range []string{"app", host + "/app"} {
		if out := d.OK("search", "--format", "{{.Name}}", term); out != "team/app" {
			t.Errorf("search %s: %q", term, out)
		}
	}
	if out := d.OK("search", "--format", "{{.Name}}", "nothing-like-it"); out != "" {
		t.Errorf("search: %q", out)
	}

	d.OK("run", "--name", "changed", host+"/team/app:v1", "sh", "-c", "echo from today > /etc/greeting")
	d.OK("commit", "-c", "ENV ERA=today", "-c", `CMD ["/bin/cat", "/etc/greeting"]`, "changed", host+"/team/app:v2")
	d.OK("rm", "changed")
	d.OK("push", host+"/team/app:v2")
	got := c.pull("team/app", "v2")
	if len(got) != 3 {
		t.Fatalf("%d images", len(got))
	}
	for n, want := range [][]byte{chain[0].layer, unzip(t, chain[1].layer)} {
		if !bytes.Equal(unzip(t, got[n].layer), want) {
			t.Errorf("layer %d is another", n)
		}
	}
	if !bytes.Contains(unzip(t, got[2].layer), []byte("from today")) {
		t.Error("what was committed is not in the last layer")
	}
	var doc struct {
		Config struct{ Cmd, Env []string }
	}
	if err := json.Unmarshal(got[2].json, &doc); err != nil || doc.Config.Cmd[1] != "/etc/greeting" || !strings.Contains(strings.Join(doc.Config.Env, " "), "ERA=today") {
		t.Fatalf("%v %s", err, got[2].json)
	}
	// The old client brings it to another name, and it runs there.
	c.push("moved/app", "latest", got)
	if out := d.OK("run", "--rm", host+"/moved/app"); out != "from today" {
		t.Fatalf("got %q", out)
	}
	c.delete("team/app")
	d.Fails("not found", "pull", host+"/team/app:v1")
	d.OK("pull", host+"/moved/app")
}

// TestKilledAmidAPush: the registry is killed again and again while an old client pushes. What was answered is kept, a tag
// is there with its whole image or not at all, and in the end the push succeeds.
func TestKilledAmidAPush(t *testing.T) {
	d := serve(t)
	chain := oldImages(t)
	steps := []struct{ method, path, body, sum string }{}
	for _, i := range chain {
		base := "/v1/images/" + i.id + "/"
		steps = append(steps, []struct{ method, path, body, sum string }{
			{"PUT", base + "json", string(i.json), ""}, {"PUT", base + "layer", string(i.layer), ""}, {"PUT", base + "checksum", "", i.payload()},
		}...)
	}
	for _, n := range []int{0, 3, 7} { // a layer is under way, another, a checksum
		c := inside(d)
		for _, s := range steps[:n+1] {
			a := c.do(s.method, host, s.path, strings.NewReader(s.body), "X-Docker-Checksum-Payload", s.sum)
			if a.StatusCode != 200 && a.StatusCode != 409 {
				t.Fatalf("%s: %s %s", s.path, a.Status, a.body)
			}
		}
		go func() {
			_, _ = c.try(steps[n+1].method, host, steps[n+1].path, strings.NewReader(steps[n+1].body), "X-Docker-Checksum-Payload", steps[n+1].sum)
		}()
		d.Kill()
		d.Up()
		c = inside(d)
		c.do("GET", host, "/v1/repositories/team/app/tags", nil).want(t, 404)
		if a := c.do("GET", host, "/v2/team/app/tags/list", nil); a.StatusCode != 404 {
			t.Fatalf("%s: %s", a.Status, a.body)
		}
		for m, s := range steps[:n+1] {
			if !strings.HasSuffix(s.path, "/checksum") {
				continue
			}
			if a := c.do("GET", host, strings.TrimSuffix(s.path, "checksum")+"json", nil); a.StatusCode != 200 {
				t.Fatalf("step %d was answered and is lost: %s", m, a.Status)
			}
		}
	}
	c := inside(d)
	go func() {
		_, _ = c.try("PUT", host, "/v1/repositories/team/app/tags/v1", strings.NewReader(`"`+chain[2].id+`"`))
	}()
	d.Kill()
	d.Up()
	c = inside(d)
	if a := c.do("GET", host, "/v1/repositories/team/app/tags/v1", nil); a.StatusCode == 200 {
		same(t, c.pull("team/app", "v1"), chain)
	}
	c.push("team/app", "v1", chain)
	same(t, c.pull("team/app", "v1"), chain)
	if out := d.OK("run", "--rm", host+"/team/app:v1"); out != "hello from 2013" {
		t.Fatalf("got %q", out)
	}
}
