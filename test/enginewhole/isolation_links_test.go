package enginewhole

import (
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

func TestLinks(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	d.OK("run", "-d", "--name", "database", "-e", "PASSWORD=gordon", "--expose", "5432", "--expose", "53/udp", "busybox", "sleep", "600")
	ip := d.OK("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "database")
	env := d.OK("run", "--name", "web", "--link", "database:db", "busybox", "env")
	for _, want := range []string{
		"DB_PORT=udp://" + ip + ":53", "DB_PORT_5432_TCP=tcp://" + ip + ":5432", "DB_PORT_5432_TCP_ADDR=" + ip, "DB_PORT_5432_TCP_PORT=5432",
		"DB_PORT_5432_TCP_PROTO=tcp", "DB_PORT_53_UDP=udp://" + ip + ":53", "DB_NAME=/web/db", "DB_ENV_PASSWORD=gordon",
	} {
		if !strings.Contains("\n"+env+"\n", "\n"+want+"\n") {
			t.Errorf("no variable %s in\n%s", want, env)
		}
	}
	if strings.Contains(env, "DB_ENV_PATH") {
		t.Errorf("PATH of the other container: %s", env)
	}
	hosts := d.OK("run", "--rm", "--link", "database:db", "busybox", "cat", "/etc/hosts")
	id := d.OK("inspect", "-f", "{{.Id}}", "database")
	if !strings.Contains(hosts, ip+"\tdb "+id[:12]+" database") {
		t.Errorf("hosts:\n%s", hosts)
	}
	if out := d.OK("inspect", "-f", "{{.HostConfig.Links}}", "web"); out != "[/database:/web/db]" {
		t.Errorf("inspect: %s", out)
	}
	d.OK("stop", "-t", "0", "database")
	d.Fails("Cannot link to a non running container: /database AS /web/db", "start", "-a", "web")
	d.OK("start", "database")
	d.OK("start", "-a", "web")
	d.Fails("could not get container for none", "create", "--link", "none:x", "busybox")
	d.Fails("host type networking can't be used with links", "create", "--network", "host", "--link", "database:db", "busybox")
}

// TestLinksGoOn: links follow renames and new addresses, end with rm --link, and order the start of a daemon.
func TestLinksGoOn(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	d.OK("run", "-d", "--name", "database", "--restart", "always", "busybox", "sleep", "600")
	d.OK("run", "-d", "--name", "web", "--restart", "always", "--link", "database:db", "--link", "database:store", "busybox", "sleep", "600")
	if out := d.OK("ps", "--no-trunc", "--filter", "id="+d.OK("inspect", "-f", "{{.Id}}", "database"), "--format", "{{.Names}}"); out != "database,web/db,web/store" {
		t.Errorf("names: %s", out)
	}
	line := func(alias string) string {
		for _, l := range strings.Split(d.Docker("exec", "web", "cat", "/etc/hosts").Out, "\n") {
			if f := strings.Fields(l); len(f) > 1 && f[1] == alias {
				return strings.Join(f, " ")
			}
		}
		return ""
	}
	known := func(when string) {
		t.Helper()
		harness.Eventually(t, 30*time.Second, when, func() bool {
			f := strings.Fields(d.OK("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}} {{.Id}} {{.Name}}", d.OK("ps", "-q", "--filter", "name=data")))
			return len(f) == 3 && line("db") == f[0]+" db "+f[1][:12]+" "+f[2][1:]
		})
	}
	known("at first")
	first := line("db")
	d.OK("stop", "-t", "0", "database")
	d.OK("run", "-d", "--name", "thief", "busybox", "sleep", "600") // has its address now, or another does
	d.OK("start", "database")
	known("after a restart")
	d.OK("network", "disconnect", "bridge", "database")
	d.OK("run", "-d", "--name", "thief2", "busybox", "sleep", "600")
	d.OK("network", "connect", "bridge", "database")
	known("on the bridge again")
	if line("db") == first {
		t.Log("the address is still the same") // and nothing was shown
	}
	d.OK("rename", "database", "data2")
	known("after a rename")
	if out := d.OK("inspect", "-f", "{{.HostConfig.Links}}", "web"); out != "[/data2:/web/db /data2:/web/store]" {
		t.Errorf("inspect: %s", out)
	}
	d.OK("run", "-d", "--name", "stack", "--restart", "always", "busybox", "sleep", "600")
	d.OK("run", "-d", "--name", "guest", "--restart", "always", "--network", "container:stack", "busybox", "sleep", "600")
	began := d.OK("inspect", "-f", "{{.State.StartedAt}}", "web")
	d.Kill()
	d.KillShims()
	d.Up()
	harness.Eventually(t, 30*time.Second, "all run again, the ones that are needed first", func() bool {
		out := d.OK("inspect", "-f", "{{.State.Running}} {{.State.StartedAt}}", "data2", "web", "stack", "guest")
		return strings.Count(out, "true ") == 4 && !strings.Contains(out, began)
	})
	known("after the host's crash")

	d.Fails("cannot remove the default link name of the container", "rm", "--link", "web")
	d.Fails("No such container: web/none", "rm", "--link", "web/none")
	d.OK("rm", "--link", "web/db")
	if out := d.OK("inspect", "-f", "{{.HostConfig.Links}}", "web"); out != "[/data2:/web/store]" || line("db") != "" || line("store") == "" {
		t.Errorf("after rm --link: %s, %q %q", out, line("db"), line("store"))
	}
	d.OK("rm", "-f", "data2")
	d.Fails("Cannot link to a non running container: ", "restart", "-t", "0", "web")
	d.OK("rm", "--link", "web/store")
	d.OK("start", "web")
	if out := d.OK("run", "--rm", "--link", "guest:g", "busybox", "sh", "-c", "env | grep ^G_NAME= | wc -l; grep -c ' g \\|\tg ' /etc/hosts"); out != "1\n1" {
		t.Errorf("a link to who is in another's network: %q", out)
	}
	d.OK("network", "create", "net")
	if out := d.OK("run", "--rm", "--network", "net", "--link", "later:l", "busybox", "sh", "-c", "env | grep -c ^L_ || true"); out != "0" {
		t.Errorf("variables on a user-defined network: %s", out)
	}
}

// TestLinksWithoutICC: with icc=false a link opens the exposed ports, and rm --link closes them.
func TestLinksWithoutICC(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, "--icc=false")
	d.Busybox()
	d.OK("run", "-d", "--name", "server", "--expose", "80", "busybox", "sh", "-c", "while :; do echo hello | nc -l -p 80; done")
	d.OK("run", "-d", "--name", "client", "--link", "server:s", "busybox", "sleep", "600")
	ip := d.OK("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "server")
	reaches := func() bool {
		return strings.Contains(d.Docker("exec", "client", "nc", "-w", "2", ip, "80").Out, "hello")
	}
	harness.Eventually(t, 30*time.Second, "the link opens the port", reaches)
	d.OK("rm", "--link", "client/s")
	harness.Eventually(t, 30*time.Second, "without it the port is closed", func() bool { return !reaches() })
}

func TestVolumesFrom(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	dir := t.TempDir()
	d.OK("create", "--name", "donor", "-v", "data:/data", "-v", dir+":/host:ro", "-v", "/anon", "--tmpfs", "/scratch", "busybox")
	look := []string{"busybox", "sh", "-c", "for d in /data /host /anon; do touch $d/x 2>/dev/null && echo -n w || echo -n r; done; ls -d /scratch 2>/dev/null"}
	for mode, want := range map[string]string{"": "wrw", ":rw": "wrw", ":ro": "rrr", ":z": "wrw", ":ro,Z": "rrr"} {
		if r := d.Docker(append([]string{"run", "--rm", "--volumes-from", "donor" + mode}, look...)...); r.Out != want {
			t.Errorf("donor%s: %q %s", mode, r.Out, r.Err)
		}
	}
	for _, bad := range []string{"donor:rx", "donor:rshared", "donor:nocopy", "donor:ro,rw", "donor:z,Z", "donor:slave"} {
		d.Fails("invalid mode: "+bad[len("donor:"):], "create", "--volumes-from", bad, "busybox")
	}
	d.Fails("No such container: none", "create", "--volumes-from", "none", "busybox")
	// Several donors: later ones win where they name the same path, the container's own volumes over all of them.
	d.OK("create", "--name", "second", "-v", "other:/data", "-v", "more:/more", "busybox")
	if out := d.OK("run", "--name", "both", "--volumes-from", "donor:ro", "--volumes-from", "second", "-v", "own:/more", "busybox", "sh", "-c", "touch /data/x && touch /host/x 2>/dev/null || echo ro"); out != "ro" {
		t.Errorf("two donors: %q", out)
	}
	if out := d.OK("inspect", "-f", "{{range .Mounts}}{{if .Name}}{{if ne .Destination \"/anon\"}}{{.Destination}}={{.Name}},{{.RW}} {{end}}{{end}}{{end}}", "both"); !strings.Contains(out, "/data=other,true") || !strings.Contains(out, "/more=own,true") {
		t.Errorf("two donors: %s", out)
	}
	d.OK("rm", "both", "second")
	anon := d.OK("inspect", "-f", "{{range .Mounts}}{{if eq .Destination \"/anon\"}}{{.Name}}{{end}}{{end}}", "donor")
	d.OK("create", "--name", "heir", "--volumes-from", "donor", "busybox")
	d.OK("rm", "-v", "donor")
	if out := d.OK("volume", "ls", "-q"); !strings.Contains(out, anon) {
		t.Errorf("the anonymous volume went with the first of two users: %s", out)
	}
	d.OK("rm", "-v", "heir")
}

func TestUpdateRestartPolicy(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	d.OK("run", "-d", "--name", "fails", "busybox", "sh", "-c", "sleep 0.2; exit 3")
	d.OK("wait", "fails")
	d.OK("update", "--restart", "on-failure:2", "fails")
	if out := d.OK("inspect", "-f", "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}", "fails"); out != "on-failure 2" {
		t.Errorf("inspect: %s", out)
	}
	d.OK("start", "fails")
	harness.Eventually(t, 30*time.Second, "the new policy restarts it twice", func() bool {
		return d.OK("inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "fails") == "2 exited"
	})
	d.OK("run", "-d", "--name", "live", "busybox", "sleep", "600")
	d.OK("update", "--restart", "always", "live")
	d.KillShims()
	harness.Eventually(t, 30*time.Second, "a policy that came while it ran counts at its end", func() bool {
		return strings.HasPrefix(d.OK("inspect", "-f", "{{.State.Running}} {{.RestartCount}}", "live"), "true 1")
	})
	d.OK("update", "--restart", "no", "live")
	if out := d.OK("inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", "live"); out != "no" {
		t.Errorf("inspect: %s", out)
	}
	restarts := d.OK("inspect", "-f", "{{.RestartCount}}", "live")
	d.KillShims()
	harness.Eventually(t, 30*time.Second, "without a policy it stays down", func() bool {
		return d.OK("inspect", "-f", "{{.State.Status}} {{.RestartCount}}", "live") == "exited "+restarts
	})
	// unless-stopped and always differ when the daemon starts again after a stop by hand.
	d.OK("start", "live")
	d.OK("update", "--restart", "unless-stopped", "live")
	d.OK("run", "-d", "--name", "ever", "busybox", "sleep", "600")
	d.OK("update", "--restart", "always", "ever")
	d.OK("stop", "-t", "0", "live", "ever")
	d.Stop()
	d.Up()
	harness.Eventually(t, 30*time.Second, "always starts at boot", func() bool { return d.OK("inspect", "-f", "{{.State.Running}}", "ever") == "true" })
	if out := d.OK("inspect", "-f", "{{.State.Running}}", "live"); out != "false" {
		t.Errorf("unless-stopped was started: %s", out)
	}
	d.OK("update", "--restart", "unless-stopped", "ever")
	d.Kill()
	d.KillShims()
	d.Up()
	harness.Eventually(t, 30*time.Second, "unless-stopped starts after a crash", func() bool {
		return d.Docker("exec", "ever", "true").Code == 0
	})
	d.OK("create", "--rm", "--name", "gone", "busybox")
	d.Fails("Restart policy cannot be updated because AutoRemove is enabled for the container", "update", "--restart", "always", "gone")
	d.Fails("unknown policy 'sometimes'", "update", "--restart", "sometimes", "live")
	d.Fails("maximum retry count cannot be negative", "update", "--restart", "on-failure:-1", "live")
}
