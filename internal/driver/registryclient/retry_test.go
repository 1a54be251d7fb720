package registryclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestPassing(t *testing.T) {
	get := func(err error) error { return &url.Error{Op: "Get", URL: "http://x", Err: err} }
	for name, c := range map[string]struct {
		err                  error
		passing, unreachable bool
	}{
		"429": {&Error{Status: 429}, true, false}, "408": {&Error{Status: 408}, true, false}, "500": {&Error{Status: 500}, true, false},
		"503": {fmt.Errorf("blob: %w", &Error{Status: 503}), true, false}, "501": {&Error{Status: 501}, false, false},
		"401": {&Error{Status: 401}, false, false}, "403": {&Error{Status: 403}, false, false}, "404": {&Error{Status: 404}, false, false},
		"reset":    {get(&net.OpError{Op: "read", Err: syscall.ECONNRESET}), true, false},
		"cut":      {io.ErrUnexpectedEOF, true, false},
		"eof":      {get(io.EOF), true, false},
		"stalled":  {errStalled, true, false},
		"http2":    {errors.New("stream error: stream ID 3; INTERNAL_ERROR; received from peer"), true, false},
		"refused":  {get(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), false, true},
		"no name":  {get(&net.OpError{Op: "dial", Err: &net.DNSError{Name: "x"}}), false, true},
		"proxy":    {get(&net.OpError{Op: "proxyconnect", Err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}), false, true},
		"silent":   {contactError{get(context.DeadlineExceeded)}, false, true},
		"given up": {get(context.Canceled), false, false},
		"x509":     {get(errors.New("x509: certificate signed by unknown authority")), false, false},
		"nothing":  {nil, false, false},
	} {
		if _, ok := Passing(c.err); ok != c.passing || Unreachable(c.err) != c.unreachable {
			t.Errorf("%s: passing %v, unreachable %v", name, ok, Unreachable(c.err))
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "soon": 0, "99999999999": 0, now.Add(time.Minute).Format(http.TimeFormat): time.Minute, now.Add(-time.Hour).Format(http.TimeFormat): 0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {in}}, now); got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
}

// FuzzRetryAfter looks for panics and for times before now.
func FuzzRetryAfter(f *testing.F) {
	f.Add("7")
	f.Add("Fri, 02 Jan 2026 03:04:05 GMT")
	f.Fuzz(func(t *testing.T, s string) {
		if d := retryAfter(http.Header{"Retry-After": {s}}, time.Unix(0, 0)); d < 0 {
			t.Errorf("%q: %v", s, d)
		}
	})
}

// TestParts: whatever a server makes of a Range, the body says truly where it begins.
func TestParts(t *testing.T) {
	const blob = "0123456789"
	d := ocispec.Descriptor{Digest: digest.FromString(blob), Size: int64(len(blob))}
	says := func(contentRange string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				w.Header().Set("Content-Range", contentRange)
				w.WriteHeader(http.StatusPartialContent)
			}
			_, _ = io.WriteString(w, blob)
		}
	}
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		tag    string
		offset int64
	}{
		"gives parts": {func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(blob))
		}, "", 4},
		"the same tag": {tagged(`"a"`, blob), `"a"`, 4},
		"another tag":  {tagged(`"b"`, blob), `"a"`, 0},
		"ignores If-Range": {func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("If-Range")
			tagged(`"b"`, blob)(w, r)
		}, `"a"`, 0},
		"ignores Range": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, blob) }, "", 0},
		"refuses Range": {func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return
			}
			_, _ = io.WriteString(w, blob)
		}, "", 0},
		"another part":      {says("bytes 2-9/10"), "", 0},
		"of something else": {says("bytes 4-9/12"), "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.URL.Path, "/blobs/") {
					c.answer(w, r)
				}
			}))
			defer srv.Close()
			r, err := mustClient(t, Config{}).Repository(t.Context(), ref(t, strings.TrimPrefix(srv.URL, "http://")+"/a"), nil, Pull)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			b, err := r.Blob(t.Context(), d, Start{Offset: 4, ETag: c.tag})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			got, err := io.ReadAll(b)
			if err != nil || b.Offset != c.offset || string(got) != blob[c.offset:] {
				t.Errorf("%q from %d: %v", got, b.Offset, err)
			}
		})
	}
}

func tagged(tag, blob string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", tag)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(blob))
	}
}

// FuzzContentRange looks for panics, and for parts that begin elsewhere than they are taken for.
func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 4-9/10", "bytes 4-9/*", "bytes -1-9/10", "bytes 4-", "", "bytes 4-9/10/11"} {
		f.Add(s, int64(4))
	}
	f.Fuzz(func(t *testing.T, s string, offset int64) {
		resp := &http.Response{Header: http.Header{"Content-Range": {s}}}
		if continues(resp, 10, Start{Offset: offset}) && !strings.HasPrefix(strings.Join(strings.Fields(s), " "), fmt.Sprintf("bytes %d-", offset)) &&
			!strings.Contains(s, "+") && !strings.Contains(s, "0") {
			t.Errorf("%q goes on from %d", s, offset)
		}
	})
}
