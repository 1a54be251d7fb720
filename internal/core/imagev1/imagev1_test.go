package imagev1

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	idA = "088b4505aa3adc3d35e79c031fa126b403200f02f51920fbd9b7c503e87c7a2c"
	idB = "aeee6396d62273d180a49c96c62e45438d87c7da4a5cf5d2be6bee4e21bc226f"
)

// example is the documents' own.
const example = `{
	"id": "` + idA + `", "parent": "` + idB + `",
	"created": "2013-04-30T17:46:10.843673+03:00",
	"container": "8305672a76cc5e3d168f97221106ced35a76ec7ddbb03209b0f0d96bf74f6ef7",
	"container_config": {
		"Hostname": "host-test", "User": "", "Memory": 0, "MemorySwap": 0, "AttachStdin": false, "AttachStdout": false,
		"AttachStderr": false, "PortSpecs": null, "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": null,
		"Cmd": ["/bin/bash", "-c", "apt-get -q -yy -f install libevent-dev"], "Dns": null, "Image": "imagename/blah",
		"Volumes": {}, "VolumesFrom": ""
	},
	"docker_version": "0.1.7"
}`

func TestParse(t *testing.T) {
	img, err := Parse([]byte(example))
	if err != nil || img.ID != idA || img.Parent != idB || string(img.JSON) != example {
		t.Fatal(img, err)
	}
	if f := img.Facts(); f.DockerVersion != "0.1.7" || f.OS != "" {
		t.Fatal(f)
	}
	for text, want := range map[string]string{
		"": "Invalid JSON", "[]": "Invalid JSON", "{}": "Missing key `id' in JSON", `{"id": null}`: "Missing key `id' in JSON",
		`{"id": 7}`: "JSON data contains invalid id", `{"id": "x"}`: "JSON data contains invalid id",
		`{"id": "` + idA + `", "parent": "../x"}`: "JSON data contains invalid parent", `{"ID": "` + idA + `"}`: "Missing key `id' in JSON",
		`{"id": "` + idA + `", "id": "` + idB + `"}`: "Invalid JSON", `{"id": "` + strings.ToUpper(idA) + `"}`: "JSON data contains invalid id",
	} {
		if _, err := Parse([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{`{"id": "` + idA + `", "parent": ""}`, `{"id": "` + idA + `", "parent": null}`} {
		if img, err := Parse([]byte(text)); err != nil || img.Parent != "" {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func layer(t *testing.T, text string, diff string, empty bool) Layer {
	t.Helper()
	img, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return Layer{img, digest.FromString(diff), empty}
}

func TestConfig(t *testing.T) {
	chain := []Layer{
		layer(t, `{"id": "`+idB+`", "comment": "imported", "author": "me", "created": "0001-01-01T00:00:00Z"}`, "base", false),
		layer(t, strings.Replace(example, idA, strings.Repeat("1", 64), 1), "none", true),
		layer(t, `{"id": "`+idA+`", "parent": "`+strings.Repeat("1", 64)+`", "Size": 12, "layer_id": "x", "unknown": {"kept": [1]},
			"config": {"Cmd": ["run"], "PortSpecs": ["80", "8080:81", "53/udp", "127.0.0.1:9:10/tcp", "x", "0", "70000", "1/sctp"],
				"ExposedPorts": {"7/tcp": {}}, "Env": null, "Entrypoint": null, "Memory": 5}}`, "top", false),
	}
	raw, err := Config(chain)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		ocispec.Image
		Unknown                     struct{ Kept []int }
		ID, Parent, Size, Container any
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.ID != nil || doc.Parent != nil || doc.Size != nil || len(doc.Unknown.Kept) != 1 || doc.OS != "linux" || doc.Architecture != "amd64" {
		t.Fatalf("%s", raw)
	}
	var ports []string
	for _, p := range []string{"7/tcp", "80/tcp", "81/tcp", "53/udp", "10/tcp"} {
		if _, ok := doc.Config.ExposedPorts[p]; ok {
			ports = append(ports, p)
		}
	}
	if len(ports) != 5 || len(doc.Config.ExposedPorts) != 5 || strings.Contains(string(raw), "PortSpecs\":[") {
		t.Fatalf("%s", raw)
	}
	if d := doc.RootFS.DiffIDs; len(d) != 2 || d[0] != digest.FromString("base") || d[1] != digest.FromString("top") {
		t.Fatal(d)
	}
	h := doc.History
	if len(h) != 3 || h[0].Comment != "imported" || h[0].Author != "me" || h[0].Created != nil || !h[1].EmptyLayer ||
		h[1].CreatedBy != "/bin/bash -c apt-get -q -yy -f install libevent-dev" || h[2].EmptyLayer {
		t.Fatalf("%+v", h)
	}
	again, err := Config(chain)
	if err != nil || string(again) != string(raw) {
		t.Fatal("the same chain has another configuration")
	}
	if _, err := Config([]Layer{layer(t, `{"id": "`+idA+`", "config": {"Cmd": "no list"}}`, "x", false)}); err == nil {
		t.Fatal("a configuration that nobody can read")
	}
	if raw, err := Config([]Layer{layer(t, `{"id": "`+idA+`", "config": "none", "os": "plan9", "architecture": "arm"}`, "x", false)}); err != nil ||
		!strings.Contains(string(raw), `"os":"plan9"`) || strings.Contains(string(raw), `"config"`) {
		t.Fatalf("%s %v", raw, err)
	}
	if _, err := Config(nil); err == nil {
		t.Fatal("no images have a configuration")
	}
}

const today = `{"architecture": "arm64", "os": "linux", "created": "2024-01-02T03:04:05Z", "author": "me",
	"config": {"Cmd": ["sh"], "Env": ["A=1"]}, "rootfs": {"type": "layers", "diff_ids": ["sha256:` + idA + `", "sha256:` + idB + `"]},
	"history": [{"created": "2023-01-01T00:00:00Z", "created_by": "ADD file"}, {"created_by": "ENV A=1", "empty_layer": true}, {"created_by": "RUN x", "comment": "c"}]}`

func TestImages(t *testing.T) {
	got, err := Images([]byte(today))
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	for n, l := range got {
		img, err := Parse(l.JSON)
		if err != nil || img.ID != l.ID || img.Parent != l.Parent {
			t.Fatalf("%d: %v %s", n, err, l.JSON)
		}
	}
	if got[0].Parent != "" || got[1].Parent != got[0].ID || got[0].DiffID != "sha256:"+idA {
		t.Fatal("no chain")
	}
	base, top := string(got[0].JSON), string(got[1].JSON)
	if !strings.Contains(base, `"container_config":{"Cmd":["ADD file"]}`) || !strings.Contains(base, `"created":"2023-01-01T00:00:00Z"`) ||
		strings.Contains(base, `"config":{`) || !strings.Contains(top, `"comment":"c"`) || !strings.Contains(top, `"created":"2024-01-02T03:04:05Z"`) {
		t.Fatal(base, top)
	}
	again, err := Images([]byte(today))
	if err != nil || again[1].ID != got[1].ID {
		t.Fatal("the names do not stay")
	}
	other, err := Images([]byte(strings.Replace(today, `"A=1"`, `"A=2"`, 1)))
	if err != nil || other[1].ID == got[1].ID || other[0].ID != got[0].ID {
		t.Fatal("another configuration has the same name, or the base has another")
	}
	// And back: configuration and files are the same.
	config, err := Config(got)
	if err != nil {
		t.Fatal(err)
	}
	var a, b ocispec.Image
	if err := errors.Join(json.Unmarshal([]byte(today), &a), json.Unmarshal(config, &b)); err != nil {
		t.Fatal(err)
	}
	if string(encode(a.Config)) != string(encode(b.Config)) || string(encode(a.RootFS)) != string(encode(b.RootFS)) ||
		a.Architecture != b.Architecture || b.History[1].CreatedBy != "RUN x" {
		t.Fatalf("%s", config)
	}
	none, err := Images([]byte(`{"rootfs": {"type": "layers"}, "config": {}}`))
	if err != nil || len(none) != 1 || !none[0].Empty {
		t.Fatal(none, err)
	}
	odd, err := Images([]byte(strings.Replace(today, `"empty_layer": true`, `"empty_layer": false`, 1)))
	if err != nil || strings.Contains(string(odd[0].JSON), "ADD file") {
		t.Fatal("a history that does not fit is told")
	}
	for _, text := range []string{
		"", "{}", "null", `{"rootfs": {"type": "x"}}`, `{"rootfs": {"type": "layers", "diff_ids": ["x"]}}`, `{"rootfs": {"type": "layers", "diff_ids": "x"}}`,
		`{"mediaType": "application/vnd.example"}`,
	} {
		if _, err := Images([]byte(text)); !errors.Is(err, ErrNoImage) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if digest.FromBytes(EmptyLayer()) != EmptyDiffID {
		t.Error("the empty layer has another digest")
	}
}

// FuzzParse: whatever can be read makes a configuration that can be read, or is refused.
func FuzzParse(f *testing.F) {
	f.Add(example)
	f.Add(`{"id": "` + idA + `", "config": {"PortSpecs": ["80:1/udp"], "ExposedPorts": null}}`)
	f.Add(`{"id": "` + idA + `", "config": {"ExposedPorts": []}, "container_config": {"Cmd": 7}}`)
	f.Fuzz(func(t *testing.T, text string) {
		img, err := Parse([]byte(text))
		if err != nil {
			return
		}
		config, err := Config([]Layer{{img, EmptyDiffID, false}, {img, EmptyDiffID, true}})
		if err != nil {
			return
		}
		layers, err := Images(config)
		if err != nil || len(layers) != 1 {
			t.Fatalf("%v: %s", err, config)
		}
		if _, err := Config(layers); err != nil {
			t.Fatalf("%v: %s", err, layers[0].JSON)
		}
	})
}

// FuzzImages: every image that is made can be read.
func FuzzImages(f *testing.F) {
	f.Add(today)
	f.Fuzz(func(t *testing.T, text string) {
		layers, err := Images([]byte(text))
		if err != nil {
			return
		}
		for _, l := range layers {
			img, err := Parse(l.JSON)
			if len(l.JSON) > MaxJSON {
				continue
			}
			if err != nil || img.ID != l.ID || img.Parent != l.Parent {
				t.Fatalf("%v: %s", err, l.JSON)
			}
		}
	})
}
