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
	for _, bad := range []string{"donor:rx", "donor:rshared", "donor:nocopy,ro,rw"} {
		d.Fails("invalid mode", "create", "--volumes-from", bad, "busybox")
	}
	d.Fails("No such container: none", "create", "--volumes-from", "none", "busybox")
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
	d.OK("create", "--rm", "--name", "gone", "busybox")
	d.Fails("restart policy cannot be updated because AutoRemove is enabled for the container", "update", "--restart", "always", "gone")
	d.Fails("unknown policy 'sometimes'", "update", "--restart", "sometimes", "live")
	d.Fails("maximum retry count cannot be negative", "update", "--restart", "on-failure:-1", "live")
}
