package manifest_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"longshore/internal/core/distribution"
	"longshore/internal/core/manifest"
)

const (
	oci   = "application/vnd.oci.image.manifest.v1+json"
	index = "application/vnd.oci.image.index.v1+json"
)

var (
	a = digest.FromString("a")
	b = digest.FromString("b")
)

func desc(mediaType string, d digest.Digest, more string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1%s}`, mediaType, d, more)
}

var (
	config = desc("application/vnd.oci.image.config.v1+json", a, "")
	layer  = desc("application/vnd.oci.image.layer.v1.tar+gzip", b, "")
	good   = `{"schemaVersion":2,"mediaType":"` + oci + `","config":` + config + `,"layers":[` + layer + `]}`
)

func TestParse(t *testing.T) {
	doc, err := manifest.Parse(oci+"; charset=utf-8", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if doc.MediaType != oci || !slices.Equal(doc.Blobs, []digest.Digest{a, b}) || doc.ArtifactType != "application/vnd.oci.image.config.v1+json" {
		t.Fatalf("got %+v", doc)
	}
	doc, err = manifest.Parse("", []byte(`{"schemaVersion":2,"manifests":[`+desc(oci, a, `,"platform":{"os":"linux","architecture":"amd64"}`)+`],
		"subject":`+desc(oci, b, "")+`,"artifactType":"x/y","annotations":{"k":"v"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if doc.MediaType != index || len(doc.Children) != 1 || doc.Children[0].Platform.Architecture != "amd64" || doc.Subject != b ||
		doc.ArtifactType != "x/y" || doc.Annotations["k"] != "v" {
		t.Fatalf("got %+v", doc)
	}
	doc, err = manifest.Parse(manifest.ORASArtifact, []byte(`{"mediaType":"`+manifest.ORASArtifact+`","artifactType":"sig","blobs":[`+layer+`],"subject":`+config+`}`))
	if err != nil || !slices.Equal(doc.Blobs, []digest.Digest{b}) || doc.Subject != a || doc.ArtifactType != "sig" {
		t.Fatalf("got %+v, %v", doc, err)
	}
}

// TestParseRefuses: every document here is understood differently by two readers, or by none.
func TestParseRefuses(t *testing.T) {
	cases := map[string]string{
		"empty":                "",
		"no object":            `[]`,
		"null":                 `null`,
		"two documents":        good + good,
		"trailing":             good + "x",
		"invalid UTF-8":        strings.Replace(good, "layers", "lay\xffers", 1),
		"duplicate key":        strings.Replace(good, `"layers"`, `"config":`+layer+`,"layers"`, 1),
		"duplicate, escaped":   strings.Replace(good, `"layers"`, `"conf\u0069g":`+layer+`,"layers"`, 1),
		"duplicate, deep":      strings.Replace(good, `"size":1}`, `"size":1,"annotations":{"k":"1","k":"2"}}`, 1),
		"schema 1":             `{"schemaVersion":1,"name":"x","fsLayers":[]}`,
		"no schema":            strings.Replace(good, `"schemaVersion":2,`, "", 1),
		"no config":            `{"schemaVersion":2,"layers":[]}`,
		"null config":          `{"schemaVersion":2,"config":null,"layers":[]}`,
		"wrong case":           strings.Replace(good, `"config"`, `"Config"`, 1),
		"manifest and index":   strings.Replace(good, `"layers"`, `"manifests":[],"layers"`, 1),
		"other type":           strings.Replace(good, oci, index, 1),
		"bad digest":           strings.Replace(good, a.String(), "sha256:abc", 1),
		"upper case digest":    strings.Replace(good, a.Encoded(), strings.ToUpper(a.Encoded()), 1),
		"other algorithm":      strings.Replace(good, a.String(), "md5:d41d8cd98f00b204e9800998ecf8427e", 1),
		"traversal":            strings.Replace(good, a.String(), "sha256:../../../../etc/passwd", 1),
		"negative size":        strings.Replace(good, `"size":1`, `"size":-1`, 1),
		"no size":              strings.Replace(good, `,"size":1`, ``, 1),
		"size is text":         strings.Replace(good, `"size":1`, `"size":"1"`, 1),
		"huge size":            strings.Replace(good, `"size":1`, `"size":99999999999999999999`, 1),
		"layers is object":     `{"schemaVersion":2,"config":` + config + `,"layers":{}}`,
		"layer is text":        `{"schemaVersion":2,"config":` + config + `,"layers":["x"]}`,
		"annotations no text":  strings.Replace(good, `"layers"`, `"annotations":{"a":1},"layers"`, 1),
		"subject without size": strings.Replace(good, `"layers"`, `"subject":{"mediaType":"x","digest":"`+a.String()+`"},"layers"`, 1),
		"deep":                 `{"schemaVersion":2,"x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`,
		"no media type":        strings.Replace(good, `"mediaType":"application/vnd.oci.image.config.v1+json",`, "", 1),
	}
	for name, text := range cases {
		_, err := manifest.Parse(oci, []byte(text))
		var e *distribution.Error
		if !errors.As(err, &e) || e.Code != distribution.CodeManifestInvalid {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := manifest.Parse(index, []byte(good)); err == nil {
		t.Error("an image was taken for an index")
	}
	for _, text := range []string{`{"schemaVersion":2}`, `{"schemaVersion":2,"manifests":[],"layers":[]}`, `{"schemaVersion":2,"manifests":[],"config":` + config + `}`} {
		if _, err := manifest.Parse(index, []byte(text)); err == nil {
			t.Errorf("%s was taken for an index", text)
		}
	}
	_, err := manifest.Parse("text/plain", []byte(`{"schemaVersion":2}`))
	if !errors.Is(err, distribution.ErrMediaType) {
		t.Errorf("another type: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(oci, []byte(good))
	f.Add(index, []byte(`{"schemaVersion":2,"manifests":[`+desc(oci, a, "")+`]}`))
	f.Add("", []byte(`{"schemaVersion":2,"mediaType":"`+manifest.DockerList+`","manifests":null}`))
	f.Add(manifest.OCIArtifact, []byte(`{"blobs":[`+layer+`]}`))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		doc, err := manifest.Parse(contentType, body)
		if err != nil {
			var e *distribution.Error
			if !errors.As(err, &e) {
				t.Fatalf("an error without a code: %v", err)
			}
			return
		}
		for _, d := range append(doc.Blobs, doc.OptionalBlobs...) {
			if d.Validate() != nil {
				t.Fatalf("accepted digest %q", d)
			}
		}
		again, err := manifest.Parse(doc.MediaType, body)
		if err != nil || again.MediaType != doc.MediaType {
			t.Fatalf("the same document, told its own type: %v", err)
		}
	})
}
