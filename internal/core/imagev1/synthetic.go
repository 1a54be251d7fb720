package imagev1

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/manifest"
)

// ErrNoImage is a configuration of which no images can be made: an artifact's, or one that contradicts itself.
var ErrNoImage = errors.New("not the configuration of an image")

// Images makes the chain of images, base first, that an image of today is for those who know registry API v1 only: one per
// layer, the last one with the configuration. The same configuration always gives the same identifiers, and images
// that were built on the same base share those of the base. An image without layers becomes one with an empty layer.
func Images(config []byte) ([]Layer, error) {
	doc, err := manifest.Object(config)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoImage, err)
	}
	var image struct {
		RootFS  ocispec.RootFS    `json:"rootfs"`
		History []ocispec.History `json:"history"`
	}
	if err := json.Unmarshal(config, &image); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoImage, err)
	}
	if image.RootFS.Type != "layers" {
		return nil, fmt.Errorf("%w: its rootfs has the type %.100q", ErrNoImage, image.RootFS.Type)
	}
	layers := make([]Layer, len(image.RootFS.DiffIDs))
	for i, d := range image.RootFS.DiffIDs {
		if d.Validate() != nil {
			return nil, fmt.Errorf("%w: %.100q is no digest", ErrNoImage, d)
		}
		layers[i].DiffID = d
	}
	if len(layers) == 0 {
		layers = []Layer{{DiffID: EmptyDiffID, Empty: true}}
	}
	lines := linesOf(image.History, len(layers))
	var parent ID
	chain := digest.Digest("")
	for i := range layers {
		chain = chainID(chain, layers[i].DiffID)
		fields := map[string]json.RawMessage{}
		if i == len(layers)-1 {
			fields = doc
		}
		describe(fields, lines[i], doc)
		layers[i].Image = name(fields, chain, parent)
		parent = layers[i].ID
	}
	return layers, nil
}

// linesOf gives each layer its line of history; none when the history does not fit the layers.
func linesOf(history []ocispec.History, n int) []*ocispec.History {
	lines := make([]*ocispec.History, n)
	found := 0
	for i := range history {
		if history[i].EmptyLayer {
			continue
		}
		if found < n {
			lines[found] = &history[i]
		}
		found++
	}
	if found != n {
		return make([]*ocispec.History, n)
	}
	return lines
}

// describe writes into an image's document what the history and the platform say.
func describe(fields map[string]json.RawMessage, line *ocispec.History, doc map[string]json.RawMessage) {
	for _, k := range ownFields {
		delete(fields, k)
	}
	for _, k := range []string{"architecture", "os"} {
		if v, ok := doc[k]; ok {
			fields[k] = v
		}
	}
	if line == nil {
		line = &ocispec.History{}
	}
	set := func(key string, v any, there bool) {
		if _, ok := fields[key]; !ok && there {
			fields[key] = encode(v)
		}
	}
	set("created", line.Created, line.Created != nil)
	set("author", line.Author, line.Author != "")
	set("comment", line.Comment, line.Comment != "")
	cmd := []string{}
	if line.CreatedBy != "" {
		cmd = append(cmd, line.CreatedBy)
	}
	set("container_config", map[string]any{"Cmd": cmd}, true)
}

// name gives an image the identifier that its content, its document and its parent determine.
func name(fields map[string]json.RawMessage, chain digest.Digest, parent ID) Image {
	if parent != "" {
		fields["parent"] = quote(string(parent))
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n", chain)
	h.Write(encode(fields))
	img := Image{ID: ID(hex.EncodeToString(h.Sum(nil))), Parent: parent, fields: fields}
	fields["id"] = quote(string(img.ID))
	img.JSON = encode(fields)
	return img
}

// chainID is the OCI image specification's name of a layer on top of others.
func chainID(below, diff digest.Digest) digest.Digest {
	if below == "" {
		return diff
	}
	return digest.FromString(below.String() + " " + diff.String())
}
