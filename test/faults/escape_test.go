package faults

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"longshore/test/harness"
)

// evil are archives whose entries lead out of the directory that they are unpacked in, towards the victim.
func evil(t *testing.T, victim string) map[string][]byte {
	t.Helper()
	pack := func(hs ...*tar.Header) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range hs {
			h.Mode = 0o777
			h.Format = tar.FormatPAX
			if h.Typeflag == tar.TypeReg {
				h.Size = 4
			}
			must(t, w.WriteHeader(h))
			if h.Typeflag == tar.TypeReg {
				_, err := w.Write([]byte("evil"))
				must(t, err)
			}
		}
		must(t, w.Close())
		return b.Bytes()
	}
	up := strings.Repeat("../", 20) + strings.TrimPrefix(victim, "/")
	file := func(name string) *tar.Header { return &tar.Header{Name: name, Typeflag: tar.TypeReg} }
	link := func(name, to string) *tar.Header {
		return &tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeSymlink}
	}
	hard := func(name, to string) *tar.Header {
		return &tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeLink}
	}
	return map[string][]byte{
		"dots":                       pack(file(up + "/new")),
		"dots over what is there":    pack(file(up + "/secret")),
		"an absolute name":           pack(file(victim + "/new")),
		"through a link":             pack(link("l", victim), file("l/new")),
		"through a link with dots":   pack(link("l", up), file("l/secret")),
		"over a link":                pack(link("l", victim+"/secret"), file("l")),
		"a hard link":                pack(hard("h", victim+"/secret"), file("h")),
		"a hard link with dots":      pack(hard("h", up+"/secret"), file("h")),
		"a hard link through a link": pack(link("l", victim), hard("h", "l/secret"), file("h")),
		"a whiteout":                 pack(file(up + "/.wh.secret")),
		"an opaque whiteout":         pack(link("l", victim), file("l/.wh..wh..opq")),
		"a directory with a link":    pack(&tar.Header{Name: "d", Typeflag: tar.TypeDir}, link("d", victim), file("d/new")),
		"links of links":             pack(link("a", "b"), link("b", "c"), link("c", victim), file("a/new")),
	}
}

// watched is a directory of the host's that nothing may read or change.
type watched struct {
	t   *testing.T
	dir string
}

const secret = "the host's secret"

func watch(t *testing.T) watched {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "victim-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.WriteFile(filepath.Join(dir, "secret"), []byte(secret), 0o644))
	return watched{t, dir}
}

func (w watched) untouched(what string) {
	w.t.Helper()
	entries, err := os.ReadDir(w.dir)
	if err != nil || len(entries) != 1 {
		w.t.Errorf("%s: the host's directory has %v (%v)", what, entries, err)
	}
	if b, err := os.ReadFile(filepath.Join(w.dir, "secret")); err != nil || string(b) != secret {
		w.t.Errorf("%s: the host's file has %q (%v)", what, b, err)
	}
}

// TestEvilArchives: no entry of an archive leads out of where it is unpacked: copies, imports, loads, build contexts and ADD.
func TestEvilArchives(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	w := watch(t)
	d.OK("run", "-d", "--name", "running", "busybox", "sleep", "100000")
	d.OK("create", "--name", "stopped", "busybox", "true")
	n := 0
	for what, archive := range evil(t, w.dir) { // in any order: each run does others
		for _, name := range []string{"running", "stopped"} {
			call(t, d, "PUT", "/containers/"+name+"/archive?path=/tmp", "application/x-tar", string(archive))
			call(t, d, "PUT", "/containers/"+name+"/archive?path=/", "application/x-tar", string(archive))
			w.untouched("copy of " + what + " into " + name)
		}
		if n++; !harness.Soaking() && n%4 != 1 { // containers and builds take their time
			continue
		}
		if d.DockerIn(bytes.NewReader(archive), "import", "-", "evil").Code == 0 {
			d.Docker("run", "--rm", "evil", "/none") // unpacks and mounts it
			d.Docker("rmi", "-f", "evil")
		}
		w.untouched("import of " + what)
		call(t, d, "POST", "/images/load", "application/x-tar", string(archive))
		w.untouched("load of " + what)
		// The context's own Dockerfile comes last, so that it is there whatever the entries before did.
		context := append(append([]byte{}, archive[:len(archive)-1024]...), archiveText(t, "Dockerfile", "FROM busybox\nCOPY . /ctx\nRUN cat /ctx/l /ctx/h /ctx/l/secret || true\n")...)
		a := call(t, d, "POST", "/build?nocache=1&t=evil", "application/x-tar", string(context))
		if strings.Contains(a.message, secret) {
			t.Errorf("build with %s reads the host's file", what)
		}
		w.untouched("context of " + what)
		context = append(append([]byte{}, tarOfFile(t, "evil.tar", archive)...), archiveText(t, "Dockerfile", "FROM busybox\nADD evil.tar /ctx/\nRUN cat /ctx/l /ctx/h /ctx/l/secret || true\n")...)
		if a := call(t, d, "POST", "/build?nocache=1&t=evil", "application/x-tar", string(context)); strings.Contains(a.message, secret) {
			t.Errorf("ADD of %s reads the host's file", what)
		}
		w.untouched("ADD of " + what)
	}
}

// archiveText is a whole archive with one text file; tarOfFile one without an end, to be gone on with.
func archiveText(t *testing.T, name, text string) []byte {
	t.Helper()
	return append(tarOfFile(t, name, []byte(text)), make([]byte, 1024)...)
}

func tarOfFile(t *testing.T, name string, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body)), Typeflag: tar.TypeReg}))
	_, err := w.Write(body)
	must(t, err)
	must(t, w.Flush())
	return b.Bytes()
}

// TestSwappedLinks: a container that swaps a directory for a link to the host's while files are copied out of and into it, and while parts of
// a volume are mounted, never makes the engine touch the host.
func TestSwappedLinks(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	w := watch(t)
	swap := `mkdir -p /v/good; echo mine >/v/good/secret; cd /v; while :; do ln -sfn good next; mv -T next d; ln -sfn ` + w.dir + ` next; mv -T next d; done`
	d.OK("run", "-d", "--name", "swapper", "-v", "shared:/v", "busybox", "sh", "-c", swap)
	d.OK("create", "--name", "stopped", "-v", "shared:/v", "busybox", "true")
	harness.Eventually(t, patience, "it swaps", func() bool { return d.Docker("exec", "swapper", "test", "-L", "/v/d").Code == 0 })
	put := archiveOf(t, "new", 10)
	until := time.Now().Add(time.Second)
	if harness.Soaking() {
		until = time.Now().Add(time.Minute)
	}
	var mounts atomic.Int64
	for n := 0; time.Now().Before(until) || n < 6; n++ {
		for _, name := range []string{"swapper", "stopped"} {
			for _, path := range []string{"/v/d/secret", "/v/d", "/v/d/."} {
				a := call(t, d, "GET", "/containers/"+name+"/archive?path="+path, "", "")
				if strings.Contains(a.message, secret) {
					t.Fatalf("copy out of %s reads the host's file", name)
				}
				if resp := head(t, d, "/containers/"+name+"/archive?path="+path); resp != "" && strings.Contains(resp, secret) {
					t.Fatal(resp)
				}
			}
			call(t, d, "PUT", "/containers/"+name+"/archive?path=/v/d", "application/x-tar", string(put))
			w.untouched("copy into " + name)
		}
		if n%3 == 0 {
			a := call(t, d, "POST", "/containers/create", "application/json",
				`{"Image":"busybox","Cmd":["cat","/part/secret"],"HostConfig":{"AutoRemove":false,"Mounts":[{"Type":"volume","Source":"shared","Target":"/part","VolumeOptions":{"Subpath":"d"}}]}}`)
			if a.status == 201 {
				id := a.message[strings.Index(a.message, `:"`)+2:][:64]
				if s := call(t, d, "POST", "/containers/"+id+"/start", "", ""); s.status == 204 {
					mounts.Add(1)
					call(t, d, "POST", "/containers/"+id+"/wait", "", "")
					if out := d.OK("logs", id); strings.Contains(out, secret) {
						t.Fatalf("a part of a volume is the host's directory: %s", out)
					}
				}
				call(t, d, "DELETE", "/containers/"+id+"?force=1", "", "")
			}
			w.untouched("a part of a volume")
		}
	}
	// Exports and commits of the swapper follow no link either.
	resp, err := d.Client().Get("http://d/containers/swapper/export")
	must(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	if bytes.Contains(b, []byte(secret)) {
		t.Error("the export has the host's file")
	}
	t.Logf("%d parts of volumes were mounted", mounts.Load())
}

// head asks for a path's description, which stands in a header.
func head(t *testing.T, d *harness.Daemon, path string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "http://d"+path, nil)
	must(t, err)
	resp, err := d.Client().Do(req)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer resp.Body.Close()
	return resp.Header.Get("X-Docker-Container-Path-Stat")
}

// TestDevices: an archive's device nodes are made for those who may have them in a container, never opened on the host.
func TestDevices(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range []*tar.Header{
		{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3},
		{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o666},
		{Name: "disk", Typeflag: tar.TypeBlock, Mode: 0o666, Devmajor: 254, Devminor: 0},
	} {
		must(t, tw.WriteHeader(h))
	}
	must(t, tw.Close())
	d.OK("run", "-d", "--name", "box", "busybox", "sleep", "100000")
	call(t, d, "PUT", "/containers/box/archive?path=/tmp", "application/x-tar", b.String())
	if r := d.Docker("exec", "box", "dd", "if=/tmp/disk", "of=/dev/null", "bs=512", "count=1"); r.Code == 0 {
		t.Error("a container reads the host's disk through a node that was copied in")
	}
	// Copying them out again waits for nobody.
	prompt(t, d, "cp", "box:/tmp/fifo", filepath.Join(d.Dir, "fifo"))
	prompt(t, d, "cp", "box:/tmp", filepath.Join(d.Dir, "tmpcopy"))
	prompt(t, d, "export", "-o", filepath.Join(d.Dir, "export.tar"), "box")
	prompt(t, d, "commit", "box", "withnodes")
}
