package registryside

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/zstd"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/test/harness"
)

// busybox is a root file system as a tar.
func busybox(t *testing.T) []byte {
	t.Helper()
	b, err := exec.Command("../../scripts/busybox-image.sh").Output()
	must(t, err)
	return b
}

// TestZstdLayers: pulled, run, pushed as they are, saved and loaded.
func TestZstdLayers(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	h, other := newHub(d), newHub(d)
	plain := busybox(t)
	enc, err := zstd.NewWriter(nil)
	must(t, err)
	layer := h.put(ocispec.MediaTypeImageLayerZstd, enc.EncodeAll(plain, nil))
	m := h.image("app", "1", "amd64", []ocispec.Descriptor{layer}, []digest.Digest{digest.FromBytes(plain)})
	runs := func(ref string) {
		t.Helper()
		if out := d.OK("run", "--rm", "--network", "none", ref, "/bin/echo", "works"); out != "works" {
			t.Errorf("%s says %q", ref, out)
		}
	}
	ref, elsewhere := h.host+"/app:1", other.host+"/copy:1"
	d.OK("pull", ref)
	runs(ref)
	d.OK("tag", ref, elsewhere)
	d.OK("push", elsewhere)
	if !other.has(layer) || !other.has(m) {
		t.Error("not pushed as it is")
	}
	file := filepath.Join(t.TempDir(), "app.tar")
	d.OK("save", "-o", file, ref)
	d.OK("rmi", ref, elsewhere)
	d.OK("load", "-i", file)
	if id := d.OK("image", "inspect", "-f", "{{.Id}}", ref); id != m.Digest.String() {
		t.Errorf("loaded as %s, was %s", id, m.Digest)
	}
	runs(ref)
}

// TestForeignLayers: fetched from where the manifest says, without the registry's credentials, and pushed like others.
func TestForeignLayers(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	h, elsewhere, target := newHub(d), newHub(d), newHub(d)
	for name, mediaType := range map[string]string{
		"oci":    "application/vnd.oci.image.layer.nondistributable.v1.tar",
		"docker": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
	} {
		t.Run(name, func(t *testing.T) {
			body := tarOf(t, randomBytes(2*mib))
			layer := elsewhere.put(mediaType, body)
			var n atomic.Int32
			elsewhere.behave(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("Authorization") != "" {
					t.Error("credentials were sent elsewhere")
				}
				if r.URL.Path != "/layers/"+name {
					return false
				}
				w.Header().Set("ETag", `"x"`)
				if n.Add(1) == 1 {
					w = cut(w, mib)
				}
				elsewhere.blob(w, r, layer.Digest)
				return true
			})
			layer.URLs = []string{"ftp://127.0.0.1/x", elsewhere.server.URL + "/none", elsewhere.server.URL + "/layers/" + name}
			h.image(name, "1", "amd64", []ocispec.Descriptor{layer}, []digest.Digest{digest.FromBytes(body)})
			h.behave(basic)
			defer h.behave(nil)
			auth := map[string]string{"X-Registry-Auth": header(t, map[string]string{"username": "jane", "password": "secret"})}
			if out := post(d, "/images/create?fromImage="+url.QueryEscape(h.host+"/"+name+":1"), nil, auth); !strings.Contains(out, "Downloaded newer image") {
				t.Fatal(out)
			}
			got := elsewhere.requests(http.MethodGet, "/layers/"+name)
			if len(got) != 2 || !strings.HasPrefix(got[1].header.Get("Range"), "bytes=") {
				t.Errorf("%d requests, not gone on with", len(got))
			}
			d.OK("tag", h.host+"/"+name+":1", target.host+"/"+name+":1")
			d.OK("push", target.host+"/"+name+":1")
			if !target.has(layer) {
				t.Error("not pushed")
			}
		})
	}
	// One that is nowhere.
	lost := ocispec.Descriptor{MediaType: "application/vnd.oci.image.layer.nondistributable.v1.tar", Digest: digest.FromString("lost"), Size: 4, URLs: []string{elsewhere.server.URL + "/none"}}
	h.image("lost", "1", "amd64", []ocispec.Descriptor{lost}, []digest.Digest{lost.Digest})
	d.Fails("", "pull", h.host+"/lost:1")
}

// manifestsOf are the variants that list and inspect show with manifests=1: platform or kind, and whether all is here.
func manifestsOf(t *testing.T, d *harness.Daemon, path string) []string {
	t.Helper()
	type summary struct {
		Manifests []struct {
			Kind      string
			Available bool
			ImageData *struct{ Platform ocispec.Platform }
		}
	}
	resp, err := d.Client().Get("http://d" + path)
	must(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	var all []summary
	if bytes.HasPrefix(b, []byte("[")) {
		must(t, json.Unmarshal(b, &all))
	} else {
		all = make([]summary, 1)
		must(t, json.Unmarshal(b, &all[0]))
	}
	out := []string{}
	for _, s := range all {
		for _, m := range s.Manifests {
			text := m.Kind
			if m.ImageData != nil {
				text = m.ImageData.Platform.Architecture
			}
			if m.Available {
				text += " here"
			}
			out = append(out, text)
		}
	}
	return out
}

// multi is an image for several platforms with an attestation about the first.
func (h *hub) multi(repo, tag string, archs ...string) (ocispec.Descriptor, map[string]ocispec.Descriptor) {
	layers := map[string]ocispec.Descriptor{}
	var list []ocispec.Descriptor
	for _, arch := range archs {
		l, diff := h.layer(5000)
		m := h.image(repo, arch, arch, []ocispec.Descriptor{l}, []digest.Digest{diff})
		m.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		list, layers[arch] = append(list, m), l
	}
	statement := h.put("application/vnd.in-toto+json", []byte(`{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://slsa.dev/provenance/v0.2","predicate":{}}`))
	statement.Annotations = map[string]string{"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"}
	about := h.image(repo, "attestation", "unknown", []ocispec.Descriptor{statement}, nil)
	about.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	about.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": list[0].Digest.String()}
	index := h.put(ocispec.MediaTypeImageIndex, encode(h.t, map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex, "manifests": append(list, about),
	}))
	h.name(repo, tag, index)
	return index, layers
}

// layout is an OCI layout of an image with all that it refers to, as an archive.
func (h *hub) layout(name string, top ocispec.Descriptor) []byte {
	top.Annotations = map[string]string{ocispec.AnnotationRefName: name, "io.containerd.image.name": name}
	files := map[string][]byte{
		"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`),
		"index.json": encode(h.t, map[string]any{"schemaVersion": 2, "manifests": []any{top}}),
	}
	h.mu.Lock()
	for d, b := range h.blobs {
		files["blobs/sha256/"+d.Encoded()] = b
	}
	h.mu.Unlock()
	return archive(h.t, files)
}

func platformQuery(t *testing.T, archs ...string) string {
	t.Helper()
	q := url.Values{}
	for _, a := range archs {
		q.Add("platform", string(encode(t, ocispec.Platform{OS: "linux", Architecture: a})))
	}
	return q.Encode()
}

// TestVariants: platforms and attestations in lists, archives and registries.
func TestVariants(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	h := newHub(d)
	index, layers := h.multi("app", "1", "amd64", "arm64", "s390x")
	here := func(arch string) bool {
		_, err := os.Stat(filepath.Join(d.DataRoot(), "content", "blobs", "sha256", layers[arch].Digest.Encoded()))
		return err == nil
	}
	shows := func(t *testing.T, ref string, want ...string) {
		t.Helper()
		for _, path := range []string{"/images/json?manifests=1", "/images/" + ref + "/json?manifests=1"} {
			if got := manifestsOf(t, d, path); !slices.Equal(got, want) {
				t.Errorf("%s shows %q, want %q", path, got, want)
			}
		}
		for _, path := range []string{"/images/json", "/images/" + ref + "/json"} {
			if got := manifestsOf(t, d, path); len(got) != 0 {
				t.Errorf("%s shows %q", path, got)
			}
		}
		if got := strings.Fields(d.OK("images", "-q", "--no-trunc")); !slices.Equal(got, []string{index.Digest.String()}) {
			t.Errorf("the list has %q", got)
		}
	}
	file := filepath.Join(t.TempDir(), "app.tar")
	must(t, os.WriteFile(file, h.layout("registry.example/app:1", index), 0o600))

	t.Run("pulled", func(t *testing.T) {
		ref := h.host + "/app:1"
		d.OK("pull", ref)
		shows(t, ref, "amd64 here", "arm64", "s390x", "attestation")
		d.OK("pull", "--platform", "linux/arm64", ref)
		shows(t, ref, "amd64 here", "arm64 here", "s390x", "attestation")
		d.OK("rmi", ref)
	})
	t.Run("loaded whole", func(t *testing.T) {
		const ref = "registry.example/app:1"
		d.OK("load", "-i", file)
		shows(t, ref, "amd64 here", "arm64 here", "s390x here", "attestation here")
		resp, err := d.Client().Get("http://d/images/" + ref + "/attestations")
		must(t, err)
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(b), "https://slsa.dev/provenance/v0.2") {
			t.Errorf("%s %v", b, err)
		}
		// What is saved of it is what was asked for.
		one := filepath.Join(t.TempDir(), "one.tar")
		d.OK("save", "--platform", "linux/arm64", "-o", one, ref)
		d.Fails("does not provide the specified platform (linux/riscv64)", "save", "--platform", "linux/riscv64", "-o", one+"x", ref)
		emptied := func() { // what nobody holds any more goes a moment later
			d.OK("rmi", ref)
			harness.Eventually(t, patience, "the content is removed", func() bool { return !here("amd64") && !here("arm64") && !here("s390x") })
		}
		two := get(t, d, "/images/"+ref+"/get?"+platformQuery(t, "amd64", "s390x"))
		emptied()
		d.OK("load", "-i", one)
		if got := manifestsOf(t, d, "/images/"+ref+"/json?manifests=1"); !slices.Equal(got, []string{"arm64 here"}) {
			t.Errorf("one platform saved: %q", got)
		}
		emptied()
		if out := post(d, "/images/load", bytes.NewReader(two), nil); !strings.Contains(out, "Loaded image: "+ref) {
			t.Error(out)
		}
		shows(t, ref, "amd64 here", "arm64", "s390x here", "attestation")
		emptied()
	})
	t.Run("loaded in part", func(t *testing.T) {
		const ref = "registry.example/app:1"
		d.Fails("image registry.example/app:1 was loaded, but doesn't provide the requested platform (linux/riscv64)", "load", "--platform", "linux/riscv64", "-i", file)
		d.OK("load", "--platform", "linux/arm64", "-i", file)
		shows(t, ref, "amd64", "arm64 here", "s390x", "attestation")
		if here("amd64") || here("s390x") || !here("arm64") {
			t.Error("more is kept than was asked for, or less")
		}
		b, err := os.ReadFile(file)
		must(t, err)
		if out := post(d, "/images/load?"+platformQuery(t, "amd64", "s390x"), bytes.NewReader(b), nil); !strings.Contains(out, "Loaded image: "+ref) {
			t.Error(out)
		}
		shows(t, ref, "amd64 here", "arm64 here", "s390x here", "attestation here")
		out := post(d, "/images/load?"+platformQuery(t, "amd64", "riscv64"), bytes.NewReader(b), nil)
		if !strings.Contains(out, "doesn't provide the requested platform (linux/riscv64)") {
			t.Error(out)
		}
		if out := post(d, "/images/load?platform=linux", nil, nil); !strings.Contains(out, "failed to parse platform") {
			t.Error(out)
		}
		d.OK("rmi", ref)
	})
}

func get(t *testing.T, d *harness.Daemon, path string) []byte {
	t.Helper()
	resp, err := d.Client().Get("http://d" + path)
	must(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s", path, resp.Status, b)
	}
	return b
}
