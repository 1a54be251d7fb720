package engine

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

// archiveOf is a docker save archive of one image for this host: a plain layer and a compressed one, of 8 MB each.
func archiveOf(t *testing.T, d *harness.Daemon, tag string) (archive []byte, sum string) {
	t.Helper()
	noise := make([]byte, 8<<20)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(tag))).Read(noise)
	pack := func(files map[string][]byte, order ...string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, name := range order {
			if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name]))}); err != nil {
				t.Fatal(err)
			}
			_, _ = w.Write(files[name])
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	first := pack(map[string][]byte{"data/first": noise, "data/hidden": []byte("h")}, "data/first", "data/hidden")
	second := pack(map[string][]byte{"data/second": noise[1:], "data/.wh.hidden": nil}, "data/second", "data/.wh.hidden")
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = w.Write(second)
	_ = w.Close()
	config, err := json.Marshal(map[string]any{
		"architecture": d.OK("version", "-f", "{{.Server.Arch}}"), "os": "linux",
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(first)), fmt.Sprintf("sha256:%x", sha256.Sum256(second))}},
	})
	if err != nil {
		t.Fatal(err)
	}
	manifest := fmt.Sprintf(`[{"Config":"c.json","RepoTags":[%q],"Layers":["1.tar","2.tar"]}]`, tag)
	files := map[string][]byte{"1.tar": first, "2.tar": z.Bytes(), "c.json": config, "manifest.json": []byte(manifest)}
	return pack(files, "1.tar", "2.tar", "c.json", "manifest.json"), fmt.Sprintf("%x %x", sha256.Sum256(noise), sha256.Sum256(noise[1:]))
}

// TestLoadLargeLayers: layers that are unpacked while they come. A load that is cut off, a damaged archive and a killed daemon
// leave nothing; the same archive loads afterwards, and twice.
func TestLoadLargeLayers(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	archive, sum := archiveOf(t, d, "large:1")
	incoming := filepath.Join(d.DataRoot(), "content", "incoming")
	nothing := func(when string) {
		t.Helper()
		harness.Eventually(t, 30*time.Second, "nothing is left "+when, func() bool {
			entries, err := os.ReadDir(incoming)
			blobs, berr := os.ReadDir(filepath.Join(d.DataRoot(), "content", "blobs", "sha256"))
			dirs, derr := os.ReadDir(filepath.Join(d.DataRoot(), "snapshots", "snapshots"))
			return err == nil && len(entries) == 0 && berr == nil && len(blobs) == 0 && derr == nil && len(dirs) == 0
		})
	}
	cut := d.DockerIn(bytes.NewReader(archive[:12<<20]), "load")
	if cut.Code == 0 || !strings.Contains(cut.Err, "unexpected EOF") {
		t.Errorf("half an archive: %+v", cut)
	}
	nothing("of half an archive")
	damaged := bytes.Clone(archive)
	damaged[4<<20]++
	if r := d.DockerIn(bytes.NewReader(damaged), "load"); r.Code == 0 || !strings.Contains(r.Err, "diffID") {
		t.Errorf("a damaged layer: %+v", r)
	}
	nothing("of a damaged one")

	r, w := io.Pipe()
	over := make(chan harness.Result, 1)
	go func() { over <- d.DockerIn(r, "load") }()
	if _, err := w.Write(archive[:12<<20]); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, 30*time.Second, "the second layer is being written", func() bool {
		files, _ := filepath.Glob(filepath.Join(incoming, "*"))
		first, _ := filepath.Glob(filepath.Join(d.DataRoot(), "content", "blobs", "sha256", "*"))
		return len(files) == 1 && len(first) == 1
	})
	d.Kill()
	_ = w.Close()
	<-over
	d.Up()
	if entries, err := os.ReadDir(incoming); err != nil || len(entries) != 0 {
		t.Errorf("after the kill: %v %v", entries, err)
	}

	for range 2 {
		if r := d.DockerIn(bytes.NewReader(archive), "load"); r.Code != 0 || !strings.Contains(r.Out, "Loaded image: large:1") {
			t.Fatalf("load: %+v", r)
		}
	}
	c := d.OK("create", "large:1", "x")
	got := d.Docker("export", c)
	if got.Code != 0 {
		t.Fatal(got.Err)
	}
	sums := map[string]string{}
	for tr := tar.NewReader(strings.NewReader(got.Out)); ; {
		h, err := tr.Next()
		if err != nil {
			break
		}
		s := sha256.New()
		_, _ = io.Copy(s, tr)
		sums[h.Name] = fmt.Sprintf("%x", s.Sum(nil))
	}
	if now := sums["data/first"] + " " + sums["data/second"]; now != sum || sums["data/hidden"] != "" {
		t.Errorf("the image has %s, want %s; hidden: %q", now, sum, sums["data/hidden"])
	}
	d.OK("rm", c)
	d.OK("rmi", "large:1")
	nothing("of an image that is gone")
}
