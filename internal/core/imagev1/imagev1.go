// Package imagev1 reads and writes images as the registry API v1 moves them: a JSON document and a tar per layer, each
// with an identifier of 64 hexadecimal digits and the identifier of its parent. It maps them to docker's schema 2
// configurations and back, and computes the checksums of that time. Pure; every parser here is fuzzed. The mapping and its
// reasons are in docs/decisions/0010-registry-v1-images.md.
//
//	img, err := imagev1.Parse(body)
//	config, err := imagev1.Config([]imagev1.Layer{{Image: base, DiffID: d0}, {Image: img, DiffID: d1}})
//	images, err := imagev1.Images(config)
package imagev1

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/opencontainers/go-digest"

	"longshore/internal/core/fault"
	"longshore/internal/core/manifest"
)

// ID names an image: 64 lower-case hexadecimal digits, chosen by whoever made it.
type ID string

// ParseID accepts exactly 64 lower-case hexadecimal digits.
func ParseID(s string) (ID, error) {
	if len(s) != 64 || strings.Trim(s, "0123456789abcdef") != "" {
		return "", fault.Invalid("Invalid image ID")
	}
	return ID(s), nil
}

// MaxJSON bounds an image's document in bytes. Those of docker have a few kilobytes.
const MaxJSON = 1 << 20

// Image is a document with the two names in it. It is not changed after it was made.
type Image struct {
	ID ID
	// Parent is empty for a base image.
	Parent ID
	// JSON is the document, byte by byte as it came: checksums count it.
	JSON   []byte
	fields map[string]json.RawMessage
}

// Parse reads a document. Its errors tell what the old registry told.
func Parse(raw []byte) (Image, error) {
	if len(raw) > MaxJSON {
		return Image{}, fault.Invalid("Invalid JSON: more than %d bytes", MaxJSON)
	}
	fields, err := manifest.Object(raw)
	if err != nil {
		return Image{}, fault.Invalid("Invalid JSON")
	}
	img := Image{JSON: raw, fields: fields}
	var id, parent string
	switch {
	case !img.has("id"):
		return Image{}, fault.Invalid("Missing key `id' in JSON")
	case json.Unmarshal(fields["id"], &id) != nil:
		return Image{}, fault.Invalid("JSON data contains invalid id")
	case img.has("parent") && json.Unmarshal(fields["parent"], &parent) != nil:
		return Image{}, fault.Invalid("JSON data contains invalid parent")
	}
	if img.ID, err = ParseID(id); err != nil {
		return Image{}, fault.Invalid("JSON data contains invalid id")
	}
	if parent == "" {
		return img, nil
	}
	if img.Parent, err = ParseID(parent); err != nil {
		return Image{}, fault.Invalid("JSON data contains invalid parent")
	}
	return img, nil
}

// has says whether a key is there with a value that is not null.
func (i *Image) has(key string) bool {
	v, ok := i.fields[key]
	return ok && !bytes.Equal(bytes.TrimSpace(v), []byte("null"))
}

// text is a member that should be a string; "" when it is something else.
func (i *Image) text(key string) string {
	var s string
	if json.Unmarshal(i.fields[key], &s) != nil {
		return ""
	}
	return s
}

// EmptyDiffID is the digest of a tar without entries, 1024 zeros: the layer of an image that changed no file.
const EmptyDiffID = digest.Digest("sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef")

// EmptyLayer is that tar.
func EmptyLayer() []byte { return make([]byte, 1024) }

// Facts are what the registry's summary of a repository tells of its newest image.
type Facts struct {
	DockerVersion, Architecture, OS, Kernel string
}

// Facts reads them from an image's document.
func (i *Image) Facts() Facts {
	return Facts{
		DockerVersion: i.text("docker_version"), Architecture: i.text("architecture"), OS: i.text("os"), Kernel: i.text("kernel"),
	}
}
