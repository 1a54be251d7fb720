package faults

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"longshore/test/harness"
)

// serveImage starts our registry in the daemon's network, pushes the image named there and answers its name.
func serveImage(t *testing.T, d *harness.Daemon, image string) string {
	t.Helper()
	cfg := filepath.Join(t.TempDir(), "registry.json")
	must(t, os.WriteFile(cfg, []byte(`{"storage":{"rootDirectory":"`+t.TempDir()+`"},"http":{"address":"127.0.0.1","port":"5000"}}`), 0o600))
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, "nsenter", "--net=/run/netns/"+d.NetNS, harness.Bin("longshore"), "registry", "serve", cfg)
	must(t, c.Start())
	t.Cleanup(func() {
		cancel()
		_ = c.Wait()
	})
	harness.Eventually(t, patience, "the registry answers", func() bool {
		return d.InNet("curl", "-sf", "-m", "2", "http://127.0.0.1:5000/v2/").Code == 0
	})
	name := "localhost:5000/" + image
	d.OK("tag", image, name)
	d.OK("push", name)
	return name
}

// files lists what matches below the data root.
func files(t *testing.T, d *harness.Daemon, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(d.DataRoot(), pattern))
	must(t, err)
	return found
}

// TestMissingLayers: blobs or unpacked layers are gone from the disk. The image that had them says so, others work, a pull mends it.
func TestMissingLayers(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	name := serveImage(t, d, "busybox")
	d.OK("rmi", "busybox")
	blobs := files(t, d, "content/blobs/sha256/*")
	if len(blobs) < 3 {
		t.Fatalf("blobs: %v", blobs)
	}
	if r := d.DockerIn(bytes.NewReader(otherImage(t)), "import", "-", "other"); r.Code != 0 {
		t.Fatal(r.Err)
	}
	works := func(what string) {
		t.Helper()
		if out := d.OK("run", "--rm", "other", "/bin/busybox", "cat", "/name"); out != "other" {
			t.Errorf("%s: another image: %q", what, out)
		}
		prompt(t, d, "images", "-a")
		prompt(t, d, "system", "df", "-v")
		prompt(t, d, "image", "prune", "-f")
	}
	mended := func(what string) {
		t.Helper()
		if r := d.Docker("pull", name); r.Code != 0 {
			t.Errorf("%s: pull: %s%s", what, r.Out, r.Err)
		}
		if r := d.Docker("run", "--rm", name, "echo", "fine"); r.Code != 0 || r.Out != "fine\n" {
			t.Errorf("%s: after the pull: %s%s", what, r.Out, r.Err)
		}
		if r := d.Docker("save", "-o", filepath.Join(d.Dir, "saved.tar"), name); r.Code != 0 {
			t.Errorf("%s: save after the pull: %s%s", what, r.Out, r.Err)
		}
	}
	for _, up := range []bool{true, false} {
		for i, blob := range blobs {
			if !up && i > 0 && !harness.Soaking() {
				break
			}
			if !up {
				d.Stop()
			}
			must(t, os.Remove(blob))
			if !up {
				d.Up()
			}
			what := "blob " + filepath.Base(blob)[:12] + " removed"
			works(what)
			if r := d.Docker("save", "-o", filepath.Join(d.Dir, "saved.tar"), name); r.Code == 0 {
				t.Errorf("%s: save succeeded", what)
			}
			mended(what)
		}
	}
	d.Stop()
	for _, blob := range blobs { // damaged, not gone
		b, err := os.ReadFile(blob)
		must(t, err)
		must(t, os.WriteFile(blob, append([]byte("garbage"), b...)[:len(b)], 0o600))
	}
	d.Up()
	works("damaged blobs")
	prompt(t, d, "rmi", "-f", name)
	for _, dir := range files(t, d, "snapshots/snapshots/*/fs/bin/sh") { // to be unpacked again, from what is damaged
		must(t, os.RemoveAll(filepath.Dir(filepath.Dir(dir))))
	}
	harness.Eventually(t, patience, "the damaged image can be had anew", func() bool { return d.Docker("pull", name).Code == 0 })
	mended("damaged blobs")

	// Unpacked layers.
	for _, whole := range []bool{false, true} {
		d.Stop()
		for _, dir := range files(t, d, "snapshots/snapshots/*") {
			if _, err := os.Stat(filepath.Join(dir, "fs", "bin", "sh")); err != nil {
				continue // not busybox
			}
			if !whole {
				dir = filepath.Join(dir, "fs")
			}
			must(t, os.RemoveAll(dir))
		}
		d.Up()
		works("layer gone")
		// It may have been unpacked anew, where nothing else stands on it.
		if r := d.Docker("run", "--rm", name, "true"); r.Code != 0 && !strings.Contains(r.Err, "a layer is missing, pull the image again") && !strings.Contains(r.Err, "no such file") {
			t.Errorf("without its layer: %s", r.Err)
		}
		mended("layer gone")
	}
}

// otherImage is a root file system with busybox and the file /name.
func otherImage(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "name"), []byte("other"), 0o644))
	command(t, "cp", "/bin/busybox", filepath.Join(dir, "bin", "busybox"))
	return tarOf(t, dir)
}

// tarOf packs a directory.
func tarOf(t *testing.T, dir string) []byte {
	t.Helper()
	out, err := exec.Command("tar", "-C", dir, "-c", ".").Output()
	must(t, err)
	return out
}
