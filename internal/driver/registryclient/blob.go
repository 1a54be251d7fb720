package registryclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	c8images "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
)

// stallLimit is how long a download may bring nothing.
const stallLimit = 2 * time.Minute

// Start is where a download is to begin.
type Start struct {
	// Offset is the number of bytes that are here already.
	Offset int64
	// ETag is what the same server called the blob when they came; empty when it did not say, or was another.
	ETag string
}

// Body is the bytes of a blob from Offset on: that of the Start, or 0 when the server does not give parts or has
// something else now. That they are the right ones is for the reader to check.
type Body struct {
	io.ReadCloser
	Offset int64
	// Host is the server that was asked, ETag what it calls the blob.
	Host, ETag string
	// Parts tells that the server can begin in the middle.
	Parts bool
}

// Blob opens a blob from the start on. Layers that say so are fetched from the addresses in their descriptors, others
// when the registry does not have them.
func (r *Repository) Blob(ctx context.Context, d ocispec.Descriptor, from Start) (*Body, error) {
	if len(d.URLs) == 0 {
		return r.own(ctx, d, from)
	}
	ways := []func(context.Context, ocispec.Descriptor, Start) (*Body, error){r.own, r.foreign}
	if c8images.IsNonDistributable(d.MediaType) {
		ways[0], ways[1] = ways[1], ways[0]
	}
	b, err := ways[0](ctx, d, from)
	if err == nil || ctx.Err() != nil {
		return b, err
	}
	b, second := ways[1](ctx, d, from)
	if second != nil {
		if _, passing := Passing(second); passing {
			return nil, second
		}
		return nil, err
	}
	return b, nil
}

func (r *Repository) own(ctx context.Context, d ocispec.Descriptor, from Start) (*Body, error) {
	return open(ctx, d, from, func(ctx context.Context, h http.Header, want ...int) (*http.Response, error) {
		return r.do(ctx, call{method: http.MethodGet, address: r.path("blobs", d.Digest.String()), header: h}, want...)
	})
}

// foreign fetches a layer from where its manifest says it is, as nobody in particular: neither credentials nor
// certificates of the registry go there.
func (r *Repository) foreign(ctx context.Context, d ocispec.Descriptor, from Start) (*Body, error) {
	var last error
	for _, address := range d.URLs {
		u, err := url.Parse(address)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			continue
		}
		tr, err := r.client.transport(u.Host, !r.client.Insecure(ctx, u.Host))
		if err != nil {
			return nil, err
		}
		s := r.client.session(endpoint{base: url.URL{Scheme: u.Scheme, Host: u.Host}, transport: tr}, nil)
		b, err := open(ctx, d, from, func(ctx context.Context, h http.Header, want ...int) (*http.Response, error) {
			return s.do(ctx, call{method: http.MethodGet, address: address, header: h}, want...)
		})
		if err == nil {
			b.ReadCloser = closing{b.ReadCloser, s.Close}
			return b, nil
		}
		s.Close()
		last = err
	}
	if last == nil {
		last = fault.NotFound("blob %s: no usable URL", d.Digest)
	}
	return nil, last
}

// closing does something more at the end.
type closing struct {
	io.ReadCloser
	after func()
}

// Close implements io.Closer.
func (c closing) Close() error {
	err := c.ReadCloser.Close()
	c.after()
	return err
}

// open asks for a blob, and for the whole of it where a part cannot be had.
func open(ctx context.Context, d ocispec.Descriptor, from Start, get func(context.Context, http.Header, ...int) (*http.Response, error)) (*Body, error) {
	// The request lives as long as the body: it is given up when nothing comes.
	ctx, cancel := context.WithCancelCause(ctx)
	b, err := openPart(ctx, d, from, get)
	if err != nil {
		cancel(nil)
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	b.ReadCloser = &watched{b.ReadCloser, ctx, cancel}
	return b, nil
}

func openPart(ctx context.Context, d ocispec.Descriptor, from Start, get func(context.Context, http.Header, ...int) (*http.Response, error)) (*Body, error) {
	// No transparent compression: the bytes are what the digest is of.
	h := http.Header{"Accept-Encoding": {"identity"}}
	if from.Offset > 0 {
		h.Set("Range", "bytes="+strconv.FormatInt(from.Offset, 10)+"-")
		if strings.HasPrefix(from.ETag, `"`) { // weak ones must not be used for this
			h.Set("If-Range", from.ETag)
		}
	}
	resp, err := get(ctx, h, http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		if n := resp.ContentLength; n >= 0 && d.Size > 0 && n != d.Size {
			_ = resp.Body.Close() // of something else
			return nil, fault.New(errdefs.ErrFailedPrecondition, "failed size validation: %d != %d", n, d.Size)
		}
		return body(resp, 0), nil
	}
	if from.Offset > 0 && resp.StatusCode == http.StatusPartialContent && continues(resp, d.Size, from) {
		return body(resp, from.Offset), nil
	}
	_ = resp.Body.Close() // a part that is of no use
	if from.Offset == 0 {
		return nil, fault.Unavailable("registry answered %s to a request for all of it", resp.Status)
	}
	return openPart(ctx, d, Start{}, get)
}

func body(resp *http.Response, offset int64) *Body {
	parts := resp.StatusCode == http.StatusPartialContent || resp.Header.Get("Accept-Ranges") == "bytes"
	return &Body{ReadCloser: resp.Body, Offset: offset, Host: resp.Request.URL.Host, ETag: resp.Header.Get("ETag"), Parts: parts}
}

// continues tells whether a part begins where the other one ended, and is of the same thing.
func continues(resp *http.Response, size int64, from Start) bool {
	var first, last int64
	var total string
	if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%s", &first, &last, &total); err != nil || first != from.Offset {
		return false
	}
	if n, err := strconv.ParseInt(total, 10, 64); err == nil && size > 0 && n != size {
		return false
	}
	tag := resp.Header.Get("ETag")
	return from.ETag == "" || tag == "" || tag == from.ETag
}

// watched gives a body up of which nothing comes for long.
type watched struct {
	io.ReadCloser
	ctx    context.Context //nolint:containedctx // that of the request, as in http.Request
	cancel context.CancelCauseFunc
}

// Read implements io.Reader.
func (w *watched) Read(p []byte) (int, error) {
	t := time.AfterFunc(stallLimit, func() { w.cancel(errStalled) })
	defer t.Stop()
	n, err := w.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && errors.Is(context.Cause(w.ctx), errStalled) {
		err = errStalled
	}
	return n, err
}

// Close implements io.Closer.
func (w *watched) Close() error {
	w.cancel(nil)
	return w.ReadCloser.Close()
}
