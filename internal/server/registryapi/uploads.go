package registryapi

import (
	"net/http"
	"strconv"

	"github.com/opencontainers/go-digest"

	"longshore/internal/core/distribution"
	"longshore/internal/service/auth"
	"longshore/internal/service/registry"
)

// startUpload is end-4a (a session), end-4b (all in one request), end-4c (another algorithm) and end-11 (mount). The
// engine of this process may hand over the blob as a file.
func (s *Server) startUpload(x *exchange) error {
	if err := s.authorize(x, auth.Create, ""); err != nil {
		return err
	}
	q := x.r.URL.Query()
	alg, err := distribution.ParseAlgorithm(q.Get("digest-algorithm"))
	if err != nil {
		return err
	}
	if text := q.Get("mount"); text != "" {
		if done, err := s.mount(x, text, q.Get("from")); done || err != nil {
			return err
		}
	} else if text := q.Get("digest"); text != "" {
		if done, err := s.putBlob(x, text); done || err != nil {
			return err
		}
	}
	if done, err := s.linkIn(x); done || err != nil {
		return err
	}
	u, err := s.registry.StartUpload(x.r.Context(), x.repo, alg)
	if err != nil {
		return err
	}
	x.upload(u, http.StatusAccepted)
	return nil
}

// mount answers 201 when the blob could be mounted. When it could not, an upload begins.
func (s *Server) mount(x *exchange, text, from string) (done bool, err error) {
	d, err := distribution.ParseDigest(text)
	if err != nil {
		return false, err
	}
	m := registry.Mount{Repo: x.repo, Digest: d, May: s.readable(x)}
	if from != "" {
		if m.From, err = distribution.ParseRepoName(from); err != nil {
			return false, err
		}
	}
	info, ok, err := s.registry.MountBlob(x.r.Context(), m)
	if err != nil || !ok {
		return false, err
	}
	x.created("/blobs/"+info.Digest.String(), info.Digest)
	return true, nil
}

// putBlob is the upload in one request. A client that sends no bytes for a blob that has some wants a session.
func (s *Server) putBlob(x *exchange, text string) (done bool, err error) {
	d, err := distribution.ParseDigest(text)
	if err != nil {
		return false, err
	}
	if x.r.ContentLength == 0 && d != d.Algorithm().FromBytes(nil) {
		return false, nil
	}
	info, err := s.registry.PutBlob(x.r.Context(), x.repo, d, registry.Chunk{First: -1, Size: x.r.ContentLength, Body: x.body()})
	if err != nil {
		return false, err
	}
	x.created("/blobs/"+d.String(), info.Digest)
	return true, nil
}

// upload answers with the state of a session.
func (x *exchange) upload(u registry.Upload, status int) {
	h := x.Header()
	h["Location"] = []string{"/v2/" + string(x.repo) + "/blobs/uploads/" + u.ID}
	h["Docker-Upload-Uuid"] = []string{u.ID}
	h["Range"] = []string{"0-" + strconv.FormatInt(max(u.Offset-1, 0), 10)}
	if status != http.StatusNoContent {
		h["Content-Length"] = []string{"0"}
	}
	x.version()
	x.WriteHeader(status)
}

// chunk is the request's body and where it belongs.
func (x *exchange) chunk() (registry.Chunk, error) {
	c := registry.Chunk{First: -1, Size: x.r.ContentLength}
	if x.r.ContentLength != 0 {
		c.Body = x.body()
	}
	header := x.r.Header.Get("Content-Range")
	if header == "" {
		return c, nil
	}
	r, err := distribution.ParseContentRange(header)
	if err != nil {
		return c, err
	}
	if c.Size >= 0 && c.Size != r.Size() {
		return c, distribution.SizeInvalid("the range %q has %d bytes, the body %d", clip(header), r.Size(), c.Size)
	}
	c.First, c.Size = r.First, r.Size()
	return c, nil
}

// uploadStatus is end-13.
func (s *Server) uploadStatus(x *exchange) error {
	if err := s.authorize(x, auth.Create, ""); err != nil {
		return err
	}
	u, err := s.registry.Upload(x.r.Context(), x.repo, x.ref)
	if err != nil {
		return err
	}
	x.upload(u, http.StatusNoContent)
	return nil
}

// appendUpload is end-5.
func (s *Server) appendUpload(x *exchange) error {
	if err := s.authorize(x, auth.Create, ""); err != nil {
		return err
	}
	c, err := x.chunk()
	if err != nil {
		return err
	}
	if c.Body == nil {
		c.Body = http.NoBody
	}
	u, err := s.registry.AppendUpload(x.r.Context(), x.repo, x.ref, c)
	if err != nil {
		s.outOfRange(x, err)
		return err
	}
	x.upload(u, http.StatusAccepted)
	return nil
}

// outOfRange adds to a 416 where the upload stands, which saves the client a request.
func (s *Server) outOfRange(x *exchange, err error) {
	if status, _ := describe(err); status != http.StatusRequestedRangeNotSatisfiable {
		return
	}
	if u, err := s.registry.Upload(x.r.Context(), x.repo, x.ref); err == nil {
		x.header("Location", "/v2/"+string(x.repo)+"/blobs/uploads/"+u.ID)
		x.header("Range", "0-"+strconv.FormatInt(max(u.Offset-1, 0), 10))
		x.header("Docker-Upload-Uuid", u.ID)
	}
}

// finishUpload is end-6.
func (s *Server) finishUpload(x *exchange) error {
	if err := s.authorize(x, auth.Create, ""); err != nil {
		return err
	}
	var d digest.Digest
	d, err := distribution.ParseDigest(x.r.URL.Query().Get("digest"))
	if err != nil {
		return err
	}
	c, err := x.chunk()
	if err != nil {
		return err
	}
	info, err := s.registry.FinishUpload(x.r.Context(), x.repo, x.ref, d, c)
	if err != nil {
		s.outOfRange(x, err)
		return err
	}
	x.created("/blobs/"+d.String(), info.Digest)
	return nil
}

// cancelUpload is end-14.
func (s *Server) cancelUpload(x *exchange) error {
	if err := s.authorize(x, auth.Create, ""); err != nil {
		return err
	}
	if err := s.registry.CancelUpload(x.r.Context(), x.repo, x.ref); err != nil {
		return err
	}
	x.version()
	x.WriteHeader(http.StatusNoContent)
	return nil
}
