// Package enginewhole drives what the engine has beyond its core with the real docker CLI and the raw API.
package enginewhole

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"longshore/test/harness"
)

// mountAt mounts something for the time of the test.
func mountAt(t *testing.T, source, target, kind string, flags uintptr, data string) {
	t.Helper()
	if err := os.MkdirAll(target, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		t.Fatalf("mount %s at %s: %v", kind, target, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
}

// sharedTmpfs is a tmpfs with the given propagation, and a directory "sub" in it.
func sharedTmpfs(t *testing.T, propagation uintptr) string {
	t.Helper()
	dir := t.TempDir()
	mountAt(t, "tmpfs", dir, "tmpfs", 0, "")
	if err := unix.Mount("", dir, "", propagation, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// call asks the raw API and answers status and body.
func call(t *testing.T, d *harness.Daemon, method, path string, body any) (int, string) {
	t.Helper()
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://d"+path, r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := d.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// refused checks status and words of an answer.
func refused(t *testing.T, d *harness.Daemon, path string, body any, status int, words string) {
	t.Helper()
	got, text := call(t, d, "POST", path, body)
	var fault struct{ Message string }
	_ = json.Unmarshal([]byte(text), &fault)
	if got != status || !strings.Contains(fault.Message, words) {
		t.Errorf("POST %s: %d %s, want %d with %q", path, got, text, status, words)
	}
}

// hasRuntime tells whether the daemon knows an OCI runtime.
func hasRuntime(d *harness.Daemon, name string) bool {
	return strings.Contains(d.OK("info", "-f", "{{json .Runtimes}}"), `"`+name+`"`)
}

func TestMountPropagation(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	private := sharedTmpfs(t, unix.MS_PRIVATE)
	shared := sharedTmpfs(t, unix.MS_SHARED)

	t.Run("a source that is not shared is refused", func(t *testing.T) {
		for _, mode := range []string{"shared", "rshared"} {
			d.Fails(fmt.Sprintf("path %s is mounted on %s but it is not a shared mount", private, private),
				"run", "--rm", "-v", private+":/m:"+mode, "busybox", "true")
		}
		for _, mode := range []string{"slave", "rslave"} {
			d.Fails("but it is not a shared or slave mount", "run", "--rm", "-v", private+":/m:"+mode, "busybox", "true")
		}
		d.Fails("invalid mode", "run", "--rm", "-v", private+":/m:sharing", "busybox", "true")
		d.Fails("invalid propagation", "run", "--rm", "--mount", "type=bind,src="+private+",dst=/m,bind-propagation=sharing", "busybox", "true")
	})

	// What the host mounts below the source while the container runs is seen inside with slave and shared, and what the
	// container mounts is seen on the host with shared alone.
	for mode, see := range map[string]struct{ in, out bool }{
		"private": {}, "rprivate": {}, "slave": {in: true}, "rslave": {in: true}, "shared": {true, true}, "rshared": {true, true},
	} {
		t.Run(mode, func(t *testing.T) {
			name := "prop-" + mode
			d.OK("run", "-d", "--name", name, "--privileged", "--mount",
				"type=bind,src="+shared+",dst=/m,bind-propagation="+mode, "busybox", "sleep", "600")
			defer d.OK("rm", "-f", name)
			if p := d.OK("inspect", "-f", "{{(index .Mounts 0).Propagation}}", name); p != mode {
				t.Errorf("inspect shows %q", p)
			}
			host := filepath.Join(shared, "sub", "host-"+mode)
			mountAt(t, "tmpfs", host, "tmpfs", 0, "")
			defer func() { _ = unix.Unmount(host, unix.MNT_DETACH) }()
			write(t, filepath.Join(host, "f"), "x")
			if got := d.Docker("exec", name, "cat", "/m/sub/host-"+mode+"/f").Code == 0; got != see.in {
				t.Errorf("the host's mount is seen inside: %v", got)
			}
			d.OK("exec", name, "sh", "-c", "mkdir -p /m/sub/box-"+mode+" && mount -t tmpfs none /m/sub/box-"+mode+" && touch /m/sub/box-"+mode+"/f")
			_, err := os.Stat(filepath.Join(shared, "sub", "box-"+mode, "f"))
			if got := err == nil; got != see.out {
				t.Errorf("the container's mount is seen on the host: %v", got)
			}
			_ = unix.Unmount(filepath.Join(shared, "sub", "box-"+mode), unix.MNT_DETACH)
		})
	}
}

// A container with private copies of the daemon's mounts would keep them alive after the daemon unmounted them.
func TestBindsOfTheDataRoot(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	inner := filepath.Join(d.DataRoot(), "volumes")
	for _, source := range []string{"/", d.DataRoot(), inner} {
		for _, mode := range []string{"private", "rprivate", "slave", "shared"} {
			words := fmt.Sprintf(`must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root, daemon root: %q, bind mount source: %q, propagation: %q`, d.DataRoot(), source, mode)
			d.Fails(words, "create", "-v", source+":/m:"+mode, "busybox")
			d.Fails(words, "create", "--mount", "type=bind,src="+source+",dst=/m,bind-propagation="+mode, "busybox")
		}
		id := d.OK("run", "-d", "-v", source+":/m", "--mount", "type=bind,src="+source+",dst=/n", "busybox", "sleep", "1000")
		if p := d.OK("inspect", "-f", "{{range .Mounts}}{{.Propagation}} {{end}}", id); p != "rslave rslave" {
			t.Errorf("%s: %s", source, p)
		}
		d.OK("rm", "-f", id)
	}
	// Beside it, with a name that begins alike, everything is as always.
	beside := d.DataRoot() + "2"
	id := d.OK("create", "-v", beside+":/m", "busybox")
	if p := d.OK("inspect", "-f", "{{range .Mounts}}{{.Propagation}}{{end}}", id); p != "rprivate" {
		t.Errorf("%s: %s", beside, p)
	}
	d.OK("rm", id)
	d.OK("run", "--rm", "-v", t.TempDir()+":/m:private", "busybox", "true")

	// Where the source's mount spreads, what the host mounts and unmounts comes and goes inside.
	spread := filepath.Join(d.DataRoot(), "spread")
	mountAt(t, "tmpfs", spread, "tmpfs", 0, "")
	if err := unix.Mount("", spread, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	id = d.OK("run", "-d", "-v", spread+":/m", "busybox", "sleep", "1000")
	late := filepath.Join(spread, "late")
	mountAt(t, "tmpfs", late, "tmpfs", 0, "")
	write(t, filepath.Join(late, "f"), "x")
	if out := d.OK("exec", id, "cat", "/m/late/f"); out != "x" {
		t.Errorf("what is mounted later: %q", out)
	}
	if err := unix.Unmount(late, 0); err != nil {
		t.Errorf("unmount: %v", err)
	}
	if out := d.OK("exec", id, "ls", "/m/late"); out != "" {
		t.Errorf("what is unmounted is still there: %q", out)
	}
	d.OK("rm", "-f", id)
}

func TestRecursiveReadOnly(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	dir := t.TempDir()
	mountAt(t, "tmpfs", filepath.Join(dir, "inner"), "tmpfs", 0, "mode=777")
	mount := func(more string) []string {
		return []string{"run", "--rm", "--mount", "type=bind,src=" + dir + ",dst=/m,readonly" + more}
	}
	with := func(runtime string, args []string, command ...string) []string {
		return append(append(args, "--runtime", runtime, "busybox"), command...)
	}
	touch := []string{"sh", "-c", "touch /m/f 2>/dev/null; echo $?; touch /m/inner/f 2>/dev/null; echo $?"}
	known := d.OK("info", "-f", "{{range $k, $v := .Runtimes}}{{$k}} {{end}}")
	for _, rt := range strings.Fields(known) {
		t.Run(rt, func(t *testing.T) {
			force := d.Docker(with(rt, mount(",bind-recursive=readonly,bind-propagation=rprivate"), touch...)...)
			if force.Code != 0 {
				if !strings.Contains(force.Err, "does not support recursive read-only mounts") {
					t.Errorf("forced: %s", force.Err)
				}
				t.Logf("this %s cannot make mounts read-only recursively", rt)
			} else if force.Out != "1\n1\n" {
				t.Errorf("forced: %q", force.Out)
			}
			if out := d.OK(with(rt, mount(""), touch...)...); out != map[bool]string{true: "1\n1", false: "1\n0"}[force.Code == 0] {
				t.Errorf("where possible: %q", out)
			}
			if out := d.OK(with(rt, mount(",bind-recursive=writable"), touch...)...); out != "1\n0" {
				t.Errorf("not recursive: %q", out)
			}
			if out := d.OK(with(rt, mount(",bind-recursive=disabled"), "ls", "/m/inner")...); out != "" {
				t.Errorf("mounts below the source came along: %q", out)
			}
		})
	}
	// Clients below 1.44 get read-only binds as they knew them, in both notations; inspect shows what they asked for.
	for version, want := range map[string]string{"1.43": "1\n0", "1.44": "1\n1"} {
		var made struct{ ID string }
		status, text := call(t, d, "POST", "/v"+version+"/containers/create", map[string]any{"Image": "busybox", "Cmd": []string{"sh", "-c", "cd /a; touch f 2>/dev/null; echo $?; touch inner/f 2>/dev/null; echo $?; cd /b; touch f 2>/dev/null; echo $?; touch inner/f 2>/dev/null; echo $?"},
			"HostConfig": map[string]any{"Runtime": "crun", "Binds": []string{dir + ":/a:ro"}, "Mounts": []any{map[string]any{"Type": "bind", "Source": dir, "Target": "/b", "ReadOnly": true}}}})
		if err := json.Unmarshal([]byte(text), &made); err != nil || status != 201 {
			t.Fatalf("%d %s", status, text)
		}
		if out := d.OK("start", "-a", made.ID); out != want+"\n"+want {
			t.Errorf("read-only binds at %s: %q", version, out)
		}
		if o := d.OK("inspect", "-f", "{{(index .HostConfig.Mounts 0).BindOptions}}", made.ID); o != "<nil>" {
			t.Errorf("options that nobody asked for: %s", o)
		}
		d.OK("rm", made.ID)
	}
	bind := func(o map[string]any, readonly bool) map[string]any {
		return map[string]any{"Image": "busybox", "HostConfig": map[string]any{"Mounts": []any{map[string]any{
			"Type": "bind", "Source": dir, "Target": "/m", "ReadOnly": readonly, "BindOptions": o}}}}
	}
	refused(t, d, "/containers/create", bind(map[string]any{"ReadOnlyNonRecursive": true, "ReadOnlyForceRecursive": true}, true), 400, "mount options conflict")
	refused(t, d, "/containers/create", bind(map[string]any{"ReadOnlyForceRecursive": true}, false), 400, "mount options conflict: !ReadOnly && BindOptions.ReadOnlyForceRecursive")
	refused(t, d, "/containers/create", bind(map[string]any{"ReadOnlyNonRecursive": true}, false), 400, "mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive")
}

func TestBindOptions(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	dir := t.TempDir()
	missing := filepath.Join(dir, "a", "b")
	create := func(o map[string]any) map[string]any {
		return map[string]any{"Image": "busybox", "HostConfig": map[string]any{"Mounts": []any{map[string]any{
			"Type": "bind", "Source": missing, "Target": "/m", "BindOptions": o}}}}
	}
	refused(t, d, "/containers/create", create(nil), 400, `invalid mount config for type "bind": bind source path does not exist: `+missing)
	status, text := call(t, d, "POST", "/containers/create?name=made", create(map[string]any{"CreateMountpoint": true}))
	if status != 201 {
		t.Fatalf("CreateMountpoint: %d %s", status, text)
	}
	d.OK("start", "made")
	if st, err := os.Stat(missing); err != nil || !st.IsDir() {
		t.Errorf("the source was not made: %v", err)
	}
	if out := d.OK("run", "--rm", "-v", filepath.Join(dir, "old")+":/m", "busybox", "ls", "-d", "/m"); out != "/m" {
		t.Errorf("old notation: %q", out)
	}
	inner := filepath.Join(dir, "tree", "inner")
	mountAt(t, "tmpfs", inner, "tmpfs", 0, "")
	write(t, filepath.Join(inner, "f"), "x")
	if r := d.Docker("run", "--rm", "--mount", "type=bind,src="+filepath.Dir(inner)+",dst=/m", "busybox", "cat", "/m/inner/f"); r.Out != "x" {
		t.Errorf("recursive: %q %s", r.Out, r.Err)
	}
	if out := d.OK("run", "--rm", "--mount", "type=bind,src="+filepath.Dir(inner)+",dst=/m,bind-recursive=disabled", "busybox", "ls", "/m/inner"); out != "" {
		t.Errorf("not recursive: %q", out)
	}
}

func TestVolumeSubpath(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	d.OK("run", "--rm", "-v", "data:/d", "busybox", "sh", "-c",
		"mkdir -p /d/a/b && echo one > /d/a/b/f && ln -s a /d/link && ln -s /etc /d/abs && ln -s ../../../../etc /d/up")
	mount := func(sub string) []string {
		return []string{"run", "--rm", "--mount", "type=volume,src=data,dst=/m,volume-subpath=" + sub, "busybox"}
	}
	for _, sub := range []string{"a/b", "link/b", "a/../a/b/."} {
		if out := d.OK(append(mount(sub), "sh", "-c", "cat /m/f; echo $(ls -A /m)")...); out != "one\nf" {
			t.Errorf("%s: %q", sub, out)
		}
	}
	if out := d.OK(append(mount("a/b/f"), "cat", "/m")...); out != "one" {
		t.Errorf("a file: %q", out)
	}
	d.OK(append(mount("a/b"), "sh", "-c", "echo two > /m/g")...)
	if out := d.OK("run", "--rm", "-v", "data:/d", "busybox", "cat", "/d/a/b/g"); out != "two" {
		t.Errorf("written through the subpath: %q", out)
	}
	d.OK("run", "--rm", "-v", "data:/d", "busybox", "mkdir", "/d/empty")
	if out := d.OK("run", "--rm", "--mount", "type=volume,src=data,dst=/var,volume-subpath=empty", "busybox", "ls", "/var"); !strings.Contains(out, "spool") {
		t.Errorf("an empty directory of a volume has not got the image's content: %q", out)
	}
	for sub, words := range map[string]string{
		"abs": "path concatenation escapes the base directory", "up": "path concatenation escapes the base directory",
		"none": "no such file or directory", "../x": "subpath must be a relative path within the volume",
		"/a": "subpath must be a relative path within the volume",
	} {
		d.Fails(words, append(mount(sub), "true")...)
	}
	refused(t, d, "/containers/create", map[string]any{"Image": "busybox", "HostConfig": map[string]any{"Mounts": []any{map[string]any{
		"Type": "volume", "Target": "/m", "VolumeOptions": map[string]any{"Subpath": "x"}}}}}, 400, "must not set Subpath when using anonymous volumes")
	// A restart of the container, and one of the daemon in between, find the part again.
	d.OK("run", "-d", "--name", "keeps", "--mount", "type=volume,src=data,dst=/m,volume-subpath=a/b", "busybox", "sleep", "600")
	d.Kill()
	d.Up()
	d.OK("restart", "-t", "0", "keeps")
	if out := d.OK("exec", "keeps", "cat", "/m/f"); out != "one" {
		t.Errorf("after a restart: %q", out)
	}
}

func TestImageMounts(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	tar := filepath.Join(t.TempDir(), "tools.tar")
	src := t.TempDir()
	write(t, filepath.Join(src, "opt", "tool", "run"), "tool")
	write(t, filepath.Join(src, "top"), "top")
	for link, to := range map[string]string{"in": "opt", "out": "/etc", "up": "../../../../etc"} {
		if err := os.Symlink(to, filepath.Join(src, link)); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("tar", "-C", src, "-cf", tar, ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v %s", err, out)
	}
	d.OK("import", tar, "tools:1")
	id := d.OK("image", "inspect", "-f", "{{.Id}}", "tools:1")
	mount := func(more string) []string {
		return []string{"run", "--rm", "--mount", "type=image,src=tools:1,dst=/m" + more, "busybox"}
	}
	if out := d.OK(append(mount(""), "sh", "-c", "cat /m/top /m/opt/tool/run; touch /m/x 2>&1 | grep -c 'Read-only'")...); out != "toptool1" {
		t.Errorf("got %q", out)
	}
	if out := d.OK(append(mount(",image-subpath=opt/tool"), "cat", "/m/run")...); out != "tool" {
		t.Errorf("subpath: %q", out)
	}
	for sub, want := range map[string]string{"in/tool": "run", "opt/../opt/tool/.": "run", "opt/tool/run": "/m"} {
		if out := d.OK(append(mount(",image-subpath="+sub), "ls", "/m")...); out != want {
			t.Errorf("subpath %s: %q", sub, out)
		}
	}
	d.Fails("cannot access path", append(mount(",image-subpath=none"), "true")...)
	for _, sub := range []string{"out", "up"} {
		d.Fails("escapes", append(mount(",image-subpath="+sub), "ls", "/m")...)
	}
	refused(t, d, "/containers/create", map[string]any{"Image": "busybox", "HostConfig": map[string]any{"Mounts": []any{map[string]any{
		"Type": "image", "Source": "none", "Target": "/m"}}}}, 404, "No such image: none:latest")
	refused(t, d, "/containers/create", map[string]any{"Image": "busybox", "HostConfig": map[string]any{"Mounts": []any{map[string]any{
		"Type": "image", "Source": "tools:1", "Target": "/m", "ImageOptions": map[string]any{"Subpath": "../x"}}}}}, 400, "subpath must be a relative path within the volume")

	d.OK("run", "-d", "--name", "user", "--mount", "type=image,src=tools:1,dst=/m", "busybox", "sleep", "600")
	if got := d.OK("inspect", "-f", "{{(index .Mounts 0).Type}} {{(index .Mounts 0).RW}} {{(index .Mounts 0).Destination}}", "user"); got != "image false /m" {
		t.Errorf("inspect: %q", got)
	}
	if r := d.Docker("rmi", id); r.Code == 0 || !strings.Contains(r.Err, "image is being used by running container") {
		t.Errorf("a mounted image was removed: %s%s", r.Out, r.Err)
	}
	d.Kill()
	d.Up()
	d.OK("restart", "-t", "0", "user")
	if out := d.OK("exec", "user", "cat", "/m/top"); out != "top" {
		t.Errorf("after a restart: %q", out)
	}
	d.OK("rm", "-f", "user")
	d.OK("rmi", "tools:1")
}
