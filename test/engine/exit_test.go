package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

// TestEnds: exit codes, waiting, signals, restart policies with their pauses, health, removal.
func TestEnds(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	part(t, d, "exit codes", exitCodes)
	part(t, d, "wait", waitConditions)
	part(t, d, "stop, kill, signals", stopAndKill)
	part(t, d, "restart policies", restartPolicies)
	part(t, d, "health", healthStates)
	part(t, d, "remove and prune", removeContainers)
}

func exitCodes(t *testing.T, d *harness.Daemon) {
	for _, c := range []struct {
		code int
		args string
	}{ // a program of another format is found out by the kernel when the container runs: 1, as with dockerd

		{0, "busybox true"}, {7, "busybox sh -c 'exit 7'"}, {125, "--pull never none"}, {125, "--nonsense busybox"}, {125, "--network nonsense busybox true"}, {125, "--network container:nobody busybox true"},
		{127, "busybox no-such-command"}, {127, "busybox /no/such/path"}, {126, "busybox /etc"}, {126, "busybox /etc/passwd"}, {1, "badimage /format"},
		{128 + 9, "--init=false busybox sh -c 'sleep 100 & kill -9 $!; wait $!'"}, {128 + 15, "--init busybox sh -c 'kill -15 $$'"}, {128 + 11, "--init busybox sh -c 'kill -11 $$'"},
	} {
		if strings.HasPrefix(c.args, "badimage") {
			sh(t, d, `id=$(docker create busybox); printf '\177ELFnonsense' | (mkdir -p $DOCKER_CONFIG; cat >$DOCKER_CONFIG/format; chmod 755 $DOCKER_CONFIG/format); docker cp $DOCKER_CONFIG/format $id:/format; docker commit $id badimage; docker rm $id`)
		}
		if got := sh(t, d, "set +e; docker run --rm "+c.args+" >/dev/null 2>&1; echo $?"); got != fmt.Sprint(c.code) {
			t.Errorf("docker run %s: exit %s, want %d", c.args, got, c.code)
		}
	}
	// What could not start stays, with its code and reason.
	exits(t, d, 127, "run", "--name", "absent", "busybox", "nothing")
	tells(t, d, []string{"created 127", "executable file not found in $PATH"}, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}", "absent")
	exits(t, d, 137, "run", "--name", "fat", "-m", "12m", "--memory-swap", "12m", "busybox", "sh", "-c", "exec tail /dev/zero")
	says(t, d, "true 137", "inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", "fat")
	d.OK("rm", "absent", "fat")
	id := d.OK("run", "-d", "badimage", "sleep", "100")
	for code, command := range map[int]string{1: "/format", 127: "nothing", 5: "sh -c 'exit 5'", 137: "sh -c 'kill -9 $$'"} {
		if got := sh(t, d, "set +e; docker exec "+id+" "+command+" >/dev/null 2>&1; echo $?"); got != fmt.Sprint(code) {
			t.Errorf("docker exec %s: exit %s, want %d", command, got, code)
		}
	}
	exits(t, d, 126, "exec", id, "/etc/passwd")
	exits(t, d, 126, "exec", id, "/etc")
	d.OK("rm", "-f", id)
	d.OK("rmi", "badimage")
}

func waitConditions(t *testing.T, d *harness.Daemon) {
	d.OK("create", "--name", "w8", "--rm", "busybox", "sleep", "1000")
	begun := make(chan string, 3)
	for _, condition := range []string{"next-exit", "removed"} {
		resp, err := d.Client().Post("http://d/containers/w8/wait?condition="+condition, "", nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s: %v %v", condition, resp, err) // the head comes at once
		}
		go func() {
			defer resp.Body.Close()
			var b [256]byte
			n, _ := resp.Body.Read(b[:])
			begun <- condition + " " + strings.TrimSpace(string(b[:n]))
		}()
	}
	if got := raw(t, d, "POST", "/containers/w8/wait", ""); strings.TrimSpace(got) != `{"StatusCode":0}` {
		t.Errorf("a container that does not run: %s", got)
	}
	d.OK("start", "w8")
	select {
	case early := <-begun:
		t.Errorf("too early: %s", early)
	default:
	}
	ended := make(chan harness.Result, 1)
	go func() { ended <- d.Docker("wait", "w8", "w8") }()
	d.OK("kill", "-s", "KILL", "w8")
	for range 2 {
		if got := <-begun; !strings.HasSuffix(got, `{"StatusCode":137}`) {
			t.Errorf("wait: %s", got)
		}
	}
	<-ended
	d.Fails("No such container: w8", "wait", "w8")
	if status, text := exchange(t, d, "POST", "/containers/w8/wait?condition=nonsense", ""); status != 400 && status != 404 {
		t.Errorf("a condition that is none: %d %s", status, text)
	}
	a, b := d.OK("run", "-d", "busybox", "sh", "-c", "exit 3"), d.OK("run", "-d", "busybox", "sh", "-c", "exit 4")
	says(t, d, "3\n4", "wait", a, b)
	d.OK("rm", a, b)
}

func stopAndKill(t *testing.T, d *harness.Daemon) {
	const deaf = "trap '' TERM INT; echo up; while :; do sleep 0.05; done"
	const polite = "trap 'exit 20' INT; trap 'exit 21' HUP; trap 'exit 22' USR1; trap 'exit 23' QUIT; echo up; while :; do sleep 0.05; done"
	up := func(args ...string) string {
		t.Helper()
		id := d.OK(append([]string{"run", "-d"}, args...)...)
		soon(t, d, "up", "logs", id)
		return id
	}
	for want, c := range map[string]struct{ run, stop []string }{
		"137": {[]string{"busybox", "sh", "-c", deaf}, []string{"stop", "-t", "0"}},
		"20":  {[]string{"--stop-signal", "INT", "busybox", "sh", "-c", polite}, []string{"stop"}},
		"21":  {[]string{"busybox", "sh", "-c", polite}, []string{"stop", "-s", "HUP"}},
		"22":  {[]string{"busybox", "sh", "-c", polite}, []string{"kill", "-s", "SIGUSR1"}},
		"23":  {[]string{"busybox", "sh", "-c", polite}, []string{"kill", "--signal", "3"}},
	} {
		id := up(c.run...)
		d.OK(append(c.stop, id)...)
		says(t, d, want, "wait", id)
		d.OK("rm", id)
	}
	// The configured time to stop counts, and a restart is a stop and a start.
	id := up("--stop-timeout", "0", "busybox", "sh", "-c", deaf)
	first := d.OK("inspect", "-f", "{{.State.StartedAt}}", id)
	d.OK("restart", id)
	if again := d.OK("inspect", "-f", "{{.State.StartedAt}} {{.State.Running}} {{.RestartCount}}", id); strings.HasPrefix(again, first) || !strings.HasSuffix(again, "true 0") {
		t.Errorf("restarted: %s after %s", again, first)
	}
	d.OK("restart", "-s", "KILL", "-t", "5", id)
	d.Fails("invalid signal: NONSENSE", "kill", "-s", "NONSENSE", id)
	d.OK("pause", id)
	d.Fails("is already paused", "pause", id)
	says(t, d, "paused true true", "inspect", "-f", "{{.State.Status}} {{.State.Paused}} {{.State.Running}}", id)
	d.Fails("cannot start a paused container, try unpause instead", "start", id)
	d.OK("stop", id) // a paused container can be stopped
	d.OK("start", id)
	d.OK("rm", "-f", id)
}

func restartPolicies(t *testing.T, d *harness.Daemon) {
	begin := stampNow()
	d.OK("run", "-d", "--name", "loop", "--restart", "always", "busybox", "sh", "-c", "exit 1")
	defer d.OK("rm", "-f", "loop")
	d.OK("run", "-d", "--name", "thrice", "--restart", "on-failure:3", "busybox", "sh", "-c", "exit 4")
	defer d.OK("rm", "-f", "thrice")
	d.OK("run", "-d", "--name", "fine", "--restart", "on-failure", "busybox", "true")
	defer d.OK("rm", "-f", "fine")
	soon(t, d, "3 exited 4", "inspect", "-f", "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}", "thrice")
	says(t, d, "0 exited 0", "inspect", "-f", "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}", "fine")
	// The pauses between the starts double: 100, 200, 400 ms.
	var starts []time.Time
	for _, line := range strings.Split(d.OK("events", "--since", begin, "--until", stampNow(), "--filter", "container=thrice", "--filter", "event=start", "--format", "{{.TimeNano}}"), "\n") {
		var n int64
		if _, err := fmt.Sscan(line, &n); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		starts = append(starts, time.Unix(0, n))
	}
	if len(starts) != 4 {
		t.Fatalf("%d starts", len(starts))
	}
	for i, least := range []time.Duration{100, 200, 400} {
		if gap := starts[i+1].Sub(starts[i]); gap < least*time.Millisecond {
			t.Errorf("pause %d lasted %v", i+1, gap)
		}
	}
	for words, args := range map[string][]string{ // what is seen in a pause, which grow
		"restarting true": {"inspect", "-f", "{{.State.Status}} {{.State.Restarting}}", "loop"}, "Restarting (1)": {"ps", "--filter", "name=loop", "--format", "{{.Status}}"},
		"is restarting, wait until the container is running": {"exec", "loop", "true"},
	} {
		harness.Eventually(t, 60*time.Second, words, func() bool {
			r := d.Docker(args...)
			return strings.Contains(r.Out+r.Err, words)
		})
	}
	d.OK("stop", "loop") // a stop ends the loop
	says(t, d, "exited false", "inspect", "-f", "{{.State.Status}} {{.State.Restarting}}", "loop")
	d.OK("update", "--restart", "no", "loop")
	d.OK("start", "loop")
	soon(t, d, "exited", "inspect", "-f", "{{.State.Status}}", "loop")
	d.Fails("restart policy", "create", "--restart", "nonsense", "busybox")
	d.Fails("", "create", "--restart", "always:3", "busybox")
}

func healthStates(t *testing.T, d *harness.Daemon) {
	begin := stampNow()
	id := d.OK("run", "-d", "--name", "health", "--health-cmd", "echo looking; test -e /ok", "--health-interval", "200ms", "--health-timeout", "5s", "--health-retries", "2", "busybox", "sleep", "1000")
	defer d.OK("rm", "-f", id)
	soon(t, d, "unhealthy", "inspect", "-f", "{{.State.Health.Status}}", id)
	says(t, d, "1 looking", "inspect", "-f", `{{with index .State.Health.Log 0}}{{.ExitCode}} {{slice .Output 0 7}}{{end}}`, id)
	tells(t, d, []string{"(unhealthy)"}, "ps", "--filter", "health=unhealthy", "--format", "{{.Status}}")
	d.OK("exec", id, "touch", "/ok")
	soon(t, d, "healthy 0", "inspect", "-f", "{{.State.Health.Status}} {{.State.Health.FailingStreak}}", id)
	tells(t, d, []string{"health_status: unhealthy", "health_status: healthy", "exec_create: /bin/sh -c echo looking; test -e /ok"}, "events", "--since", begin, "--until", stampNow(), "--filter", "container="+id, "--format", "{{.Action}}")
	says(t, d, "health", "ps", "--filter", "health=healthy", "--format", "{{.Names}}")
	slow := d.OK("run", "-d", "--health-cmd", "sleep 100", "--health-interval", "100ms", "--health-timeout", "200ms", "--health-retries", "1", "busybox", "sleep", "1000")
	soon(t, d, "unhealthy", "inspect", "-f", "{{.State.Health.Status}}", slow)
	tells(t, d, []string{"-1", "Health check exceeded timeout"}, "inspect", "-f", "{{range .State.Health.Log}}{{.ExitCode}} {{.Output}}{{end}}", slow)
	starting := d.OK("run", "-d", "--health-cmd", "false", "--health-interval", "100ms", "--health-start-period", "1h", "--health-start-interval", "100ms", "--health-retries", "1", "busybox", "sleep", "1000")
	none := d.OK("run", "-d", "--no-healthcheck", "busybox", "sleep", "1000")
	harness.Eventually(t, 20*time.Second, "two checks failed", func() bool {
		return d.OK("inspect", "-f", "{{len .State.Health.Log}}", starting) >= "2"
	})
	says(t, d, "starting", "inspect", "-f", "{{.State.Health.Status}}", starting)
	says(t, d, "none", "inspect", "-f", "{{if .State.Health}}some{{else}}none{{end}}", none)
	tells(t, d, []string{none[:12]}, "ps", "-q", "--filter", "health=none")
	tells(t, d, []string{starting[:12]}, "ps", "-q", "--filter", "health=starting")
	d.OK("rm", "-f", slow, starting, none)
}

func removeContainers(t *testing.T, d *harness.Daemon) {
	id := d.OK("run", "-d", "--name", "rm", "-v", "/anon", "-v", "named:/named", "busybox", "sleep", "1000")
	d.Fails("cannot remove container \"/rm\": container is running: stop the container before removing or force remove", "rm", "rm")
	anon := d.OK("inspect", "-f", `{{range .Mounts}}{{if eq .Destination "/anon"}}{{.Name}}{{end}}{{end}}`, id)
	d.OK("kill", "rm")
	d.OK("rm", "-v", "rm")
	d.Fails("no such volume", "volume", "inspect", anon)
	d.OK("volume", "rm", "named")
	d.OK("rm", "-f", "never-there")
	d.Fails("No such container: never-there", "rm", "never-there")
	// --rm takes anonymous volumes along, without -v they stay.
	d.OK("run", "--rm", "-v", "/anon", "busybox", "true")
	says(t, d, "", "volume", "ls", "-q")
	kept := d.OK("create", "-v", "/anon", "busybox")
	d.OK("rm", kept)
	d.OK("volume", "rm", d.OK("volume", "ls", "-q"))
	d.OK("create", "--name", "cx", "busybox")
	d.OK("rename", "cx", "cy")
	d.Fails("is already in use by container", "rename", "cy", d.OK("inspect", "-f", "{{slice .Name 1}}", d.OK("create", "--name", "cz", "busybox")))
	d.Fails("Renaming a container with the same name as its current name", "rename", "cy", "cy")
	d.Fails("Invalid container name", "rename", "cy", "no/slash")
	d.OK("create", "--name", "labelled", "-l", "a=b", "busybox")
	d.OK("create", "--name", "linked", "--link", "cy:data", "busybox")
	tells(t, d, []string{"cy,linked/data"}, "ps", "-a", "--no-trunc", "--filter", "name=^/cy$", "--format", "{{.Names}}")
	before := d.OK("ps", "-aq")
	d.OK("container", "prune", "-f", "--filter", "until=2000-01-01")
	says(t, d, before, "ps", "-aq")
	d.OK("container", "prune", "-f", "--filter", "label!=a")
	says(t, d, "labelled", "ps", "-a", "--format", "{{.Names}}")
	tells(t, d, []string{"Deleted Containers:", "Total reclaimed space:"}, "container", "prune", "-f")
	says(t, d, "", "ps", "-aq")
}
