package registryclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

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

// maxResumes bounds how often one blob's download is resumed without progress.
const maxResumes = 5

// Blob opens a blob. Interrupted downloads are resumed where they stopped; that the bytes are the right ones is for
// the caller to check.
func (r *Repository) Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	b := &blobReader{repo: r, ctx: ctx, desc: d}
	if err := b.open(); err != nil {
		return nil, err
	}
	return b, nil
}

type blobReader struct {
	repo   *Repository
	ctx    context.Context //nolint:containedctx // that of the download, as in http.Request
	desc   ocispec.Descriptor
	offset int64
	body   io.ReadCloser
	fails  int
}

func (b *blobReader) open() error {
	c := call{method: http.MethodGet, address: b.repo.path("blobs", b.desc.Digest.String()), header: http.Header{}}
	// No transparent compression: the bytes are what the digest is of.
	c.header.Set("Accept-Encoding", "identity")
	if b.offset > 0 {
		c.header.Set("Range", "bytes="+strconv.FormatInt(b.offset, 10)+"-")
	}
	resp, err := b.repo.do(b.ctx, c, http.StatusOK, http.StatusPartialContent)
	if err != nil && len(b.desc.URLs) > 0 && b.offset == 0 {
		resp, err = b.foreign()
	}
	if err != nil {
		return err
	}
	if b.offset > 0 && resp.StatusCode == http.StatusOK { // ranges are not supported: skip what we have
		if _, err := io.CopyN(io.Discard, resp.Body, b.offset); err != nil {
			drain(resp)
			return fmt.Errorf("resume blob %s: %w", b.desc.Digest, err)
		}
	}
	b.body = resp.Body
	return nil
}

// foreign fetches a layer from where its manifest says it is, without credentials.
func (b *blobReader) foreign() (*http.Response, error) {
	var last error
	for _, address := range b.desc.URLs {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" {
			continue
		}
		req, err := b.repo.request(b.ctx, http.MethodGet, address, nil)
		if err != nil {
			return nil, err
		}
		resp, err := b.repo.http.Do(req)
		if err == nil && resp.StatusCode == http.StatusOK {
			return resp, nil
		}
		if err == nil {
			err = readError(call{method: http.MethodGet, address: address}, resp)
			drain(resp)
		}
		last = err
	}
	if last == nil {
		last = fault.NotFound("blob %s: no usable URL", b.desc.Digest)
	}
	return nil, last
}

// Read implements io.Reader.
func (b *blobReader) Read(p []byte) (int, error) {
	for {
		n, err := b.body.Read(p)
		b.offset += int64(n)
		if n > 0 {
			b.fails = 0
		}
		short := errors.Is(err, io.EOF) && b.desc.Size > 0 && b.offset < b.desc.Size
		if err == nil || errors.Is(err, io.EOF) && !short {
			return n, err
		}
		if n > 0 {
			return n, nil // the error comes again, or the download resumes
		}
		if b.fails++; b.fails > maxResumes || b.ctx.Err() != nil {
			if short {
				err = io.ErrUnexpectedEOF
			}
			return 0, fmt.Errorf("download blob %s: %w", b.desc.Digest, err)
		}
		if err := b.resume(); err != nil {
			return 0, err
		}
	}
}

func (b *blobReader) resume() error {
	_ = b.body.Close() // broken
	t := time.NewTimer(time.Duration(b.fails) * 200 * time.Millisecond)
	defer t.Stop()
	select {
	case <-b.ctx.Done():
		return b.ctx.Err()
	case <-t.C:
		return b.open()
	}
}

// Close implements io.Closer.
func (b *blobReader) Close() error { return b.body.Close() }
