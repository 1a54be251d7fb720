package registryclient

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
	"longshore/internal/core/handover"
)

// manifestTypes are the manifests that are understood.
var manifestTypes = []string{
	ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest,
	"application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json",
}

func (r *Repository) path(kind, name string) string {
	return r.url("/v2/" + r.Path + "/" + kind + "/" + name)
}

// Manifest fetches a manifest or index by tag or digest. Its digest is that of its bytes; asked for by digest, they
// must agree.
func (r *Repository) Manifest(ctx context.Context, tagOrDigest string) (ocispec.Descriptor, []byte, error) {
	c := call{method: http.MethodGet, address: r.path("manifests", tagOrDigest), header: http.Header{"Accept": manifestTypes}}
	resp, err := r.do(ctx, c, http.StatusOK)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	defer drain(resp)
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return ocispec.Descriptor{}, nil, fmt.Errorf("read manifest: %w", err)
	}
	if len(body) > maxDocument {
		return ocispec.Descriptor{}, nil, fault.Invalid("manifest is larger than %d bytes", maxDocument)
	}
	d := ocispec.Descriptor{MediaType: mediaType(resp, body), Size: int64(len(body)), Digest: digest.FromBytes(body)}
	if want, err := digest.Parse(tagOrDigest); err == nil {
		d.Digest = want.Algorithm().FromBytes(body)
		if d.Digest != want {
			return d, nil, fault.Internal("manifest verification failed for digest %s", want)
		}
	}
	if strings.Contains(d.MediaType, "docker.distribution.manifest.v1+") {
		return d, nil, fault.Invalid("Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. "+
			"Suggest the author of %s to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2. "+
			"More information at https://docs.docker.com/go/deprecated-image-specs/", r.Host()+"/"+r.Path+":"+tagOrDigest)
	}
	return d, body, nil
}

// mediaType trusts the document before the header, as the specification asks.
func mediaType(resp *http.Response, body []byte) string {
	var doc struct {
		MediaType     string          `json:"mediaType"`
		SchemaVersion int             `json:"schemaVersion"`
		Manifests     json.RawMessage `json:"manifests"`
		Config        json.RawMessage `json:"config"`
	}
	header, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		header = ""
	}
	if json.Unmarshal(body, &doc) != nil {
		return header
	}
	switch {
	case doc.SchemaVersion == 1:
		return "application/vnd.docker.distribution.manifest.v1+json"
	case doc.MediaType != "":
		return doc.MediaType
	case doc.Manifests != nil && doc.Config == nil && !strings.Contains(header, "manifest.list"):
		return ocispec.MediaTypeImageIndex
	case doc.Config != nil && !strings.Contains(header, "docker.distribution.manifest.v2"):
		return ocispec.MediaTypeImageManifest
	}
	return header
}

// Stat finds a manifest's descriptor without its bytes where the registry can; see Manifest.
func (r *Repository) Stat(ctx context.Context, tagOrDigest string) (ocispec.Descriptor, error) {
	c := call{method: http.MethodHead, address: r.path("manifests", tagOrDigest), header: http.Header{"Accept": manifestTypes}}
	resp, err := r.do(ctx, c, http.StatusOK)
	if err == nil {
		defer drain(resp)
		d, derr := digest.Parse(resp.Header.Get("Docker-Content-Digest"))
		media, _, merr := mime.ParseMediaType(resp.Header.Get("Content-Type"))
		if derr == nil && merr == nil && resp.ContentLength > 0 {
			return ocispec.Descriptor{MediaType: media, Digest: d, Size: resp.ContentLength}, nil
		}
	}
	d, _, err := r.Manifest(ctx, tagOrDigest)
	return d, err
}

// HasBlob asks for a blob's presence.
func (r *Repository) HasBlob(ctx context.Context, d digest.Digest) (bool, error) {
	resp, err := r.do(ctx, call{method: http.MethodHead, address: r.path("blobs", d.String())}, http.StatusOK, http.StatusNotFound)
	if err != nil {
		return false, err
	}
	defer drain(resp)
	return resp.StatusCode == http.StatusOK, nil
}

// Request asks a registry in this process to deliver a blob's file to the ticket's desk; see core/handover. Any other
// registry takes it for the question whether the blob is there.
func (r *Repository) Request(ctx context.Context, d digest.Digest, ticket string) error {
	c := call{method: http.MethodHead, address: r.path("blobs", d.String()), header: http.Header{handover.Header: {ticket}}}
	resp, err := r.do(ctx, c, http.StatusOK)
	if err != nil {
		return err
	}
	drain(resp)
	return nil
}

// Tags lists all tags.
func (r *Repository) Tags(ctx context.Context) ([]string, error) {
	next := r.url("/v2/" + r.Path + "/tags/list")
	var out []string
	for page := 0; next != "" && page < 10000; page++ {
		resp, err := r.do(ctx, call{method: http.MethodGet, address: next}, http.StatusOK)
		if err != nil {
			return nil, err
		}
		var doc struct {
			Tags []string `json:"tags"`
		}
		err = json.NewDecoder(io.LimitReader(resp.Body, maxDocument)).Decode(&doc)
		link := resp.Header.Get("Link")
		drain(resp)
		if err != nil {
			return nil, fmt.Errorf("read tags: %w", err)
		}
		out = append(out, doc.Tags...)
		if next, err = nextPage(next, link); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// nextPage resolves a Link header (RFC 5988); empty when there is no further page.
func nextPage(current, link string) (string, error) {
	target, params, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	if !ok || !strings.Contains(params, `rel="next"`) {
		return "", nil
	}
	base, err := url.Parse(current)
	if err != nil {
		return "", fmt.Errorf("next page: %w", err)
	}
	u, err := base.Parse(target)
	if err != nil {
		return "", fmt.Errorf("next page: %w", err)
	}
	if u.Host != base.Host {
		return "", fmt.Errorf("next page is on another host: %s", u.Host)
	}
	return u.String(), nil
}
