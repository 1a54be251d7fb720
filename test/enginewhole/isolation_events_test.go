package enginewhole

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"longshore/test/harness"
)

type message struct {
	Type, Action string
	Actor        struct {
		ID         string
		Attributes map[string]string
	}
	Scope    string `json:"scope"`
	TimeNano int64  `json:"timeNano"`
}

// happened are the events since a time, in order.
func happened(t *testing.T, d *harness.Daemon, since time.Time) []message {
	t.Helper()
	status, text := call(t, d, "GET", fmt.Sprintf("/events?since=%d.%09d&until=%d.%09d", since.Unix(), since.Nanosecond(), time.Now().Unix(), time.Now().Nanosecond()), nil)
	if status != 200 {
		t.Fatalf("events: %d %s", status, text)
	}
	var out []message
	for dec := json.NewDecoder(strings.NewReader(text)); ; {
		var m message
		if err := dec.Decode(&m); err == io.EOF {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
}

// detach sends a request that takes the connection over, presses the key and waits until the daemon lets go.
func detach(t *testing.T, d *harness.Daemon, path, body, key string) {
	t.Helper()
	c, err := net.Dial("unix", d.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("%s: %v %v", path, resp, err)
	}
	if _, err := io.WriteString(c, key); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Errorf("%s: the connection did not end: %v", path, err)
	}
}

// emitted are docker's events with all their attributes. Containers and images have their labels among them; "team" is the
// label of the containers, "color" that of the image made of one.
var emitted = map[string]string{
	"container attach": "image name team", "container commit": "comment image imageID imageRef name team", "container archive-path": "image name team",
	"container copy": "image name team", "container extract-to-dir": "image name team", "container create": "image name team", "container destroy": "image name team",
	"container detach": "image name team", "container die": "execDuration exitCode image name team", "container exec_create": "execID image name team",
	"container exec_start": "execID image name team", "container exec_die": "execID exitCode image name team", "container exec_detach": "execID image name team",
	"container export": "image name team", "container health_status": "image name team", "container kill": "image name signal team", "container oom": "image name team",
	"container pause": "image name team", "container prune": "reclaimed", "container rename": "image name oldName team", "container resize": "height image name team width",
	"container restart": "image name team", "container start": "image name team", "container stop": "image name team", "container top": "image name team",
	"container unpause": "image name team", "container update": "image name team",
	"image delete": "color name team", "image import": "name", "image load": "color name team", "image pull": "color name team", "image push": "color name team",
	"image save": "color name team", "image tag": "color name team", "image untag": "color name team", "image create": "color name team", "image prune": "reclaimed",
	"volume create": "driver", "volume destroy": "driver", "volume mount": "container destination driver propagation read/write",
	"volume unmount": "container driver", "volume prune": "reclaimed",
	"network create": "name type", "network connect": "container name type", "network disconnect": "container name type", "network destroy": "name type",
	"network prune": "reclaimed", "builder prune": "reclaimed",
	"daemon reload": "debug default-cgroupns-mode default-ipc-mode default-runtime default-shm-size features insecure-registries labels live-restore " +
		"max-concurrent-downloads max-concurrent-uploads max-download-attempts name registry-mirrors runtimes shutdown-timeout",
}

// TestEvents does everything that docker tells of and looks for the event.
func TestEvents(t *testing.T) {
	t.Parallel()
	d := harness.New(t)
	d.Command = "serve" // with a registry, to push to
	d.Up()
	began := time.Now()
	d.Busybox()
	containerEvents(t, d)
	imageEvents(t, d)
	otherEvents(t, d)
	if err := syscall.Kill(d.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, 30*time.Second, "the configuration is reloaded", func() bool { return strings.Contains(d.Log(), "configuration reloaded") })
	// The event is written after the line of the log.
	harness.Eventually(t, 30*time.Second, "the last event", func() bool {
		all := happened(t, d, began)
		return all[len(all)-1].Action == "reload"
	})

	seen := map[string]message{}
	for _, m := range happened(t, d, began) {
		action, _, _ := strings.Cut(m.Action, ": ")
		seen[m.Type+" "+action] = m
		if m.TimeNano == 0 || m.Scope != "local" {
			t.Errorf("%s %s has no time or scope: %+v", m.Type, m.Action, m)
		}
	}
	for what, attributes := range emitted {
		m, ok := seen[what]
		switch {
		case ok:
			if keys := strings.Join(slices.Sorted(maps.Keys(m.Actor.Attributes)), " "); keys != attributes {
				t.Errorf("%s has the attributes %q, want %q", what, keys, attributes)
			}
		case what != "container oom" || hasMemoryLimit(d):
			t.Errorf("no event: %s", what)
		}
	}
	for what := range seen {
		if _, ok := emitted[what]; !ok {
			t.Errorf("an event that docker does not know: %s", what)
		}
	}
	out := d.OK("events", "--since", strconv.FormatInt(began.Unix(), 10), "--until", strconv.FormatInt(time.Now().Unix()+1, 10),
		"--filter", "type=container", "--filter", "event=rename", "--filter", "label=team=blue", "--format", "{{.Action}} {{.Actor.Attributes.name}}")
	if out != "rename main" {
		t.Errorf("filtered: %q", out)
	}
}

func hasMemoryLimit(d *harness.Daemon) bool { return d.OK("info", "-f", "{{.MemoryLimit}}") == "true" }

func containerEvents(t *testing.T, d *harness.Daemon) {
	t.Helper()
	d.OK("run", "-dit", "--name", "first", "--label", "team=blue", "--health-cmd", "true", "--health-interval", "1s", "-v", "vol:/v", "busybox", "sh")
	d.OK("rename", "first", "main")
	d.OK("exec", "main", "true")
	d.OK("top", "main")
	d.OK("pause", "main")
	d.OK("unpause", "main")
	d.OK("update", "--cpu-shares", "100", "main")
	if status, text := call(t, d, "POST", "/containers/main/resize?h=10&w=20", nil); status != 200 {
		t.Errorf("resize: %d %s", status, text)
	}
	detach(t, d, "/containers/main/attach?stream=1&stdin=1&stdout=1&detachKeys=a", "", "a")
	status, text := call(t, d, "POST", "/containers/main/exec", map[string]any{"AttachStdin": true, "AttachStdout": true, "Tty": true, "Cmd": []string{"cat"}, "DetachKeys": "a"})
	var exec struct{ ID string }
	if err := json.Unmarshal([]byte(text), &exec); err != nil || status != 201 {
		t.Fatalf("exec: %d %s", status, text)
	}
	detach(t, d, "/exec/"+exec.ID+"/start", `{"Tty": true}`, "a")
	dir := t.TempDir()
	d.OK("cp", "main:/etc/passwd", dir)
	d.OK("cp", filepath.Join(dir, "passwd"), "main:/tmp")
	d.OK("export", "-o", filepath.Join(dir, "tree.tar"), "main")
	if status, text := call(t, d, "POST", "/v1.20/containers/main/copy", map[string]string{"Resource": "/etc/passwd"}); status != 200 || !strings.Contains(text, "root:") {
		t.Errorf("copy: %d %.200s", status, text)
	}
	d.OK("commit", "--change", "LABEL color=red", "main", "made:1")
	harness.Eventually(t, 30*time.Second, "the container is healthy", func() bool {
		return d.OK("inspect", "-f", "{{.State.Health.Status}}", "main") == "healthy"
	})
	d.OK("restart", "-t", "0", "main")
	d.OK("stop", "-t", "0", "main")
	d.OK("start", "main")
	d.OK("kill", "main")
	if hasMemoryLimit(d) {
		_ = d.Docker("run", "--name", "hungry", "--label", "team=blue", "-m", "8m", "busybox", "sh", "-c", "head -c 100m /dev/zero | tail")
	}
	d.OK("rm", "-f", "main")
	d.OK("create", "--name", "idle", "--label", "team=blue", "busybox")
	d.OK("container", "prune", "-f")
}

func imageEvents(t *testing.T, d *harness.Daemon) {
	t.Helper()
	dir := t.TempDir()
	d.OK("tag", "made:1", "localhost:5000/made:1")
	d.OK("push", "localhost:5000/made:1")
	d.OK("rmi", "localhost:5000/made:1", "made:1")
	d.OK("pull", "localhost:5000/made:1")
	d.OK("save", "-o", filepath.Join(dir, "i.tar"), "localhost:5000/made:1")
	d.OK("load", "-i", filepath.Join(dir, "i.tar"))
	d.OK("image", "prune", "-f")
}

func otherEvents(t *testing.T, d *harness.Daemon) {
	t.Helper()
	d.OK("volume", "create", "named")
	d.OK("volume", "rm", "named")
	d.OK("volume", "prune", "-f")
	d.OK("network", "create", "net")
	d.OK("create", "--name", "idle", "--label", "team=blue", "busybox", "sleep", "600")
	d.OK("start", "idle")
	d.OK("network", "connect", "net", "idle")
	d.OK("network", "disconnect", "net", "idle")
	d.OK("rm", "-f", "idle")
	d.OK("network", "rm", "net")
	d.OK("network", "create", "unused")
	d.OK("network", "prune", "-f")
	d.OK("builder", "prune", "-af")
}

// TestPruneFilters: until, label and label! of every prune.
func TestPruneFilters(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	names := func(kind string, args ...string) string {
		list := strings.Fields(d.OK(append([]string{kind}, args...)...))
		slices.Sort(list)
		return strings.Join(list, " ")
	}
	for _, x := range []struct{ name, label string }{{"red", "color=red"}, {"blue", "color=blue"}, {"plain", ""}} {
		args := []string{"create", "--name", x.name}
		vol, net := []string{"volume", "create"}, []string{"network", "create"}
		if x.label != "" {
			args, vol, net = append(args, "--label", x.label), append(vol, "--label", x.label), append(net, "--label", x.label)
		}
		d.OK(append(args, "busybox")...)
		d.OK(append(vol, x.name)...)
		d.OK(append(net, x.name)...)
		d.OK("commit", "--change", "LABEL color="+x.name, x.name, "img-"+x.name)
	}
	containers := func() string { return names("ps", "-a", "--format", "{{.Names}}") }
	d.OK("container", "prune", "-f", "--filter", "until=1h")
	if got := containers(); got != "blue plain red" {
		t.Errorf("until=1h took young ones: %s", got)
	}
	d.OK("container", "prune", "-f", "--filter", "label=color=red")
	if got := containers(); got != "blue plain" {
		t.Errorf("label: %s", got)
	}
	d.OK("container", "prune", "-f", "--filter", "label!=color")
	if got := containers(); got != "blue" {
		t.Errorf("label!: %s", got)
	}
	future := strconv.FormatInt(time.Now().Unix()+600, 10)
	d.OK("container", "prune", "-f", "--filter", "until="+future)
	if got := containers(); got != "" {
		t.Errorf("until in the future: %s", got)
	}
	d.OK("volume", "prune", "-af", "--filter", "label=color=red")
	d.OK("volume", "prune", "-af", "--filter", "label!=color=blue")
	if got := names("volume", "ls", "-q"); got != "blue" {
		t.Errorf("volumes: %s", got)
	}
	d.OK("network", "prune", "-f", "--filter", "until=1h")
	d.OK("network", "prune", "-f", "--filter", "label=color=red")
	d.OK("network", "prune", "-f", "--filter", "label!=color")
	if got := names("network", "ls", "--filter", "type=custom", "--format", "{{.Name}}"); got != "blue" {
		t.Errorf("networks: %s", got)
	}
	images := func() string { return names("images", "--filter", "reference=img-*", "--format", "{{.Repository}}") }
	d.OK("image", "prune", "-af", "--filter", "until=1h")
	if got := images(); got != "img-blue img-plain img-red" {
		t.Errorf("images, until=1h: %s", got)
	}
	d.OK("image", "prune", "-af", "--filter", "label=color=red")
	d.OK("image", "prune", "-af", "--filter", "label!=color=blue")
	if got := images(); got != "img-blue" {
		t.Errorf("images: %s", got)
	}
	d.OK("image", "prune", "-f", "--filter", "until="+future) // dangling ones alone
	if got := images(); got != "img-blue" {
		t.Errorf("images that have a name: %s", got)
	}
	d.OK("image", "prune", "-af", "--filter", "until="+future, "--filter", "label=color")
	if got := images(); got != "" {
		t.Errorf("images, until in the future: %s", got)
	}
	d.OK("network", "prune", "-f", "--filter", "until="+future)
	if got := names("network", "ls", "--filter", "type=custom", "--format", "{{.Name}}"); got != "" {
		t.Errorf("networks, until in the future: %s", got)
	}
	d.OK("volume", "prune", "-f") // only anonymous ones
	if got := names("volume", "ls", "-q"); got != "blue" {
		t.Errorf("a named volume was pruned: %q", got)
	}
	d.OK("volume", "prune", "-f", "--filter", "all=1")
	if got := names("volume", "ls", "-q"); got != "" {
		t.Errorf("volumes, all: %q", got)
	}
	refused(t, d, "/volumes/prune?filters=%7B%22until%22%3A%5B%221h%22%5D%7D", nil, 400, "invalid filter 'until'")
	d.Fails("The \"until\" filter is not supported", "system", "prune", "-f", "--volumes", "--filter", "until=1h")
	for _, kind := range []string{"containers", "volumes", "networks", "images"} {
		refused(t, d, "/"+kind+"/prune?filters=%7B%22nope%22%3A%5B%22x%22%5D%7D", nil, 400, "invalid filter 'nope'")
	}
	refused(t, d, "/containers/prune?filters=%7B%22until%22%3A%5B%22soon%22%5D%7D", nil, 400, "soon")
	refused(t, d, "/containers/prune?filters=%7B%22until%22%3A%5B%221h%22%2C%222h%22%5D%7D", nil, 400, "more than one until filter specified")
}

// TestDiskUsage compares df with what is on disk.
func TestDiskUsage(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	d.OK("run", "--name", "writer", "-v", "data:/d", "busybox", "sh", "-c", "head -c 3000000 /dev/zero > /big; head -c 1000000 /dev/zero > /d/f")
	// A second name of a file, a link (of 3 bytes), a directory and a file with a hole (of 700,000).
	d.OK("run", "--rm", "-v", "odd:/d", "busybox", "sh", "-c", "mkdir -p /d/sub/deep; head -c 1000 /dev/zero > /d/sub/f; ln /d/sub/f /d/again; ln -s sub /d/link; truncate -s 700000 /d/sub/deep/hole; ln -s /etc /d/out")
	d.OK("volume", "create", "idle")
	write(t, filepath.Join(d.DataRoot(), "volumes/idle/_data/f"), strings.Repeat("x", 500))
	d.OK("commit", "writer", "bigger")
	var u struct {
		ContainerUsage struct {
			ActiveCount, TotalCount int
			TotalSize, Reclaimable  int64
			Items                   []struct{ SizeRw, SizeRootFs int64 }
		} `json:"ContainersDiskUsage"`
		Containers []struct {
			SizeRw, SizeRootFs int64
			Names              []string
		}
		Volumes []struct {
			Name      string
			UsageData struct{ Size, RefCount int64 }
		}
		Images []struct {
			RepoTags         []string
			Size, SharedSize int64
			Containers       int64
		}
		LayersSize int64
	}
	_, text := call(t, d, "GET", "/v1.51/system/df", nil)
	if err := json.Unmarshal([]byte(text), &u); err != nil {
		t.Fatal(err)
	}
	if len(u.Containers) != 1 || u.Containers[0].SizeRw < 3000000 || u.Containers[0].SizeRw > 3100000 || u.Containers[0].SizeRootFs < u.Containers[0].SizeRw {
		t.Errorf("containers: %+v", u.Containers)
	}
	sizes := map[string][2]int64{}
	for _, v := range u.Volumes {
		sizes[v.Name] = [2]int64{v.UsageData.Size, v.UsageData.RefCount}
	}
	if want := int64(1000 + 3 + 700000 + 4); sizes["odd"] != [2]int64{want, 0} {
		t.Errorf("the volume with links and holes has %v, want %d", sizes["odd"], want)
	}
	if sizes["data"] != [2]int64{1000000, 1} || sizes["idle"] != [2]int64{500, 0} {
		t.Errorf("volumes: %v", sizes)
	}
	for _, i := range u.Images {
		if slices.Contains(i.RepoTags, "bigger:latest") && (i.SharedSize <= 0 || i.Size-i.SharedSize < 3000000 || i.Containers != 0) {
			t.Errorf("the committed image: %+v", i)
		}
		if slices.Contains(i.RepoTags, "busybox:latest") && (i.Containers != 1 || i.SharedSize > i.Size) {
			t.Errorf("busybox: %+v", i)
		}
	}
	if len(u.Images) != 2 || u.LayersSize < 3000000 {
		t.Errorf("images: %d, together %d", len(u.Images), u.LayersSize)
	}
	out := d.OK("system", "df", "-v")
	for _, w := range []string{"Images space usage:", "Containers space usage:", "Local Volumes space usage:", "writer", "data", "idle", "1MB", "500B", "3.01MB"} {
		if !strings.Contains(out, w) {
			t.Errorf("df -v has no %q:\n%s", w, out)
		}
	}
	if _, err := os.Stat(d.DataRoot()); err != nil {
		t.Fatal(err)
	}
}

// usage is what df tells of images and the build cache.
type usage struct {
	Images []struct {
		Id, ParentId     string //nolint:revive // docker's names
		RepoTags         []string
		Size, SharedSize int64
		Containers       int64
	}
	BuildCache []struct {
		ID, Type, Description string
		Shared, InUse         bool
		Size                  int64
	}
	LayersSize int64
}

// TestDiskUsageOfBuilds: layers that images share with each other and with the build cache are told as such, once; the
// cache is pruned by age, by kind and by ID.
func TestDiskUsageOfBuilds(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	for name, last := range map[string]string{"one": "1000000", "two": "500000"} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "Dockerfile"), "FROM busybox\nRUN head -c 2000000 /dev/zero > /a\nRUN head -c "+last+" /dev/zero > /b\n")
		d.OK("build", "-q", "-t", name, dir)
	}
	df := func() (u usage) {
		status, text := call(t, d, "GET", "/v1.51/system/df", nil)
		if err := json.Unmarshal([]byte(text), &u); err != nil || status != 200 {
			t.Fatalf("%d %v %s", status, err, text)
		}
		return u
	}
	sizes := func(u usage) (size, shared map[string]int64) {
		size, shared = map[string]int64{}, map[string]int64{}
		for _, i := range u.Images {
			if len(i.RepoTags) > 0 {
				size[i.RepoTags[0]], shared[i.RepoTags[0]] = i.Size, i.SharedSize
			}
		}
		return size, shared
	}
	var u usage
	harness.Eventually(t, 30*time.Second, "the builds have let go of their records", func() bool {
		u = df()
		for _, r := range u.BuildCache {
			if r.InUse {
				return false
			}
		}
		return true
	})
	size, shared := sizes(u)
	within := func(what string, got, low, high int64) {
		t.Helper()
		if got < low || got > high {
			t.Errorf("%s: %d, want %d to %d", what, got, low, high)
		}
	}
	base := shared["busybox:latest"]
	within("the base is shared", base, 100_000, size["busybox:latest"])
	for _, name := range []string{"one:latest", "two:latest"} {
		within("shared by "+name, shared[name], base+2_000_000, base+2_050_000)
	}
	within("one is bigger than two", size["one:latest"]-size["two:latest"], 450_000, 550_000)
	// All that the images have, each layer and blob once: the base with its blob, the common layer, one of each.
	within("together", u.LayersSize, size["busybox:latest"]+3_500_000, size["busybox:latest"]+3_650_000)
	layers, steps := int64(0), 0
	for _, r := range u.BuildCache {
		if r.Type == "regular" && !r.Shared {
			t.Errorf("the cache counts a layer of an image as its own: %+v", r)
		}
		if strings.Contains(r.Description, "RUN") || strings.Contains(r.Description, "head -c") {
			layers, steps = layers+r.Size, steps+1
		}
	}
	if steps != 3 {
		t.Errorf("%d steps are in the cache, want 3: %+v", steps, u.BuildCache)
	}
	within("the steps' records", layers, 3_500_000, 3_650_000)

	d.OK("rmi", "one", "two")
	harness.Eventually(t, 30*time.Second, "without the images the cache has the layers for itself", func() bool {
		n := 0
		for _, r := range df().BuildCache {
			if r.Type == "regular" && !r.Shared && strings.Contains(r.Description, "head -c") {
				n++
			}
		}
		return n == 3
	})
	all := len(df().BuildCache)
	d.OK("builder", "prune", "-f", "--filter", "until=1h")
	if n := len(df().BuildCache); n != all {
		t.Errorf("until=1h left %d of %d records", n, all)
	}
	d.OK("builder", "prune", "-f", "--filter", "type=source.local")
	for _, r := range df().BuildCache {
		if r.Type == "source.local" {
			t.Errorf("a record that the filter names stays: %+v", r)
		}
	}
	if len(df().BuildCache) == 0 {
		t.Error("the filter took other records too")
	}
	refused(t, d, "/build/prune?filters=%7B%22until%22%3A%5B%22soon%22%5D%7D", nil, 400, "soon")
	refused(t, d, "/build/prune?filters=%7B%22nope%22%3A%5B%22x%22%5D%7D", nil, 400, "nope")
	d.OK("builder", "prune", "-af")
	if left := df().BuildCache; len(left) > 0 {
		t.Errorf("after prune of all: %+v", left)
	}
}
