// Package manifest reads the manifests that a registry stores: OCI image manifest and index, docker schema 2 manifest and
// list, and the OCI and ORAS artifact manifests. It is strict where two readers could understand a document differently
// (duplicate keys, a body that is both manifest and index, a media type that contradicts the header) and keeps nothing
// but what the registry needs. Pure; fuzzed.
//
//	doc, err := manifest.Parse("application/vnd.oci.image.manifest.v1+json", body)
package manifest

import (
	"encoding/json"
	"fmt"
	"mime"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/distribution"
)

// Media types beside those of the OCI image specification.
const (
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	// OCIArtifact was in the 1.1 release candidates of the image specification.
	OCIArtifact = "application/vnd.oci.artifact.manifest.v1+json"
	// ORASArtifact is the ORAS artifacts specification's.
	ORASArtifact = "application/vnd.cncf.oras.artifact.manifest.v1+json"
)

// Document is what a manifest says.
type Document struct {
	MediaType string
	// Blobs must be in the repository: an image's config first. OptionalBlobs are layers that live elsewhere (foreign, nondistributable, urls).
	Blobs, OptionalBlobs []digest.Digest
	// Children are an index's entries; they may be absent (sparse index).
	Children []ocispec.Descriptor
	Subject  digest.Digest
	// ArtifactType as the referrers API shows it: the manifest's, else an image manifest's config media type.
	ArtifactType string
	Annotations  map[string]string
}

// IsImage says whether a media type is that of an image manifest, with a config and layers.
func IsImage(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == DockerManifest
}

// IsIndex says whether a media type is that of a list of manifests.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == DockerList
}

// Parse reads a manifest of the given Content-Type (parameters are ignored; empty means: as the body says). Errors are
// MANIFEST_INVALID, of class ErrMediaType when the type is none that is stored here.
func Parse(contentType string, body []byte) (Document, error) {
	o, err := parseObject(body)
	if err != nil {
		return Document{}, distribution.ManifestInvalid("%v", err)
	}
	mediaType, err := o.mediaType(contentType)
	if err != nil {
		return Document{}, err
	}
	doc := Document{MediaType: mediaType}
	switch mediaType {
	case ocispec.MediaTypeImageManifest, DockerManifest:
		err = doc.image(o)
	case ocispec.MediaTypeImageIndex, DockerList:
		err = doc.index(o)
	case OCIArtifact, ORASArtifact:
		err = doc.artifact(o)
	default:
		return Document{}, &distribution.Error{Code: distribution.CodeManifestInvalid, Class: distribution.ErrMediaType,
			Message: "manifests of this media type are not stored", Detail: map[string]string{"mediaType": mediaType}}
	}
	if err == nil {
		err = doc.common(o)
	}
	if err != nil {
		return Document{}, distribution.ManifestInvalid("%v", err)
	}
	return doc, nil
}

// mediaType settles header and body.
func (o object) mediaType(contentType string) (string, error) {
	var inside string
	if err := o.get("mediaType", &inside); err != nil {
		return "", distribution.ManifestInvalid("%v", err)
	}
	if contentType == "" {
		if inside != "" {
			return inside, nil
		}
		return o.guess(), nil
	}
	outside, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		outside, _, _ = strings.Cut(contentType, ";")
		outside = strings.TrimSpace(outside)
	}
	if inside != "" && inside != outside {
		return "", distribution.ManifestInvalid("the manifest's mediaType %q is not the Content-Type %q", inside, outside)
	}
	return outside, nil
}

// guess is for clients that send no type at all; OCI documents need none inside.
func (o object) guess() string {
	if o.has("manifests") {
		return ocispec.MediaTypeImageIndex
	}
	return ocispec.MediaTypeImageManifest
}

func (doc *Document) image(o object) error {
	if err := o.version2(); err != nil {
		return err
	}
	if o.has("manifests") {
		return fmt.Errorf("an image manifest has no manifests")
	}
	config, err := o.descriptor("config")
	if err != nil {
		return err
	}
	if config == nil {
		return fmt.Errorf("config is missing")
	}
	doc.ArtifactType = config.MediaType
	doc.Blobs = append(doc.Blobs, config.Digest)
	return doc.layers(o, "layers")
}

func (doc *Document) index(o object) error {
	if err := o.version2(); err != nil {
		return err
	}
	if o.has("layers") || o.has("config") || o.has("fsLayers") {
		return fmt.Errorf("an index has no config and no layers")
	}
	if _, ok := o["manifests"]; !ok { // null is an empty list, as some clients write it
		return fmt.Errorf("manifests is missing")
	}
	var err error
	doc.Children, err = o.descriptors("manifests")
	return err
}

func (doc *Document) artifact(o object) error {
	if o.has("manifests") || o.has("layers") || o.has("config") {
		return fmt.Errorf("an artifact manifest has blobs only")
	}
	return doc.layers(o, "blobs")
}

// layers sorts a list of descriptors into what must be here and what may be elsewhere.
func (doc *Document) layers(o object, key string) error {
	list, err := o.descriptors(key)
	if err != nil {
		return err
	}
	for _, d := range list {
		if len(d.URLs) > 0 || foreign(d.MediaType) {
			doc.OptionalBlobs = append(doc.OptionalBlobs, d.Digest)
			continue
		}
		doc.Blobs = append(doc.Blobs, d.Digest)
	}
	return nil
}

// foreign layers are pushed by nobody: windows base layers and the like.
func foreign(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs.foreign.diff.") ||
		strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.nondistributable.")
}

// common reads what all kinds share.
func (doc *Document) common(o object) error {
	subject, err := o.descriptor("subject")
	if err != nil {
		return err
	}
	if subject != nil {
		doc.Subject = subject.Digest
	}
	var artifactType string
	if err := o.get("artifactType", &artifactType); err != nil {
		return err
	}
	if artifactType != "" {
		doc.ArtifactType = artifactType
	}
	return o.get("annotations", &doc.Annotations)
}

// version2 demands "schemaVersion": 2.
func (o object) version2() error {
	var v int
	if err := o.get("schemaVersion", &v); err != nil {
		return err
	}
	if v != 2 {
		return fmt.Errorf("schemaVersion is not 2")
	}
	return nil
}

// descriptor reads one; nil when it is absent or null.
func (o object) descriptor(key string) (*ocispec.Descriptor, error) {
	if !o.has(key) {
		return nil, nil
	}
	d, err := parseDescriptor(o[key])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return &d, nil
}

func (o object) descriptors(key string) ([]ocispec.Descriptor, error) {
	var raw []json.RawMessage
	if err := o.get(key, &raw); err != nil {
		return nil, err
	}
	list := make([]ocispec.Descriptor, len(raw))
	for i, r := range raw {
		var err error
		if list[i], err = parseDescriptor(r); err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", key, i, err)
		}
	}
	return list, nil
}

func parseDescriptor(raw json.RawMessage) (d ocispec.Descriptor, err error) {
	var o object
	if err := json.Unmarshal(raw, &o); err != nil || o == nil {
		return d, fmt.Errorf("not a descriptor")
	}
	d.Size = -1
	var name string
	fields := []struct {
		key  string
		dest any
	}{{"mediaType", &d.MediaType}, {"digest", &name}, {"size", &d.Size}, {"urls", &d.URLs}, {"platform", &d.Platform},
		{"artifactType", &d.ArtifactType}, {"annotations", &d.Annotations}}
	for _, f := range fields {
		if err := o.get(f.key, f.dest); err != nil {
			return d, err
		}
	}
	if d.MediaType == "" {
		return d, fmt.Errorf("mediaType is missing")
	}
	if d.Size < 0 {
		return d, fmt.Errorf("size is missing or negative")
	}
	if d.Digest, err = distribution.ParseDigest(name); err != nil {
		return d, fmt.Errorf("invalid digest %.200q", name)
	}
	return d, nil
}
