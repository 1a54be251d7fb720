package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

// TestVolumesAndSystem: volumes, lists of containers, events, disk usage, info, and what an engine without swarm and
// plugins says.
func TestVolumesAndSystem(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	part(t, d, "volumes", volumeOptions)
	part(t, d, "lists of containers", listFilters)
	part(t, d, "events", eventFilters)
	part(t, d, "disk usage", diskUsage)
	part(t, d, "info and version", infoTruth)
	part(t, d, "no plugins, no swarm", nothingThere)
}

func volumeOptions(t *testing.T, d *harness.Daemon) {
	says(t, d, "data", "volume", "create", "--label", "a=b", "--label", "only", "data")
	says(t, d, "data", "volume", "create", "data") // it is there
	anon := d.OK("volume", "create")
	if len(anon) != 64 {
		t.Errorf("the made-up name is %q", anon)
	}
	says(t, d, "data local local map[a:b only:] true", "volume", "inspect", "-f", `{{.Name}} {{.Driver}} {{.Scope}} {{.Labels}} {{ne .Mountpoint ""}}`, "data")
	c := d.OK("create", "--name", "holder", "-v", "data:/d", "-v", "/anon", "busybox")
	inner := d.OK("inspect", "-f", `{{range .Mounts}}{{if eq .Destination "/anon"}}{{.Name}}{{end}}{{end}}`, c)
	list := func(filters ...string) string {
		t.Helper()
		args := []string{"volume", "ls", "-q"}
		for _, f := range filters {
			args = append(args, "--filter", f)
		}
		names := strings.Fields(d.OK(args...))
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	sorted := func(names ...string) string {
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	for _, c := range []struct {
		want    string
		filters []string
	}{
		{sorted("data", anon, inner), nil}, {"data", []string{"label=a=b"}}, {"data", []string{"label=only"}}, {"", []string{"label=a=c"}}, {sorted(anon), []string{"dangling=true"}},
		{sorted("data", inner), []string{"dangling=false"}}, {"data", []string{"name=dat"}}, {sorted("data", anon, inner), []string{"driver=local"}}, {"", []string{"driver=other"}}, {sorted(anon, inner), []string{"label=com.docker.volume.anonymous"}},
	} {
		if got := list(c.filters...); got != c.want {
			t.Errorf("volume ls %v: %s, want %s", c.filters, got, c.want)
		}
	}
	d.Fails("invalid filter 'nonsense'", "volume", "ls", "--filter", "nonsense=1")
	d.Fails("volume is in use - ["+c+"]", "volume", "rm", "data")
	d.Fails("get never: no such volume", "volume", "rm", "never")
	d.OK("volume", "rm", "-f", "never")
	// Copy-up: content, owners and modes of the image's directory, once, and not into a volume that has something.
	d.OK("run", "--name", "maker", "busybox", "sh", "-c", "mkdir -m 0750 /seed && echo s >/seed/f && chown -R 33:33 /seed")
	d.OK("commit", "maker", "seeded")
	says(t, d, "750 33 s", "run", "--rm", "-v", "up:/seed", "seeded", "sh", "-c", "echo $(stat -c '%a %u' /seed) $(cat /seed/f); rm /seed/f; touch /seed/g")
	says(t, d, "g", "run", "--rm", "-v", "up:/seed", "seeded", "ls", "/seed")
	d.OK("rm", "maker", "holder")
	// prune takes anonymous ones; -a and filters choose.
	if out := d.OK("volume", "prune", "-f"); !strings.Contains(out, anon) || !strings.Contains(out, inner) || strings.Contains(out, "data") {
		t.Errorf("prune: %s", out)
	}
	if out := d.OK("volume", "prune", "-af", "--filter", "label!=a"); !strings.Contains(out, "up") || strings.Contains(out, "data") {
		t.Errorf("prune -a: %s", out)
	}
	tells(t, d, []string{"data", "Total reclaimed space:"}, "volume", "prune", "-af", "--filter", "label=a=b")
	d.OK("rmi", "seeded")
	d.Fails("error looking up volume plugin nosuch: plugin \"nosuch\" not found", "volume", "create", "-d", "nosuch", "x")
}

func listFilters(t *testing.T, d *harness.Daemon) {
	d.OK("network", "create", "listed")
	d.OK("create", "--name", "first", "-l", "k=v", "busybox", "true")
	sh(t, d, "echo x | docker run -i --name writer busybox sh -c 'cat >/new'; docker commit -c 'LABEL k=v' writer child; docker rm writer")
	d.OK("run", "-d", "--name", "second", "--network", "listed", "-v", "lv:/lv", "-p", "18777:80", "--expose", "99/udp", "-l", "k=w", "busybox", "sleep", "1000")
	exits(t, d, 7, "run", "--name", "third", "child", "sh", "-c", "exit 7")
	d.OK("run", "-d", "--name", "fourth", "busybox", "sleep", "1000")
	d.OK("pause", "fourth")
	list := func(args ...string) string {
		t.Helper()
		return strings.Join(strings.Fields(d.OK(append([]string{"ps", "--format", "{{.Names}}"}, args...)...)), " ")
	}
	second := d.OK("inspect", "-f", "{{.Id}}", "second")
	for _, c := range []struct{ want, args string }{
		{"fourth second", ""}, {"fourth third second first", "-a"}, {"fourth third", "-n 2"}, {"fourth", "-l"}, {"second", "-f id=" + second[:12]}, {"second first", "-a -f name=first -f name=sec"}, {"first", "-a -f name=^/first$"},
		{"third second first", "-a -f label=k"}, {"third first", "-a -f label=k=v"}, {"third", "-f exited=7"}, {"first", "-f status=created"}, {"third", "-f status=exited"}, {"fourth", "-f status=paused"}, {"second", "-f status=running"},
		{"third first", "-f status=created -f status=exited"}, {"fourth third second first", "-a -f ancestor=busybox"}, {"third", "-a -f ancestor=child"}, {"second first", "-a -f before=third"}, {"fourth third", "-a -f since=second"},
		{"second", "-f volume=lv"}, {"second", "-f volume=/lv"}, {"second", "-f network=listed"}, {"second", "-f publish=18777"}, {"second", "-f expose=99/udp"}, {"", "-f publish=1"}, {"fourth third second first", "-a -f health=none"}, {"", "-a -f is-task=true"},
	} {
		if got := list(strings.Fields(c.args)...); got != c.want {
			t.Errorf("ps %s: %q, want %q", c.args, got, c.want)
		}
	}
	for words, filter := range map[string]string{"invalid filter 'nonsense'": "nonsense=1", "invalid filter 'status=": "status=nonsense", "No such container: nobody": "before=nobody", "invalid filter 'exited=": "exited=x"} {
		d.Fails(words, "ps", "-a", "-f", filter)
	}
	if out := d.OK("ps", "-as", "--no-trunc", "--filter", "name=third", "--format", "{{.ID}} {{.Image}} {{.Command}} {{.Status}} {{.Size}}"); !strings.Contains(out, ` child "sh -c 'exit 7'" Exited (7) `) || !strings.Contains(out, "virtual") {
		t.Errorf("ps -s: %s", out)
	}
	tells(t, d, []string{"(Paused)"}, "ps", "-f", "name=fourth", "--format", "{{.Status}}")
	d.OK(append([]string{"rm", "-fv"}, strings.Fields(d.OK("ps", "-aq"))...)...)
	d.OK("rmi", "child")
	d.OK("network", "rm", "listed")
	d.OK("volume", "rm", "lv")
}

func eventFilters(t *testing.T, d *harness.Daemon) {
	begin := stampNow()
	in, live, wait := cli(t, d, "events", "--filter", "type=container", "--filter", "event=start", "--format", "{{.Actor.Attributes.name}}")
	defer func() { _ = in.Close() }()
	d.OK("network", "create", "evnet")
	d.OK("run", "-d", "--name", "ev", "-l", "tier=one", "--network", "evnet", "-v", "volev:/v", "busybox", "sleep", "1000")
	for _, args := range []string{"exec ev true", "pause ev", "unpause ev", "rename ev evv", "kill -s KILL evv", "wait evv", "start evv", "restart -t 0 evv", "update -c 100 evv", "top evv", "stop -t 0 evv", "commit evv evimg", "tag evimg evimg:2", "rm evv", "rmi evimg evimg:2", "network rm evnet", "volume rm volev"} {
		d.OK(strings.Fields(args)...)
	}
	end := stampNow()
	ask := func(filters ...string) string {
		t.Helper()
		args := []string{"events", "--since", begin, "--until", end, "--format", "{{.Type}}.{{.Action}}"}
		for _, f := range filters {
			args = append(args, "--filter", f)
		}
		return strings.Join(strings.Split(d.OK(args...), "\n"), " ")
	}
	all := ask("type=container")
	at := 0
	for _, action := range []string{"create", "start", "exec_create: true", "exec_start: true", "exec_die", "pause", "unpause", "rename", "kill", "die", "start", "kill", "die", "stop", "start", "restart", "update", "top", "kill", "die", "stop", "commit", "destroy"} {
		i := strings.Index(all[at:], "container."+action)
		if i < 0 {
			t.Errorf("container.%s is missing behind %q in\n%s", action, all[:at], all)
			break
		}
		at += i
	}
	for want, filters := range map[string][]string{
		"network.create network.connect":     {"type=network", "network=evnet", "event=create", "event=connect"},
		"volume.create":                      {"type=volume", "event=create"},
		"volume.destroy":                     {"volume=volev", "event=destroy"},
		"container.create image.create":      {"label=tier=one", "event=create"},
		"container.destroy":                  {"container=evv", "event=destroy"},
		"container.create container.destroy": {"type=container", "event=create", "event=destroy"},
		"image.tag":                          {"type=image", "image=evimg:2", "event=tag"},
		"":                                   {"label=tier=two"},
		"network.destroy":                    {"scope=local", "type=network", "event=destroy"},
	} {
		got := ask(filters...)
		if want == "network.create network.connect" { // one connect at every start
			got = strings.Join(slices.Compact(strings.Fields(got)), " ")
		}
		if got != want {
			t.Errorf("events %v: %q, want %q", filters, got, want)
		}
	}
	harness.Eventually(t, 20*time.Second, "the live stream had the three starts", func() bool { return strings.Count(live.String(), "ev") == 3 })
	// The journal outlives the daemon.
	before := ask()
	d.Kill()
	d.Up()
	if err := wait(); err == nil {
		t.Error("the live stream did not end with the daemon")
	}
	if after := ask(); after != before {
		t.Errorf("before the restart\n%s\nafter\n%s", before, after)
	}
	if status, _ := exchange(t, d, "GET", "/events?since=2&until=1", ""); status != 400 {
		t.Errorf("since behind until: %d", status)
	}
}

func diskUsage(t *testing.T, d *harness.Daemon) {
	id := d.OK("run", "-d", "-v", "big:/big", "busybox", "sh", "-c", "head -c 3000000 /dev/zero >/big/f; head -c 2000000 /dev/zero >/w; exec sleep 1000")
	defer d.OK("rm", "-f", id)
	harness.Eventually(t, 30*time.Second, "usage is counted", func() bool {
		out := d.OK("system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}} {{.Reclaimable}}")
		return strings.Contains(out, "Images 1 1 ") && strings.Contains(out, "Containers 1 1 2") && strings.Contains(out, "Local Volumes 1 1 3MB 0B (0%)")
	})
	out := d.OK("system", "df", "-v")
	for _, want := range []string{"Images space usage:", "busybox", "Containers space usage:", id[:12], "Local Volumes space usage:", "big", "3MB"} {
		if !strings.Contains(out, want) {
			t.Errorf("df -v: %q is missing in\n%s", want, out)
		}
	}
	var df struct {
		VolumeUsage struct{ TotalSize int64 }
	}
	decode(t, raw(t, d, "GET", "/system/df?type=volume", ""), &df)
	if df.VolumeUsage.TotalSize < 3000000 {
		t.Errorf("df of volumes alone: %+v", df)
	}
	d.OK("rm", "-f", id)
	if out := d.OK("system", "prune", "-af", "--volumes"); !strings.Contains(out, "Total reclaimed space:") {
		t.Errorf("system prune: %s", out)
	}
	says(t, d, "", "images", "-q")
	d.Busybox()
	id = d.OK("create", "busybox")
}

func infoTruth(t *testing.T, d *harness.Daemon) {
	d.OK("run", "-d", "--name", "running", "busybox", "sleep", "1000")
	d.OK("run", "-d", "--name", "paused", "busybox", "sleep", "1000")
	d.OK("pause", "paused")
	d.OK("run", "--name", "ended", "busybox", "true")
	defer d.OK("rm", "-f", "running", "paused", "ended")
	var info map[string]any
	decode(t, raw(t, d, "GET", "/info", ""), &info)
	host := func(script string) string { return sh(t, d, script) }
	for key, want := range map[string]string{
		"ContainersRunning": "1", "ContainersPaused": "1", "Images": "1", "NCPU": host("nproc"), "KernelVersion": host("uname -r"), "Name": host("hostname"), "OSType": "linux", "Architecture": host("uname -m"),
		"DockerRootDir": d.DataRoot(), "LoggingDriver": "json-file", "LiveRestoreEnabled": "true", "Debug": "false", "SwapLimit": fmt.Sprint(info["SwapLimit"]), "Driver": "overlayfs",
	} {
		if got := fmt.Sprint(info[key]); got != want {
			t.Errorf("info: %s is %s, want %s", key, got, want)
		}
	}
	if total, _ := info["MemTotal"].(float64); fmt.Sprint(int64(total)/1024) != host("awk '/MemTotal/{print $2}' /proc/meminfo") {
		t.Errorf("info: MemTotal %v", info["MemTotal"])
	}
	for _, key := range []string{"ID", "ServerVersion", "OperatingSystem", "SystemTime", "Runtimes", "DefaultRuntime", "Plugins", "SecurityOptions", "CgroupDriver", "CgroupVersion", "RegistryConfig", "Swarm", "DriverStatus"} {
		if info[key] == nil || info[key] == "" {
			t.Errorf("info: %s is missing", key)
		}
	}
	plugins, _ := json.Marshal(info["Plugins"])
	for _, name := range []string{`"local"`, `"bridge"`, `"host"`, `"null"`, `"json-file"`} {
		if !strings.Contains(string(plugins), name) {
			t.Errorf("info: plugins %s lack %s", plugins, name)
		}
	}
	id := d.OK("info", "-f", "{{.ID}}")
	d.Kill()
	d.Up()
	says(t, d, id, "info", "-f", "{{.ID}}")
	tells(t, d, []string{"Server:", "API version:", "1.55 (minimum version 1.0)"}, "version")
	if status, text := exchange(t, d, "GET", "/_ping", ""); status != 200 || text != "OK" {
		t.Errorf("ping: %d %q", status, text)
	}
}

func nothingThere(t *testing.T, d *harness.Daemon) {
	if text := strings.TrimSpace(raw(t, d, "GET", "/plugins", "")); text != "[]" {
		t.Errorf("plugins: %s", text)
	}
	d.Fails("plugin \"nosuch\" not found", "plugin", "inspect", "nosuch")
	const manager = `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`
	for _, path := range []string{"/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs", "/services/x", "/nodes/x", "/swarm/unlockkey"} {
		status, text := exchange(t, d, "GET", path, "")
		var body struct{ Message string }
		decode(t, text, &body)
		if status != 503 || body.Message != manager {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	for _, args := range []string{"node ls", "service ls", "secret ls", "config ls", "stack ls", "swarm update --autolock"} {
		d.Fails("This node is not a swarm manager", strings.Fields(args)...)
	}
	d.Fails("This node is not part of a swarm", "swarm", "leave")
}
