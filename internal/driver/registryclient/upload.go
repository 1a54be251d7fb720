package registryclient

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
	"longshore/internal/core/handover"
)

// AllowMounts asks for the right to read other repositories of the registry, for mounts from them. Call it before the
// first request.
func (r *Repository) AllowMounts(paths ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range paths {
		if sc := "repository:" + p + ":pull"; p != r.Path && !slices.Contains(r.extra, sc) {
			r.extra = append(r.extra, sc)
		}
	}
}

// Shortcut is how the sending of a blob's bytes may be spared.
type Shortcut struct {
	// From, when not empty, is a repository of the same registry to mount the blob from.
	From string
	// Ticket, when not empty, names the blob's file to a registry in this process; see core/handover.
	Ticket string
}

// Upload stores a blob. spared tells that the shortcut worked and nothing was sent. open opens the blob's bytes; it is
// called again when a transfer is repeated.
func (r *Repository) Upload(ctx context.Context, d ocispec.Descriptor, s Shortcut, open func() (io.ReadCloser, error)) (spared bool, err error) {
	begin := call{method: http.MethodPost, address: r.url("/v2/" + r.Path + "/blobs/uploads/")}
	want := []int{http.StatusAccepted}
	if s.From != "" && s.From != r.Path {
		begin.address += "?" + url.Values{"mount": {d.Digest.String()}, "from": {s.From}}.Encode()
		want = append(want, http.StatusCreated)
	}
	if s.Ticket != "" {
		begin.header = http.Header{handover.Header: {s.Ticket}}
		want = append(want, http.StatusCreated)
	}
	resp, err := r.do(ctx, begin, want...)
	if err != nil {
		return false, err
	}
	drain(resp)
	if resp.StatusCode == http.StatusCreated {
		return true, nil
	}
	location, err := uploadLocation(resp, d.Digest)
	if err != nil {
		return false, err
	}
	c := call{method: http.MethodPut, address: location, header: http.Header{"Content-Type": {"application/octet-stream"}}, body: open, size: d.Size}
	resp, err = r.do(ctx, c, http.StatusCreated, http.StatusNoContent)
	if err != nil {
		return false, err
	}
	drain(resp)
	return false, nil
}

// uploadLocation is where the bytes go, completed with the digest.
func uploadLocation(resp *http.Response, d digest.Digest) (string, error) {
	u, err := resp.Location()
	if err != nil {
		return "", fault.Internal("registry did not return an upload location: %w", err)
	}
	q := u.Query()
	q.Set("digest", d.String())
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// PutManifest stores a manifest under a tag or its digest, byte for byte.
func (r *Repository) PutManifest(ctx context.Context, tagOrDigest string, d ocispec.Descriptor, body []byte) error {
	c := call{
		method: http.MethodPut, address: r.path("manifests", tagOrDigest), header: http.Header{"Content-Type": {d.MediaType}},
		size: int64(len(body)), body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
	}
	resp, err := r.do(ctx, c, http.StatusCreated, http.StatusOK, http.StatusAccepted)
	if err != nil {
		return err
	}
	drain(resp)
	if got := resp.Header.Get("Docker-Content-Digest"); got != "" && strings.HasPrefix(got, d.Digest.Algorithm().String()) && got != d.Digest.String() {
		return fmt.Errorf("registry stored manifest %s as %s", d.Digest, got)
	}
	return nil
}
