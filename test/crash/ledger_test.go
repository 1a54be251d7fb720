package crash

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"longshore/test/harness"
)

// promise is what a client was told of one container.
type promise struct {
	id, name string
	removed  bool // rm was acknowledged
	maybe    bool // rm was asked for and not answered
	started  bool // start was acknowledged
	exit     int  // code that it ends with by itself; one of the below
	volume   string
	text     string // what an acknowledged exec wrote into the volume
}

// Ends of containers that have no code of their own.
const (
	stays = -1 // runs for ever
	lost  = -2 // its shim was killed
)

// thing is what a client was told of a volume, a network or an image.
type thing struct {
	there, maybe bool // there: the last acknowledged word; maybe: the last word was not acknowledged
}

// ledger is what all clients were told.
type ledger struct {
	t *testing.T
	d *harness.Daemon
	// pullable are images that a registry has.
	pullable []string
	// dying: the daemon or a shim is killed, so that requests may fail.
	dying atomic.Bool
	// promises counts what clients were told was done.
	promises atomic.Int64

	mu         sync.Mutex // guards what follows
	containers []*promise
	things     map[string]*thing // "volume x", "network x", "image x"
}

func newLedger(t *testing.T, d *harness.Daemon) *ledger {
	return &ledger{t: t, d: d, things: map[string]*thing{}}
}

func (l *ledger) note(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// workContainers is a client's piece of work: create, start, exec, sometimes remove.
func workContainers(l *ledger, name string) {
	p := &promise{name: name, exit: rand.N(3) - 1}
	script := "sleep 100000"
	if p.exit >= 0 {
		script = fmt.Sprintf("sleep 0.%d; exit %d", rand.N(5), p.exit)
	}
	args := []string{"create", "--name", name}
	if rand.N(2) == 0 {
		p.volume = "v" + name
		args = append(args, "-v", p.volume+":/data")
	}
	if rand.N(3) == 0 {
		args = append(args, "--network", "witness")
	}
	if p.exit == stays && rand.N(2) == 0 {
		args = append(args, "--restart", "always")
	}
	r := l.d.Docker(append(args, "busybox", "sh", "-c", script)...)
	if !l.accept(r, args) {
		return
	}
	p.id = strings.TrimSpace(r.Out)
	l.note(func() { l.containers = append(l.containers, p) })
	if r := l.d.Docker("start", p.id); r.Code != 0 {
		l.note(func() { l.excuse(p.maybe, r, "start", name) })
		return
	}
	l.note(func() { p.started = true })
	if p.exit == stays && p.volume != "" {
		r := l.d.Docker("exec", p.id, "sh", "-c", "echo "+name+" >/data/file")
		l.note(func() {
			if r.Code == 0 {
				p.text = name
			}
			l.excuse(r.Code == 0 || p.maybe, r, "exec", name)
		})
	}
	if rand.N(3) == 0 {
		l.removeOne()
	}
}

func (l *ledger) removeOne() {
	var p *promise
	l.note(func() {
		if len(l.containers) > 0 {
			p = l.containers[rand.N(len(l.containers))]
			p.maybe = true
		}
	})
	if p != nil && l.accept(l.d.Docker("rm", "-f", p.id), []string{"rm -f", p.name}) {
		l.note(func() { p.removed = true })
	}
}

// accept tells whether a request succeeded; only a kill may make it fail.
func (l *ledger) accept(r harness.Result, what []string) bool {
	l.excuse(r.Code == 0, r, what...)
	if r.Code == 0 {
		l.promises.Add(1)
	}
	return r.Code == 0
}

func (l *ledger) excuse(excused bool, r harness.Result, what ...string) {
	if !excused && !l.dying.Load() && !strings.Contains(r.Err, "removal of container") {
		l.t.Errorf("beside a daemon that lives: %v: %s%s", what, r.Out, r.Err)
	}
}

// workOthers makes and removes a volume, a network or an image.
func workOthers(l *ledger, name string) {
	switch rand.N(4) {
	case 0:
		l.say("volume "+name, true, "volume", "create", name)
		if rand.N(2) == 0 {
			l.say("volume "+name, false, "volume", "rm", name)
		}
	case 1:
		l.say("network "+name, true, "network", "create", name)
		l.say("network "+name, false, "network", "rm", name) // always: subnets are few
	case 2:
		l.say("image "+name, true, "build-image")
		if rand.N(2) == 0 {
			l.say("image "+name, false, "rmi", name)
		}
	case 3:
		image := l.pullable[rand.N(len(l.pullable))]
		if l.say("image "+image, true, "pull", image); rand.N(2) == 0 {
			l.say("image "+image, false, "rmi", image)
		}
	}
}

// say asks for something to be there or not, and notes what was answered.
func (l *ledger) say(key string, there bool, args ...string) {
	l.note(func() {
		if l.things[key] == nil {
			l.things[key] = &thing{}
		}
		l.things[key].maybe = true
	})
	var r harness.Result
	if args[0] == "build-image" { // an image with a layer of its own
		name := strings.TrimPrefix(key, "image ")
		r = l.d.DockerIn(strings.NewReader(layer(name)), "import", "-", name)
	} else {
		r = l.d.Docker(args...)
	}
	if l.accept(r, args) {
		l.note(func() { *l.things[key] = thing{there: there} })
	}
}

// killShim kills the shim of one container that should stay.
func (l *ledger) killShim() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.containers {
		if p.exit != stays || !p.started || p.maybe {
			continue
		}
		if pid := l.d.Shim(p.id); pid != 0 {
			p.exit = lost
			kill(l.t, pid)
			return
		}
	}
}

// compare checks every promise against the restarted daemon.
func (l *ledger) compare(round int) {
	l.t.Helper()
	l.compareThings(round)
	there := map[string]string{}
	for _, line := range strings.Split(l.d.OK("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}}"), "\n") {
		if id, state, ok := strings.Cut(line, " "); ok {
			there[id] = state
		}
	}
	var keep []*promise
	for _, p := range l.containers {
		state, found := there[p.id]
		switch {
		case p.removed && found:
			l.t.Errorf("round %d: %s was removed and is back (%s)", round, p.name, state)
		case !found && !p.maybe:
			l.t.Errorf("round %d: %s was created and is gone", round, p.name)
		case found && p.started && !p.maybe:
			l.compareState(round, p)
		}
		if found && !p.removed {
			keep = append(keep, p)
		}
	}
	l.containers = keep
	if len(keep) > 20 { // keep the load steady
		var ids []string
		for _, p := range keep[:12] {
			ids = append(ids, p.id)
		}
		l.d.OK(append([]string{"rm", "-f"}, ids...)...)
		l.containers = keep[12:]
	}
}

func (l *ledger) compareState(round int, p *promise) {
	l.t.Helper()
	want, format := "running", "{{.State.Status}}"
	switch {
	case p.exit == lost && l.d.OK("inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", p.id) == "always":
		p.exit = stays
	case p.exit == lost:
		want, format = "exited true", "{{.State.Status}} {{ne .State.Error \"\"}}"
	case p.exit >= 0:
		want, format = fmt.Sprintf("exited %d", p.exit), "{{.State.Status}} {{.State.ExitCode}}"
	}
	var got string
	ok := harness.Within(10*time.Second, func() bool {
		got = l.d.OK("inspect", "-f", format, p.id)
		return got == want
	})
	if !ok {
		l.t.Errorf("round %d: %s is %q, want %q: %s", round, p.name, got, want, l.d.OK("inspect", "-f", "{{json .State}}", p.id))
	}
	if p.text == "" || p.exit != stays {
		return
	}
	if r := l.d.Docker("exec", p.id, "cat", "/data/file"); strings.TrimSpace(r.Out) != p.text {
		l.t.Errorf("round %d: %s has %q %s in its volume, want %q", round, p.name, r.Out, r.Err, p.text)
	}
}

func (l *ledger) compareThings(round int) {
	l.t.Helper()
	found := map[string]bool{}
	for kind, args := range map[string][]string{
		"volume ":  {"volume", "ls", "-q"},
		"network ": {"network", "ls", "--format", "{{.Name}}"},
		"image ":   {"images", "--format", "{{.Repository}}"},
	} {
		for _, name := range strings.Fields(l.d.OK(args...)) {
			found[kind+name] = true
		}
	}
	for key, what := range l.things {
		if what.maybe {
			continue
		}
		if what.there != found[key] {
			l.t.Errorf("round %d: %s: clients were told %v, found %v", round, key, what.there, found[key])
		}
	}
	for key := range l.things { // those that last are not looked at again; images must also be whole
		kind, name, _ := strings.Cut(key, " ")
		switch {
		case !found[key]:
		case kind == "image":
			if out := l.d.OK("run", "--rm", name, "/bin/busybox", "cat", "/name"); out != path.Base(name) {
				l.t.Errorf("round %d: image %s has %q", round, name, out)
			}
			l.d.OK("rmi", name)
		default:
			l.d.OK(kind, "rm", name)
		}
	}
	clear(l.things)
}

// nothingIsHeld: without containers nothing keeps volumes, networks and images from being removed.
func (l *ledger) nothingIsHeld() {
	l.t.Helper()
	l.d.CheckLeaks()
	for _, name := range strings.Fields(l.d.OK("volume", "ls", "-q")) {
		l.d.OK("volume", "rm", name)
	}
	for _, name := range strings.Fields(l.d.OK("network", "ls", "-q", "--filter", "type=custom")) {
		l.d.OK("network", "rm", name)
	}
	for _, name := range strings.Fields(l.d.OK("images", "-q")) {
		l.d.OK("rmi", name)
	}
	if out := l.d.OK("images", "-aq"); out != "" {
		l.t.Errorf("images that cannot be removed: %s", out)
	}
}

// layer is a root file system with busybox and the file /name.
func layer(name string) string {
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		panic(err) // every test here needs it
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for path, body := range map[string][]byte{"bin/busybox": busybox, "name": []byte(name)} {
		_ = w.WriteHeader(&tar.Header{Name: path, Mode: 0o755, Size: int64(len(body)), Typeflag: tar.TypeReg})
		_, _ = w.Write(body)
	}
	_ = w.Close()
	return b.String()
}

// serveImages starts our registry beside the daemon, in its network, and fills it.
func serveImages(t *testing.T, d *harness.Daemon) []string {
	t.Helper()
	cfg := filepath.Join(t.TempDir(), "registry.json")
	text := `{"storage":{"rootDirectory":"` + t.TempDir() + `"},"http":{"address":"127.0.0.1","port":"5000"}}`
	if err := os.WriteFile(cfg, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, "nsenter", "--net=/run/netns/"+d.NetNS, harness.Bin("longshore"), "registry", "serve", cfg)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = c.Wait()
	})
	harness.Eventually(t, 20*time.Second, "the registry answers", func() bool {
		return d.InNet("curl", "-sf", "-m", "2", "http://127.0.0.1:5000/v2/").Code == 0
	})
	var names []string
	for i := range 4 {
		name := fmt.Sprintf("localhost:5000/image%d", i)
		if r := d.DockerIn(strings.NewReader(layer(path.Base(name))), "import", "-", name); r.Code != 0 {
			t.Fatal(r.Err)
		}
		d.OK("push", name)
		d.OK("rmi", name)
		names = append(names, name)
	}
	return names
}
