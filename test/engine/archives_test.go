package engine

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"longshore/test/harness"
)

// TestArchives: load, save and import in every form that docker's own versions and others wrote.
func TestArchives(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	part(t, d, "save many, load them all", saveMany)
	part(t, d, "the oldest form", loadOldest)
	part(t, d, "an OCI layout of several platforms", loadLayout)
	part(t, d, "import and its changes", importChanges)
	part(t, d, "bad archives", badArchives)
}

func saveMany(t *testing.T, d *harness.Daemon) {
	dir := t.TempDir()
	sh(t, d, `for i in a b; do echo $i | docker run -i --name save$i busybox sh -c 'cat >/which'; docker commit save$i many:$i; docker tag many:$i other/$i:latest; done; docker rm savea saveb`)
	id := d.OK("inspect", "-f", "{{.Id}}", "many:a")
	d.OK("save", "-o", filepath.Join(dir, "many.tar"), "many", "other/a", "busybox:latest")
	var members []string
	for _, name := range strings.Fields(sh(t, d, "tar tf "+dir+"/many.tar")) {
		if name == "manifest.json" || name == "index.json" || name == "oci-layout" || name == "repositories" {
			members = append(members, name)
		}
	}
	if len(members) < 3 {
		t.Errorf("the archive has %v: both docker's form and the OCI layout are expected", members)
	}
	d.OK("rmi", "many:a", "many:b", "other/a", "other/b")
	tells(t, d, []string{"Loaded image: many:a", "Loaded image: many:b", "Loaded image: other/a:latest", "Loaded image: busybox:latest"}, "load", "-i", dir+"/many.tar")
	says(t, d, id, "inspect", "-f", "{{.Id}}", "many:a")
	says(t, d, "b", "run", "--rm", "many:b", "cat", "/which")
	d.Fails("No such image", "inspect", "--type", "image", "other/b")
	// By ID an image is saved without a name.
	d.OK("save", "-o", dir+"/id.tar", id)
	d.OK("rmi", "-f", id)
	tells(t, d, []string{"Loaded image ID: sha256:"}, "load", "-i", dir+"/id.tar")
	tells(t, d, []string{"Loaded image: many:b"}, "load", "-q", "-i", dir+"/many.tar")
	sh(t, d, "docker save many:b | docker load")
	d.Fails("No such image: nothing:here", "save", "-o", dir+"/none.tar", "nothing:here")
	d.OK("rmi", "-f", "many:a", "many:b", "other/a")
	d.OK("image", "prune", "-f")
}

// loadOldest makes an archive as docker wrote it before 1.10: a directory per layer, and "repositories".
func loadOldest(t *testing.T, d *harness.Daemon) {
	id := d.OK("create", "busybox")
	defer d.OK("rm", id)
	dir := t.TempDir()
	root, leaf := strings.Repeat("1a", 32), strings.Repeat("2b", 32)
	for _, layer := range []string{root, leaf} {
		if err := os.MkdirAll(filepath.Join(dir, "a", layer), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "a", layer, "VERSION"), "1.0")
	}
	d.OK("export", "-o", filepath.Join(dir, "a", root, "layer.tar"), id)
	sh(t, d, "mkdir "+dir+"/x && echo old >"+dir+"/x/old && tar -C "+dir+"/x -cf "+dir+"/a/"+leaf+"/layer.tar old")
	write(t, filepath.Join(dir, "a", root, "json"), `{"id":"`+root+`","created":"2013-06-14T00:00:00Z","os":"linux","architecture":"amd64"}`)
	write(t, filepath.Join(dir, "a", leaf, "json"), `{"id":"`+leaf+`","parent":"`+root+`","created":"2013-06-15T00:00:00Z","os":"linux","architecture":"amd64","config":{"Cmd":["cat","/old"],"Env":["PATH=/bin"]}}`)
	write(t, filepath.Join(dir, "a", "repositories"), `{"ancient":{"v0":"`+leaf+`"}}`)
	tells(t, d, []string{"Loaded image: ancient:v0"}, "load", "-i", packed(t, filepath.Join(dir, "a"), dir+"/old.tar"))
	says(t, d, "old", "run", "--rm", "ancient:v0")
	d.OK("rmi", "ancient:v0")
}

// loadLayout makes an index of two platforms whose layers differ.
func loadLayout(t *testing.T, d *harness.Daemon) {
	dir := t.TempDir()
	layout := filepath.Join(dir, "layout")
	if err := os.MkdirAll(filepath.Join(layout, "blobs/sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	blob := func(media string, content []byte, more map[string]any) map[string]any {
		sum := sha256.Sum256(content)
		name := hex.EncodeToString(sum[:])
		write(t, filepath.Join(layout, "blobs/sha256", name), string(content))
		out := map[string]any{"mediaType": media, "digest": "sha256:" + name, "size": len(content)}
		for k, v := range more {
			out[k] = v
		}
		return out
	}
	const oci = "application/vnd.oci.image."
	var manifests []map[string]any
	for _, arch := range []string{"amd64", "arm64"} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		_ = w.WriteHeader(&tar.Header{Name: "arch", Size: int64(len(arch)), Mode: 0o644})
		_, _ = w.Write([]byte(arch))
		_ = w.Close()
		sum := sha256.Sum256(b.Bytes())
		config := blob(oci+"config.v1+json", encode(t, map[string]any{"os": "linux", "architecture": arch, "config": map[string]any{"Cmd": []string{"/x"}},
			"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}}}), nil)
		manifest := encode(t, map[string]any{"schemaVersion": 2, "mediaType": oci + "manifest.v1+json", "config": config,
			"layers": []any{blob(oci+"layer.v1.tar", b.Bytes(), nil)}})
		manifests = append(manifests, blob(oci+"manifest.v1+json", manifest, map[string]any{"platform": map[string]any{"os": "linux", "architecture": arch}}))
	}
	index := blob(oci+"index.v1+json", encode(t, map[string]any{"schemaVersion": 2, "mediaType": oci + "index.v1+json", "manifests": manifests}),
		map[string]any{"annotations": map[string]string{"io.containerd.image.name": "docker.io/library/multi:v1", "org.opencontainers.image.ref.name": "v1"}})
	write(t, filepath.Join(layout, "index.json"), string(encode(t, map[string]any{"schemaVersion": 2, "manifests": []any{index}})))
	write(t, filepath.Join(layout, "oci-layout"), `{"imageLayoutVersion":"1.0.0"}`)
	archive := packed(t, layout, dir+"/layout.tar")
	tells(t, d, []string{"Loaded image: multi:v1"}, "load", "-i", archive)
	says(t, d, "amd64", "image", "inspect", "-f", "{{.Architecture}}", "multi:v1")
	says(t, d, "arm64", "image", "inspect", "--platform", "linux/arm64", "-f", "{{.Architecture}}", "multi:v1")
	says(t, d, index["digest"].(string), "image", "inspect", "-f", "{{.Id}}", "multi:v1")
	says(t, d, "amd64", "image", "inspect", "-f", "{{.Architecture}}", manifests[0]["digest"].(string))
	tells(t, d, []string{"linux/amd64", "linux/arm64"}, "images", "--tree")
	for platform, want := range map[string]string{"linux/amd64": "amd64", "linux/arm64": "arm64"} {
		id := d.OK("create", "--platform", platform, "multi:v1")
		if got := sh(t, d, "docker cp "+id+":/arch - | tar xO"); got != want {
			t.Errorf("%s has the file of %q", platform, got)
		}
		d.OK("rm", id)
	}
	d.Fails("does not provide the specified platform", "create", "--pull", "never", "--platform", "linux/s390x", "multi:v1")
	// One platform of it can be saved, and loaded from it.
	d.OK("save", "--platform", "linux/arm64", "-o", dir+"/arm.tar", "multi:v1")
	d.OK("rmi", "multi:v1")
	tells(t, d, []string{"Loaded image: multi:v1"}, "load", "--platform", "linux/arm64", "-i", dir+"/arm.tar")
	says(t, d, "arm64", "image", "inspect", "--platform", "linux/arm64", "-f", "{{.Architecture}}", "multi:v1")
	d.OK("rmi", "multi:v1")
}

func importChanges(t *testing.T, d *harness.Daemon) {
	dir := t.TempDir()
	sh(t, d, "mkdir "+dir+"/r && echo found >"+dir+"/r/file && tar -C "+dir+"/r -czf "+dir+"/r.tgz .")
	d.OK("import", "-m", "a message", "--platform", "linux/arm64", "-c", `CMD ["/x","y"]`, "-c", "ENTRYPOINT /e", "-c", "ENV A=b C=d", "-c", "EXPOSE 80 53/udp", "-c", "LABEL k=v", "-c", "USER u:g",
		"-c", "VOLUME /data", "-c", "WORKDIR /w", "-c", "STOPSIGNAL SIGINT", "-c", "ONBUILD RUN x", "-c", "HEALTHCHECK --interval=5s --retries=3 CMD /h", dir+"/r.tgz", "imp:1")
	says(t, d, `["/x","y"] ["/bin/sh","-c","/e"] ["A=b","C=d"] map[53/udp:{} 80/tcp:{}] map[k:v] u:g map[/data:{}] /w SIGINT [RUN x] {[CMD-SHELL /h] 5s 0s 0s 0s 3} linux/arm64`,
		"image", "inspect", "-f", `{{json .Config.Cmd}} {{json .Config.Entrypoint}} {{json .Config.Env}} {{.Config.ExposedPorts}} {{.Config.Labels}} {{.Config.User}} {{.Config.Volumes}} {{.Config.WorkingDir}} {{.Config.StopSignal}} {{.Config.OnBuild}} {{.Config.Healthcheck}} {{.Os}}/{{.Architecture}}`, "imp:1")
	says(t, d, "a message", "history", "--format", "{{.Comment}}", "imp:1")
	// Without a name, and from standard input.
	id := sh(t, d, "docker import - <"+dir+"/r.tgz")
	says(t, d, "[] []", "image", "inspect", "-f", "{{.RepoTags}} {{.RepoDigests}}", id)
	c := d.OK("create", id, "x")
	if got := sh(t, d, "docker cp "+c+":/file - | tar xO"); got != "found" {
		t.Errorf("the image has %q", got)
	}
	d.OK("rm", c)
	d.Fails("run is not a valid change command", "import", "-c", "RUN x", dir+"/r.tgz")
	d.Fails("shell is not a valid change command", "import", "-c", `SHELL ["/s"]`, dir+"/r.tgz")
	d.Fails("invalid reference format", "import", dir+"/r.tgz", "Bad Name")
	// From a URL, which the daemon fetches.
	l := d.Listen()
	srv := &httptest.Server{Listener: l, Config: fileServer(dir)}
	srv.Start()
	defer srv.Close()
	tells(t, d, []string{"sha256:", "Downloading from"}, "import", srv.URL+"/r.tgz", "imp:2")
	says(t, d, "Imported from "+srv.URL+"/r.tgz", "history", "--format", "{{.Comment}}", "imp:2")
	d.Fails("404", "import", srv.URL+"/none", "imp:3")
	d.OK("rmi", "imp:1", "imp:2", id)
}

func badArchives(t *testing.T, d *harness.Daemon) {
	before := d.OK("images", "-aq", "--no-trunc")
	dir := t.TempDir()
	for name, files := range map[string]map[string]string{
		"nothing in it":           {},
		"a missing configuration": {"manifest.json": `[{"Config":"none.json","RepoTags":["bad:1"],"Layers":[]}]`},
		"a path outside":          {"manifest.json": `[{"Config":"../../../etc/passwd","RepoTags":["bad:1"],"Layers":[]}]`},
		"another configuration":   {"manifest.json": `[{"Config":"c.json","RepoTags":["bad:1"],"Layers":["l.tar"]}]`, "c.json": `{"rootfs":{"type":"layers","diff_ids":["sha256:` + strings.Repeat("0", 64) + `"]}}`, "l.tar": ""},
		"no JSON":                 {"manifest.json": `[{`},
	} {
		in := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		if err := os.Mkdir(in, 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range files {
			write(t, filepath.Join(in, file), text)
		}
		if r := d.Docker("load", "-i", packed(t, in, in+".tar")); r.Code != 1 || strings.Contains(r.Err, "500") {
			t.Errorf("%s: exit %d: %s%s", name, r.Code, r.Out, r.Err)
		}
	}
	write(t, dir+"/text", strings.Repeat("no archive\n", 200))
	d.Fails("", "load", "-i", dir+"/text")
	d.Fails("", "import", dir+"/text")
	if after := d.OK("images", "-aq", "--no-trunc"); after != before {
		t.Errorf("images before:\n%s\nand after bad archives:\n%s", before, after)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// packed makes a tar of a directory.
func packed(t *testing.T, dir, file string) string {
	t.Helper()
	if out, err := exec.Command("tar", "-C", dir, "-cf", file, ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	return file
}
