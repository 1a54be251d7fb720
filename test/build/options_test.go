package build

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"longshore/test/harness"
)

// TestOptions tries every option of docker build.
func TestOptions(t *testing.T) {
	d := start(t)
	t.Run("names", func(t *testing.T) {
		out := build(d, files{"Dockerfile": "FROM busybox\nRUN echo named > /n\n"}, "-t", "one", "-t", "two:v2", "-t", "one:latest", "-t", "reg.example.com:5000/team/three")
		has(t, out, "Successfully built ", "Successfully tagged one:latest", "Successfully tagged two:v2", "Successfully tagged reg.example.com:5000/team/three:latest")
		if n := strings.Count(out, "Successfully tagged one:latest"); n != 1 {
			t.Errorf("tagged %d times", n)
		}
		id := out[strings.Index(out, "Successfully built ")+len("Successfully built "):][:12]
		for _, name := range []string{"one", "two:v2", "reg.example.com:5000/team/three"} {
			if got := d.OK("images", "-q", name); got != id {
				t.Errorf("%s is %q, not %s", name, got, id)
			}
			if got := run(d, name, "cat", "/n"); got != "named" {
				t.Error(got)
			}
		}
	})
	t.Run("quiet", func(t *testing.T) {
		out := build(d, files{"Dockerfile": "FROM busybox\nRUN echo loud\n"}, "-q", "-t", "quiet")
		if want := d.OK("images", "-q", "--no-trunc", "quiet"); out != want {
			t.Errorf("said %q, the image is %q", out, want)
		}
		r := d.Docker("build", "-q", files{"Dockerfile": "FROM busybox\nRUN echo why; exit 3\n"}.write(t))
		if r.Code == 0 {
			t.Error("must fail")
		}
		has(t, r.Out+r.Err, "The command '/bin/sh -c echo why; exit 3' returned a non-zero code: 3")
	})
	t.Run("cache", func(t *testing.T) {
		f := files{"Dockerfile": "FROM busybox\nENV A=b\nRUN head -c 8 /dev/urandom > /random\nCOPY x /\nCMD [\"x\"]\n", "x": "1"}
		first := build(d, f, "-t", "cached:1")
		if strings.Contains(first, "Using cache") {
			t.Errorf("nothing was there:\n%s", first)
		}
		second := build(d, f, "-t", "cached:2")
		if n := strings.Count(second, "---> Using cache"); n != 4 || d.OK("images", "-q", "cached:1") != d.OK("images", "-q", "cached:2") {
			t.Errorf("%d steps of the cache:\n%s", n, second)
		}
		f["x"] = "2"
		third := build(d, f)
		has(t, third, "Step 3/5", "Using cache", "Step 4/5", "Step 5/5")
		if n := strings.Count(third, "---> Using cache"); n != 2 {
			t.Errorf("%d steps of the cache:\n%s", n, third)
		}
		none := build(d, f, "--no-cache", "-t", "cached:3")
		if strings.Contains(none, "Using cache") || run(d, "cached:1", "cat", "/random") == run(d, "cached:3", "cat", "/random") {
			t.Errorf("the cache was used:\n%s", none)
		}
		build(d, f, "--cache-from", "cached:3", "--cache-from", "cached:1")
	})
	t.Run("file", func(t *testing.T) {
		f := files{"Dockerfile": "FROM busybox\nRUN false\n", "other/Dockerfile.x": "FROM busybox\nCOPY . /all\n"}
		dir := f.write(t)
		d.OK("build", "-f", filepath.Join(dir, "other/Dockerfile.x"), "-t", "file", dir)
		if got := run(d, "file", "find", "/all", "-type", "f"); !strings.Contains(got, "/all/other/Dockerfile.x") {
			t.Error(got)
		}
		lower := files{"dockerfile": "FROM busybox\n"}.tar(t)
		if a := post(d, "1.41", "", bytes.NewReader(lower)); a.status != 200 || !strings.Contains(a.text(t), "Successfully built") {
			t.Errorf("dockerfile: %+v", a)
		}
	})
	t.Run("target, arguments, labels", func(t *testing.T) {
		f := files{"Dockerfile": "ARG BASE=nosuch\nFROM $BASE AS one\nARG X=default\nRUN echo $X > /x\nFROM nosuch:never\nRUN false\n"}
		out := build(d, f, "--target", "ONE", "--build-arg", "BASE=busybox", "--build-arg", "X=given", "--build-arg", "UNUSED=1", "--label", "l1=v1", "--label", "l2=v 2", "-t", "target")
		has(t, out, "Step 1/6 : ARG BASE=nosuch", "Step 2/6 : FROM $BASE AS one", "Step 5/6 : LABEL l1=v1", "Step 6/6 : LABEL l2=v 2", "[Warning] One or more build-args [UNUSED] were not consumed")
		if got := run(d, "target", "cat", "/x"); got != "given" {
			t.Error(got)
		}
		if got := d.OK("inspect", "-f", "{{json .Config.Labels}}", "target"); got != `{"l1":"v1","l2":"v 2"}` {
			t.Error(got)
		}
		a := post(d, "1.41", query("target", "0", "buildargs", `{"BASE":"busybox"}`, "t", "zero"), bytes.NewReader(f.tar(t)))
		has(t, a.text(t), "Step 4/4", "Successfully tagged zero:latest")
	})
	t.Run("containers", func(t *testing.T) {
		f := files{"Dockerfile": "FROM busybox\nRUN echo kept\n"}
		kept := build(d, f, "--no-cache", "--rm=false")
		if strings.Contains(kept, "Removing intermediate container") {
			t.Error(kept)
		}
		has(t, build(d, f, "--no-cache", "--force-rm"), "Running in", "Removing intermediate container")
		if out := d.OK("ps", "-aq"); out != "" {
			t.Errorf("containers are left: %s", out)
		}
	})
	t.Run("squash", func(t *testing.T) {
		f := files{"Dockerfile": "FROM busybox\nRUN echo a > /a\nRUN echo b > /b; rm /a\n"}
		a := post(d, "1.41", query("squash", "1", "t", "squashed"), bytes.NewReader(f.tar(t)))
		has(t, a.text(t), "Successfully tagged squashed:latest")
		var layers []string
		if err := json.Unmarshal([]byte(d.OK("inspect", "-f", "{{json .RootFS.Layers}}", "squashed")), &layers); err != nil || len(layers) != 2 {
			t.Errorf("%v layers, %v", layers, err)
		}
		if got := run(d, "squashed", "sh", "-c", "ls /a /b 2>/dev/null; cat /b"); got != "/b\nb" {
			t.Errorf("%q", got)
		}
	})
	limits(t, d)
}

// limits are the options that steps run with.
func limits(t *testing.T, d *harness.Daemon) {
	t.Run("limits", func(t *testing.T) {
		f := files{"Dockerfile": `FROM busybox
RUN df -k /dev/shm | tail -n 1 | awk '{print "shm", $2}'; echo files $(ulimit -n) $(ulimit -Hn)
RUN cat /proc/self/cgroup | head -n 1; g=/sys/fs/cgroup; for f in memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes cpu/cpu.shares cpu/cpu.cfs_period_us cpu/cpu.cfs_quota_us cpuset/cpuset.cpus memory.max cpu.weight cpu.max cpuset.cpus; do [ -r $g/$f ] && echo $f $(cat $g/$f); done; true
RUN grep -c added.example /etc/hosts; cat /etc/hosts
`}
		out := build(d, f, "--shm-size", "8m", "--ulimit", "nofile=100:200", "--memory", "64m", "--memory-swap", "128m", "--cpu-shares", "512", "--cpu-period", "50000", "--cpu-quota", "20000",
			"--cpuset-cpus", "0", "--add-host", "added.example:10.1.2.3", "--add-host", "gate:host-gateway")
		has(t, out, "shm 8192", "files 100 200", "10.1.2.3\tadded.example")
		if strings.Contains(out, "memory/memory.limit") {
			has(t, out, "memory/memory.limit_in_bytes 67108864", "cpu/cpu.shares 512", "cpu/cpu.cfs_period_us 50000", "cpu/cpu.cfs_quota_us 20000", "cpuset/cpuset.cpus 0")
		}
		mine := "/" + filepath.Base(d.Dir) + "/mine"
		has(t, build(d, files{"Dockerfile": "FROM busybox\nRUN cat /proc/self/cgroup\n"}, "--cgroup-parent", mine), mine+"/")
		// A parent that is named stays, as with containers.
		for _, place := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
			for _, name := range []string{"/buildkit", ""} {
				groups, _ := filepath.Glob(place + mine + name)
				for _, g := range groups {
					_ = os.Remove(g)
				}
			}
		}
	})
	t.Run("networks", func(t *testing.T) {
		f := files{"Dockerfile": "FROM busybox\nRUN echo links: $(ip -o link | wc -l) $(ip -o link | grep -c ': docker0:')\n"}
		has(t, build(d, f, "--network", "none", "--no-cache"), "links: 1 0")
		has(t, build(d, f, "--network", "host", "--no-cache"), " 1\n")
		has(t, build(d, f, "--network", "default", "--no-cache"), "links: 2 0")
		d.OK("network", "create", "own")
		d.OK("run", "-d", "--name", "server", "--network", "own", "busybox", "sleep", "1000")
		has(t, build(d, files{"Dockerfile": "FROM busybox\nRUN ping -c 1 server\n"}, "--network", "own"), "1 packets received")
		d.Fails("network nosuch not found", "build", "--network", "nosuch", f.write(t))
	})
	t.Run("platform", func(t *testing.T) {
		f := files{"Dockerfile": "FROM scratch\nCOPY x /x\n", "x": "1"}
		build(d, f, "--platform", "linux/arm64", "-t", "arm")
		if got := d.OK("inspect", "-f", "{{.Os}}/{{.Architecture}}", "arm"); got != "linux/arm64" {
			t.Error(got)
		}
		d.Fails("is an invalid component", "build", "--platform", "a/b/c/d/e", f.write(t))
	})
}

// TestContexts brings contexts in every way.
func TestContexts(t *testing.T) {
	d := start(t, "--build-allow-local-remotes")
	t.Run("standard input", func(t *testing.T) {
		r := d.DockerIn(strings.NewReader("FROM busybox\nRUN echo from-stdin > /f\n"), "build", "-t", "stdin", "-")
		if r.Code != 0 || run(d, "stdin", "cat", "/f") != "from-stdin" {
			t.Error(r)
		}
		plain := files{"Dockerfile": "FROM busybox\nCOPY f /f\n", "f": "in-tar"}.tar(t)
		for _, program := range []string{"cat", "gzip", "bzip2", "xz"} {
			if _, err := exec.LookPath(program); err != nil {
				t.Errorf("%s is not installed", program)
				continue
			}
			c := exec.Command(program, "-c")
			if program == "cat" {
				c = exec.Command("cat")
			}
			c.Stdin = bytes.NewReader(plain)
			packed, err := c.Output()
			if err != nil {
				t.Fatal(err)
			}
			if r := d.DockerIn(bytes.NewReader(packed), "build", "-t", program, "-"); r.Code != 0 || run(d, program, "cat", "/f") != "in-tar" {
				t.Errorf("%s: %+v", program, r)
			}
		}
		a := post(d, "1.41", "t=alone", strings.NewReader("FROM busybox\nCMD [\"echo\", \"alone\"]\n"), "Content-Type", "text/plain")
		has(t, a.text(t), "Successfully tagged alone:latest")
	})
	t.Run("ignored", func(t *testing.T) {
		f := files{".dockerignore": "# comment\n*.log\n!keep.log\nsub/*\n!sub/in\nDockerfile\n", "Dockerfile": "FROM busybox\nCOPY . /all\n", "a.log": "", "keep.log": "", "sub/in": "", "sub/out": "", "x": ""}
		build(d, f, "-t", "ignored")
		if got := run(d, "ignored", "sh", "-c", "cd /all && find . -type f | sort | tr '\\n' ' '"); got != "./.dockerignore ./keep.log ./sub/in ./x" {
			t.Error(got)
		}
		// A client that sends everything and leaves it to the daemon.
		a := post(d, "1.41", "t=raw", bytes.NewReader(f.tar(t)))
		has(t, a.text(t), "Successfully tagged raw:latest")
		if got := run(d, "raw", "sh", "-c", "cd /all && find . -type f | sort | tr '\\n' ' '"); got != "./.dockerignore ./keep.log ./sub/in ./x" {
			t.Error(got)
		}
		f["own.df"], f["own.df.dockerignore"] = "FROM busybox\nCOPY . /all\n", "*\n!x\n"
		a = post(d, "1.41", "t=own&dockerfile=own.df", bytes.NewReader(f.tar(t)))
		has(t, a.text(t), "Successfully tagged own:latest")
		if got := run(d, "own", "ls", "-A", "/all"); got != "x" {
			t.Error(got)
		}
		excluded := post(d, "1.41", "", bytes.NewReader(files{"Dockerfile": "FROM busybox\nCOPY a.log /\n", ".dockerignore": "*.log", "a.log": ""}.tar(t)))
		has(t, excluded.text(t), "error 0: COPY failed: file not found in build context or excluded by .dockerignore: stat a.log: file does not exist")
	})
	t.Run("remote", func(t *testing.T) { remotes(t, d) })
	if left := scratch(d); len(left) > 0 {
		t.Errorf("contexts stay on the disk: %v", left)
	}
}

// remotes serves a Dockerfile, an archive and a git repository in the daemon's network.
func remotes(t *testing.T, d *harness.Daemon) {
	dir := files{
		"df": "FROM busybox\nRUN echo url > /f\n", "git/work/sub/Dockerfile": "FROM busybox\nCOPY f /f\n", "git/work/sub/f": "main", "git/work/Dockerfile": "FROM busybox\nRUN echo top > /f\n",
	}.write(t)
	if err := os.WriteFile(filepath.Join(dir, "ctx.tar"), files{"other/df": "FROM busybox\nCOPY f /f\n", "f": "archive"}.tar(t), 0o644); err != nil {
		t.Fatal(err)
	}
	script := `set -e; cd "$1/git/work"; export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@a
git init -q -b main . && git add . && git commit -qm 1 && git checkout -q -b side && printf side > sub/f && git commit -qam 2 && git checkout -q main
cd ../.. && git clone -q --bare git/work repo.git && cd repo.git && git update-server-info`
	if out, err := exec.Command("sh", "-c", script, "sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	server := exec.Command("nsenter", "--net=/run/netns/"+d.NetNS, "busybox", "httpd", "-f", "-p", "127.0.0.1:8999", "-h", dir)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}()
	harness.Eventually(t, harnessWait, "the server answers", func() bool {
		return d.InNet("curl", "-sf", "-o", "/dev/null", "http://127.0.0.1:8999/df").Code == 0
	})
	const base = "http://127.0.0.1:8999/"
	for i, c := range []struct{ remote, dockerfile, want string }{
		{base + "df", "", "url"}, {base + "ctx.tar", "other/df", "archive"},
		{base + "repo.git", "", "top"}, {base + "repo.git#:sub", "", "main"}, {base + "repo.git#side:sub", "", "side"}, {base + "repo.git#side", "sub/../Dockerfile", "top"},
	} {
		name := fmt.Sprintf("remote:%d", i)
		a := post(d, "1.41", query("remote", c.remote, "dockerfile", c.dockerfile, "t", name), nil)
		if a.status != 200 || !strings.Contains(a.body, "Successfully tagged") {
			t.Errorf("%s: %+v", c.remote, a)
			continue
		}
		if got := run(d, name, "cat", "/f"); got != c.want {
			t.Errorf("%s: %q", c.remote, got)
		}
	}
	for remote, want := range map[string]string{
		base + "none": "failed to GET " + base + "none with status 404 Not Found", base + "none.git": "error fetching", base + "repo.git#nosuch": "error fetching",
		base + "repo.git#:nosuch": `"nosuch" not within git root`, "ftp://x/y": "remoteURL (ftp://x/y) could not be recognized as URL",
	} {
		if a := post(d, "1.41", query("remote", remote), nil); a.status != 400 || !strings.Contains(a.body, strings.ReplaceAll(want, `"`, `\"`)) {
			t.Errorf("%s: %+v", remote, a)
		}
	}
	// docker build URL: the client hands the address over.
	if r := d.InNet("docker", "build", "-t", "cli", base+"df"); r.Code != 0 || run(d, "cli", "cat", "/f") != "url" {
		t.Errorf("%+v", r)
	}
}
