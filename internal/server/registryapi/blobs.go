package registryapi

import (
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/opencontainers/go-digest"

	"longshore/internal/core/distribution"
	"longshore/internal/service/auth"
)

// blobHeaders are those of every answer about a blob that is there.
func (x *exchange) blobHeaders(d digest.Digest, etag string) {
	h := x.Header()
	h["Docker-Content-Digest"] = []string{d.String()}
	h["Etag"] = []string{etag}
	h["Accept-Ranges"] = []string{"bytes"}
	h["Cache-Control"] = []string{"max-age=31536000"}
	x.version()
}

// headBlob is end-2, HEAD.
func (s *Server) headBlob(x *exchange) error {
	d, err := s.readableBlob(x)
	if err != nil {
		return err
	}
	info, err := s.registry.StatBlob(x.r.Context(), x.repo, d)
	if err != nil {
		return err
	}
	etag := `"` + d.String() + `"`
	x.blobHeaders(d, etag)
	if matches(x.r.Header["If-None-Match"], etag) {
		x.WriteHeader(http.StatusNotModified)
		return nil
	}
	s.deliver(x, d)
	x.header("Content-Type", "application/octet-stream")
	x.header("Content-Length", strconv.FormatInt(info.Size, 10))
	x.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) readableBlob(x *exchange) (digest.Digest, error) {
	if err := s.authorize(x, auth.Read, x.ref); err != nil {
		return "", err
	}
	return distribution.ParseDigest(x.ref)
}

// getBlob is end-2, GET: the bytes, a range of them, a redirect, or "you have it".
func (s *Server) getBlob(x *exchange) error {
	d, err := s.readableBlob(x)
	if err != nil {
		return err
	}
	etag := `"` + d.String() + `"`
	if matches(x.r.Header["If-None-Match"], etag) {
		return s.headBlob(x)
	}
	url, err := s.registry.BlobURL(x.r.Context(), x.repo, d)
	if err != nil {
		return err
	}
	if url != "" {
		x.header("Location", url)
		x.header("Docker-Content-Digest", d.String())
		x.header("Content-Length", "0")
		x.version()
		x.WriteHeader(http.StatusTemporaryRedirect)
		return nil
	}
	content, err := s.registry.OpenBlob(x.r.Context(), x.repo, d)
	if err != nil {
		return err
	}
	defer content.Close() //nolint:errcheck // read only
	var from io.ReadSeeker = content.ReadSeekCloser
	if content.File != nil {
		from = content.File
	}
	return x.serveContent(from, content.Size, d, etag)
}

// serveContent answers with all of the content or with the range that was asked for (RFC 9110, section 14).
func (x *exchange) serveContent(from io.ReadSeeker, size int64, d digest.Digest, etag string) error {
	part, status := distribution.ByteRange{First: 0, Last: size - 1}, http.StatusOK
	if header := x.r.Header.Get("Range"); header != "" && ifRange(x.r, etag) {
		r, ok, err := distribution.ParseRange(header, size)
		if err != nil {
			x.header("Content-Range", "bytes */"+strconv.FormatInt(size, 10))
			return err
		}
		if ok {
			part, status = r, http.StatusPartialContent
			x.header("Content-Range", fmt.Sprintf("bytes %d-%d/%d", r.First, r.Last, size))
		}
	}
	if part.First > 0 {
		if _, err := from.Seek(part.First, io.SeekStart); err != nil {
			return fmt.Errorf("seek blob: %w", err)
		}
	}
	x.blobHeaders(d, etag)
	x.header("Content-Type", "application/octet-stream")
	x.header("Content-Length", strconv.FormatInt(part.Size(), 10))
	x.WriteHeader(status)
	return x.send(from, part.Size())
}

// ifRange says whether a range may be answered with: the client has the same content, or did not say.
func ifRange(r *http.Request, etag string) bool {
	v := r.Header.Get("If-Range")
	return v == "" || v == etag
}

// deleteBlob is end-10.
func (s *Server) deleteBlob(x *exchange) error {
	if err := s.authorize(x, auth.Delete, x.ref); err != nil {
		return err
	}
	d, err := distribution.ParseDigest(x.ref)
	if err != nil {
		return err
	}
	if err := s.registry.DeleteBlob(x.r.Context(), x.repo, d); err != nil {
		return err
	}
	return x.accepted()
}
