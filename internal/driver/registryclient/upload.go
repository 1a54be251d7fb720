package registryclient

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

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

// Upload is a blob on its way to the registry. It remembers how far it came, so that Send can be called again after a
// failure. It is used by one goroutine.
type Upload struct {
	repo     *Repository
	desc     ocispec.Descriptor
	open     func(offset int64) (io.ReadCloser, error)
	location string // of the registry's upload; empty: none was begun
	broken   bool   // the last attempt may have left bytes there
}

// NewUpload prepares sending a blob. open opens its bytes from an offset on; it is called again when they are sent again.
func (r *Repository) NewUpload(d ocispec.Descriptor, open func(offset int64) (io.ReadCloser, error)) *Upload {
	return &Upload{repo: r, desc: d, open: open}
}

// Send stores the blob. spared tells that the shortcut worked and nothing was sent. After a failure the bytes that the registry
// has already are not sent again, where it tells of them.
func (u *Upload) Send(ctx context.Context, s Shortcut) (spared bool, err error) {
	if u.broken {
		if done, err := u.resume(ctx); done || err != nil {
			return false, err
		}
	}
	u.location = ""
	if spared, err := u.begin(ctx, s); spared || err != nil {
		return spared, err
	}
	u.broken = true
	return false, u.finish(ctx, 0)
}

// begin asks for a place to send to, or for the shortcut.
func (u *Upload) begin(ctx context.Context, s Shortcut) (spared bool, err error) {
	r := u.repo
	c := call{method: http.MethodPost, address: r.url("/v2/" + r.Path + "/blobs/uploads/")}
	want := []int{http.StatusAccepted}
	if s.From != "" && s.From != r.Path {
		if c.address, err = withQuery(c.address, url.Values{"mount": {u.desc.Digest.String()}, "from": {s.From}}); err != nil {
			return false, err
		}
		want = append(want, http.StatusCreated)
	}
	if s.Ticket != "" {
		c.header = http.Header{handover.Header: {s.Ticket}}
		want = append(want, http.StatusCreated)
	}
	resp, err := r.do(ctx, c, want...)
	if err != nil {
		return false, err
	}
	drain(resp)
	if resp.StatusCode == http.StatusCreated {
		return true, nil
	}
	u.location, err = uploadLocation(resp)
	return false, err
}

// finish sends what is missing from offset on and closes the upload.
func (u *Upload) finish(ctx context.Context, offset int64) error {
	address, err := withQuery(u.location, url.Values{"digest": {u.desc.Digest.String()}})
	if err != nil {
		return err
	}
	c := call{method: http.MethodPut, address: address, header: http.Header{"Content-Type": {"application/octet-stream"}}}
	if offset < u.desc.Size || offset == 0 {
		c.size, c.body = u.desc.Size-offset, func() (io.ReadCloser, error) { return u.open(offset) }
	}
	resp, err := u.repo.do(ctx, c, http.StatusCreated, http.StatusNoContent)
	if err != nil {
		return err
	}
	drain(resp)
	return nil
}

// resume goes on with an upload that broke. Neither done nor an error means that it cannot, and that a new one is to be begun.
func (u *Upload) resume(ctx context.Context) (done bool, err error) {
	offset, ok, err := u.received(ctx)
	if err != nil || !ok {
		return false, err
	}
	if offset < u.desc.Size {
		c := call{
			method: http.MethodPatch, address: u.location, size: u.desc.Size - offset, body: func() (io.ReadCloser, error) { return u.open(offset) },
			header: http.Header{"Content-Type": {"application/octet-stream"}, "Content-Range": {fmt.Sprintf("%d-%d", offset, u.desc.Size-1)}},
		}
		resp, err := u.repo.do(ctx, c, http.StatusAccepted, http.StatusNoContent, http.StatusRequestedRangeNotSatisfiable, http.StatusNotFound, http.StatusMethodNotAllowed)
		if err != nil {
			return false, err
		}
		drain(resp)
		if resp.StatusCode != http.StatusAccepted && resp.StatusCode != http.StatusNoContent {
			return false, nil
		}
		if resp.Header.Get("Location") != "" {
			if u.location, err = uploadLocation(resp); err != nil {
				return false, err
			}
		}
	}
	if err := u.finish(ctx, u.desc.Size); err != nil {
		if _, passing := Passing(err); passing || ctx.Err() != nil {
			return false, err
		}
		return false, nil // the parts do not make the whole: from the beginning
	}
	return true, nil
}

// received asks how many bytes of an upload the registry has; not ok: it does not know, or has none.
func (u *Upload) received(ctx context.Context) (n int64, ok bool, err error) {
	resp, err := u.repo.do(ctx, call{method: http.MethodGet, address: u.location}, http.StatusNoContent, http.StatusOK, http.StatusAccepted,
		http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusBadRequest)
	if err != nil {
		return 0, false, err
	}
	drain(resp)
	if resp.StatusCode >= http.StatusBadRequest {
		return 0, false, nil
	}
	_, last, found := strings.Cut(strings.TrimPrefix(resp.Header.Get("Range"), "bytes="), "-")
	end, perr := strconv.ParseInt(last, 10, 64)
	if !found || perr != nil || end <= 0 || end >= u.desc.Size { // "0-0" says nothing and one byte alike
		return 0, false, nil
	}
	if resp.Header.Get("Location") != "" {
		if u.location, err = uploadLocation(resp); err != nil {
			return 0, false, err
		}
	}
	return end + 1, true, nil
}

// uploadLocation is where the bytes go.
func uploadLocation(resp *http.Response) (string, error) {
	u, err := resp.Location()
	if err != nil {
		return "", fault.Internal("registry did not return an upload location: %w", err)
	}
	return u.String(), nil
}

// withQuery adds parameters to an address.
func withQuery(address string, add url.Values) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", fault.Internal("invalid upload location: %w", err)
	}
	q := u.Query()
	for k, v := range add {
		q[k] = v
	}
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
