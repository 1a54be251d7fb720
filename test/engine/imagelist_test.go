package engine

import (
	"slices"
	"strings"
	"testing"

	"longshore/test/harness"
)

// TestImageNames: list, filters, removal rules, prune and commit.
func TestImageNames(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	part(t, d, "commit and its changes", commitChanges)
	part(t, d, "list and filters", listImages)
	part(t, d, "removal and its conflicts", removeImages)
	part(t, d, "prune", pruneImages)
}

func commitChanges(t *testing.T, d *harness.Daemon) {
	id := d.OK("run", "-d", "--name", "src", "-e", "KEPT=1", "-l", "from=container", "busybox", "sh", "-c", "echo new >/new; rm /etc/group; trap 'exit 0' TERM; while :; do sleep 0.1; done")
	defer d.OK("rm", "-f", id)
	soon(t, d, "new", "exec", id, "sh", "-c", "test -e /etc/group || cat /new")
	d.OK("commit", "-a", "Jane <jane@example.org>", "-m", "a message", "-p=false", "-c", `CMD ["cat","/new"]`, "-c", "ENTRYPOINT []", "-c", "ENV X=y", "-c", "EXPOSE 80", "-c", "LABEL k=v",
		"-c", "USER 33", "-c", "VOLUME /data", "-c", "WORKDIR /tmp", "-c", "STOPSIGNAL 9", "-c", "ONBUILD RUN x", "-c", "HEALTHCHECK NONE", id, "made:1")
	says(t, d, `["cat","/new"] [] 80/tcp k=v from=container 33 /data /tmp 9 RUN x [NONE]`, "image", "inspect", "-f",
		`{{json .Config.Cmd}} {{if .Config.Entrypoint}}{{.Config.Entrypoint}}{{else}}[]{{end}} {{range $p, $_ := .Config.ExposedPorts}}{{$p}}{{end}} k={{.Config.Labels.k}} from={{.Config.Labels.from}} {{.Config.User}} {{range $v, $_ := .Config.Volumes}}{{$v}}{{end}} {{.Config.WorkingDir}} {{.Config.StopSignal}} {{join .Config.OnBuild ","}} {{.Config.Healthcheck.Test}}`, "made:1")
	tells(t, d, []string{`"KEPT=1"`, `"X=y"`, `"PATH=/bin"`}, "image", "inspect", "-f", "{{json .Config.Env}}", "made:1")
	says(t, d, "Jane <jane@example.org>", "image", "inspect", "-f", "{{.Author}}", "made:1")
	says(t, d, "a message\nImported from -", "history", "--no-trunc", "--format", "{{.Comment}}", "made:1")
	says(t, d, "new", "run", "--rm", "-u", "0", "made:1")
	d.Fails("can't open '/etc/group'", "run", "--rm", "made:1", "cat", "/etc/group")
	// While it is committed the container stands still, and goes on afterwards.
	begin := stampNow()
	d.OK("commit", id, "made:2")
	says(t, d, "true false", "inspect", "-f", "{{.State.Running}} {{.State.Paused}}", id)
	tells(t, d, []string{"commit"}, "events", "--since", begin, "--until", stampNow(), "--filter", "container="+id, "--format", "{{.Action}}")
	d.Fails("No such container: nobody", "commit", "nobody")
	d.Fails("invalid reference format", "commit", id, "Bad/NAME")
	d.Fails("unknown instruction", "commit", "-c", "NONSENSE x", id)
	d.OK("stop", id)
	d.OK("commit", id, "made:stopped") // a stopped one too
	d.OK("pause", d.OK("run", "-d", "--name", "still", "busybox", "sleep", "100"))
	d.OK("commit", "still", "made:paused")
	says(t, d, "true", "inspect", "-f", "{{.State.Paused}}", "still")
	d.OK("rm", "-f", "still")
	d.OK("rmi", "made:1", "made:2", "made:stopped", "made:paused")
}

func listImages(t *testing.T, d *harness.Daemon) {
	c := d.OK("create", "busybox")
	d.OK("commit", "-c", "LABEL stage=one", c, "list:one")
	d.OK("commit", "-c", "LABEL stage=two", "-c", "LABEL last=yes", c, "list:two")
	d.OK("commit", c, "list:one") // the former one dangles now
	d.OK("tag", "list:two", "127.0.0.1:5000/list/two:two")
	names := func(want string, args ...string) {
		t.Helper()
		got := strings.Fields(d.OK(append([]string{"images", "--format", "{{.Repository}}:{{.Tag}}"}, args...)...))
		wanted := strings.Fields(want)
		slices.Sort(got) // the client has repositories in no order
		slices.Sort(wanted)
		if !slices.Equal(got, wanted) {
			t.Errorf("images %v: %s, want %s", args, got, want)
		}
	}
	names("list:one 127.0.0.1:5000/list/two:two list:two <none>:<none> busybox:latest")
	names("<none>:<none>", "-f", "dangling=true")
	names("127.0.0.1:5000/list/two:two list:two", "-f", "label=stage=two")
	names("127.0.0.1:5000/list/two:two list:two <none>:<none>", "-f", "label=stage")
	names("127.0.0.1:5000/list/two:two list:two", "-f", "label=stage", "-f", "label=last=yes")
	names("list:one 127.0.0.1:5000/list/two:two list:two", "-f", "since=busybox", "-f", "dangling=false")
	names("<none>:<none> busybox:latest", "-f", "before=list:two")
	names("list:two", "-f", "reference=list:t*")
	names("list:one list:two", "-f", "reference=list")
	names("127.0.0.1:5000/list/two:two", "-f", "reference=127.0.0.1:5000/*/*")
	names("list:one busybox:latest", "-f", "reference=list:one", "-f", "reference=busyb*")
	names("list:one list:two", "list")
	names("list:two", "list:two")
	names("", "-f", "until=2000-01-01T00:00:00")
	names("list:one 127.0.0.1:5000/list/two:two list:two <none>:<none> busybox:latest", "-a", "-f", "until="+stampNow())
	d.Fails("invalid filter 'nonsense'", "images", "-f", "nonsense=1")
	d.Fails("invalid filter 'dangling=[maybe]'", "images", "-f", "dangling=maybe")
	id := d.OK("image", "inspect", "-f", "{{.Id}}", "list:two")
	says(t, d, id, "images", "-q", "--no-trunc", "list:two")
	says(t, d, id[7:19], "images", "-q", "list:two")
	says(t, d, "list@"+id, "images", "--digests", "--format", "{{.Repository}}@{{.Digest}}", "list:two")
	// Layers that images share are counted once.
	says(t, d, "1", "system", "df", "-v", "--format", `{{range .Images}}{{if eq .Tag "latest"}}{{.Containers}}{{end}}{{end}}`)
	for _, ref := range []string{id, id[7:], id[7:15], "list:two", "list@" + id, "docker.io/library/list:two"} {
		says(t, d, id, "image", "inspect", "-f", "{{.Id}}", ref)
	}
	says(t, d, "[127.0.0.1:5000/list/two:two list:two] linux 1 sha256", "image", "inspect", "-f",
		`{{.RepoTags}} {{.Os}} {{len .RootFS.Layers}} {{slice (index .RootFS.Layers 0) 0 6}}`, "list:two")
	if out := d.OK("history", "--no-trunc", "--format", "{{.ID}} {{.Size}}", "list:two"); strings.Count(out, "\n") != 1 || !strings.HasPrefix(out, id) {
		t.Errorf("history: %s", out)
	}
	d.OK("rm", c)
	d.OK("rmi", "list:one", "list:two", "127.0.0.1:5000/list/two:two")
	d.OK("image", "prune", "-f")
}

func removeImages(t *testing.T, d *harness.Daemon) {
	c := d.OK("create", "--name", "user", "busybox", "sleep", "100")
	base := d.OK("image", "inspect", "-f", "{{.Id}}", "busybox")
	d.OK("commit", "-c", "LABEL x=1", c, "rem:1")
	id := d.OK("image", "inspect", "-f", "{{.Id}}", "rem:1")
	d.OK("tag", "rem:1", "other/rem:1")
	short := func(id string) string { return id[7:19] }
	d.Fails("conflict: unable to delete "+short(id)+" (must be forced) - image is referenced in multiple repositories", "rmi", short(id))
	says(t, d, "Untagged: other/rem:1", "rmi", "other/rem:1")
	if out := d.OK("rmi", short(id)); !strings.HasPrefix(out, "Untagged: rem:1\n") || !strings.Contains(out, "Deleted: "+id) {
		t.Errorf("rmi by short ID said %q", out)
	}
	d.Fails("No such image: "+short(id), "rmi", short(id))
	d.OK("rmi", "-f", "never:there") // force forgives what is not there
	// An image with containers.
	d.Fails("conflict: unable to delete busybox:latest (must be forced) - container "+c[:12]+" is using its referenced image "+short(base), "rmi", "busybox:latest")
	d.OK("start", c)
	d.Fails("conflict: unable to delete "+short(base)+" (cannot be forced) - image is being used by running container "+c[:12], "rmi", "-f", base)
	d.OK("kill", c)
	d.OK("tag", "busybox", "keep:me")
	says(t, d, "Untagged: busybox:latest", "rmi", "busybox")
	says(t, d, base, "inspect", "-f", "{{.Image}}", c)
	d.OK("tag", "keep:me", "busybox")
	d.OK("rmi", "keep:me")
	// By digest the names go that have it; children keep their parents' layers.
	d.OK("commit", "-c", "LABEL y=1", c, "dig:1")
	id = d.OK("image", "inspect", "-f", "{{.Id}}", "dig:1")
	tells(t, d, []string{"Untagged: dig:1", "Deleted: " + id}, "rmi", "dig@"+id)
	d.OK("commit", "-c", "LABEL z=1", c, "par:1")
	d.OK("rm", c)
	child := d.OK("create", "par:1", "true")
	d.OK("commit", "-c", "LABEL z=2", child, "par:2")
	d.OK("rm", child)
	if out := d.OK("rmi", "--no-prune", "par:1"); !strings.Contains(out, "Untagged: par:1") {
		t.Errorf("rmi --no-prune said %q", out)
	}
	d.OK("run", "--rm", "par:2", "true")
	d.OK("rmi", "-f", "par:2")
	// Several at once: those that can go do, and the exit code tells.
	d.OK("tag", "busybox", "gone:1")
	r := exits(t, d, 1, "rmi", "nothing:1", "gone:1")
	if !strings.Contains(r.Out, "Untagged: gone:1") || !strings.Contains(r.Err, "No such image: nothing:1") {
		t.Errorf("rmi of two: %s%s", r.Out, r.Err)
	}
}

func pruneImages(t *testing.T, d *harness.Daemon) {
	c := d.OK("create", "busybox")
	for _, label := range []string{"p=1", "p=2"} {
		d.OK("commit", "-c", "LABEL "+label, c, "prune:me")
	}
	d.OK("commit", "-c", "LABEL p=3", c, "prune:me")
	used := d.OK("create", "prune:me")
	count := func(args ...string) int {
		t.Helper()
		return strings.Count(d.OK(append([]string{"image", "prune", "-f"}, args...)...)+"\n", "deleted: sha256:")
	}
	if n := count("--filter", "until=2000-01-01"); n != 0 {
		t.Errorf("%d older than the engine", n)
	}
	if n := count("--filter", "label=p=1"); n == 0 {
		t.Error("none with the label")
	}
	if n := count("--filter", "label!=p=2"); n != 0 {
		t.Errorf("%d without the label", n)
	}
	tells(t, d, []string{"Total reclaimed space:"}, "image", "prune", "-f")
	if out := d.OK("images", "-q", "-f", "dangling=true"); out != "" {
		t.Errorf("dangling: %s", out)
	}
	d.OK("image", "prune", "-af")
	says(t, d, "prune:me", "images", "--format", "{{.Repository}}:{{.Tag}}", "prune")
	d.OK("rm", c, used)
	tells(t, d, []string{"prune:me"}, "image", "prune", "-af")
	says(t, d, "", "images", "-aq")
}
