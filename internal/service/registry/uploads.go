package registry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/blob"
	"longshore/internal/core/distribution"
)

// StartUpload opens an upload; alg "" is sha256.
func (s *Service) StartUpload(ctx context.Context, repo distribution.RepoName, alg digest.Algorithm) (Upload, error) {
	alg, err := distribution.ParseAlgorithm(string(alg))
	if err != nil {
		return Upload{}, err
	}
	id := newID()
	if err := s.storeOf(repo).Store.Begin(ctx, uploadKey(repo, id), alg); err != nil {
		return Upload{}, s.fault(err, nil)
	}
	return Upload{ID: id}, nil
}

// newID is a random UUID (version 4).
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Upload finds an open upload: BLOB_UPLOAD_UNKNOWN else.
func (s *Service) Upload(ctx context.Context, repo distribution.RepoName, id string) (Upload, error) {
	if !validID(id) {
		return Upload{}, distribution.UploadUnknown(id)
	}
	n, err := s.storeOf(repo).Store.Offset(ctx, uploadKey(repo, id))
	return Upload{ID: id, Offset: n}, s.fault(err, distribution.UploadUnknown(id))
}

// AppendUpload adds a chunk (PATCH). Out of order is BLOB_UPLOAD_INVALID of class ErrRange (416), and the upload is as it
// was. A chunk of another size than promised is SIZE_INVALID and ends the upload. When the client goes away amid a chunk,
// what has arrived stays, and the upload can be resumed.
func (s *Service) AppendUpload(ctx context.Context, repo distribution.RepoName, id string, c Chunk) (Upload, error) {
	if !validID(id) {
		return Upload{}, distribution.UploadUnknown(id)
	}
	store, key := s.storeOf(repo).Store, uploadKey(repo, id)
	body := newBody(c)
	n, err := store.Append(ctx, key, c.First, body)
	s.activity.note(repo, s.cfg.Now())
	if err == nil {
		return Upload{ID: id, Offset: n}, nil
	}
	if errors.Is(err, errWrongSize) {
		_ = store.Cancel(context.WithoutCancel(ctx), key)
	}
	return Upload{ID: id, Offset: n}, s.uploadFault(err, body, id)
}

// FinishUpload adds the last chunk (Body may be nil or empty), verifies the digest and links the blob (PUT). Everything
// is durable on return.
func (s *Service) FinishUpload(ctx context.Context, repo distribution.RepoName, id string, d digest.Digest, c Chunk) (blob.Info, error) {
	if !validID(id) {
		return blob.Info{}, distribution.UploadUnknown(id)
	}
	place, key := s.storeOf(repo), uploadKey(repo, id)
	if c.Body != nil && c.Size != 0 {
		offset, err := place.Store.Offset(ctx, key)
		if err != nil {
			return blob.Info{}, s.fault(err, distribution.UploadUnknown(id))
		}
		// A store without local files would have to move the bytes from the upload to the blob.
		if _, local := place.Store.(blob.Linker); !local && offset == 0 && c.First <= 0 {
			info, err := s.PutBlob(ctx, repo, d, c)
			if err == nil || errdefs.IsInvalidArgument(err) {
				_ = place.Store.Cancel(context.WithoutCancel(ctx), key)
			}
			return info, err
		}
		if _, err := s.AppendUpload(ctx, repo, id, c); err != nil {
			return blob.Info{}, err
		}
	}
	release, err := s.index.Share(ctx, place.Name, d)
	if err != nil {
		return blob.Info{}, s.fault(err, nil)
	}
	defer release()
	info, err := place.Store.Commit(ctx, key, d)
	if err != nil {
		return blob.Info{}, s.uploadFault(err, nil, id)
	}
	return s.link(ctx, repo, info)
}

// CancelUpload drops an upload (DELETE).
func (s *Service) CancelUpload(ctx context.Context, repo distribution.RepoName, id string) error {
	if !validID(id) {
		return distribution.UploadUnknown(id)
	}
	return s.fault(s.storeOf(repo).Store.Cancel(ctx, uploadKey(repo, id)), distribution.UploadUnknown(id))
}

// PutBlob is the upload in one request (POST with digest). Nothing is left when it fails.
func (s *Service) PutBlob(ctx context.Context, repo distribution.RepoName, d digest.Digest, c Chunk) (blob.Info, error) {
	place, body := s.storeOf(repo), newBody(c)
	if c.First > 0 {
		return blob.Info{}, distribution.UploadRange("the first chunk begins at %d", c.First)
	}
	info, err := place.Store.Put(ctx, d, c.Size, body)
	if err != nil {
		return blob.Info{}, s.uploadFault(err, body, "")
	}
	// The client may be slow, so the digest is guarded only now; the collector may have taken the bytes of an equal,
	// unlinked blob in between.
	release, err := s.index.Share(ctx, place.Name, d)
	if err != nil {
		return blob.Info{}, s.fault(err, nil)
	}
	defer release()
	if _, err := place.Store.Stat(ctx, d); err != nil {
		return blob.Info{}, s.fault(err, distribution.NewError(distribution.CodeBlobUploadInvalid, errdefs.ErrUnavailable,
			"the blob was collected while it was pushed; push it again"))
	}
	return s.link(ctx, repo, info)
}

// putFile is LinkIn for stores without local files.
func (s *Service) putFile(ctx context.Context, repo distribution.RepoName, d digest.Digest, path string) (blob.Info, error) {
	f, err := os.Open(path)
	if err != nil {
		return blob.Info{}, s.fault(fmt.Errorf("link in: %w", err), nil)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return blob.Info{}, s.fault(err, nil)
	}
	return s.PutBlob(ctx, repo, d, Chunk{First: -1, Size: fi.Size(), Body: f})
}

// uploadFault is fault for the errors of uploads. body may be nil.
func (s *Service) uploadFault(err error, body *body, id string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errWrongSize):
		return distribution.SizeInvalid("provided length did not match content length")
	case body != nil && body.err != nil:
		return distribution.UploadInvalid("the request's body ended early: %v", body.err)
	case errdefs.IsInvalidArgument(err):
		return distribution.DigestInvalid("provided digest did not match uploaded content")
	case errdefs.IsOutOfRange(err):
		return distribution.UploadRange("the chunk does not begin where the upload ends, or another request is writing")
	}
	return s.fault(err, distribution.UploadUnknown(id))
}

// errWrongSize is the body's error when it is shorter or longer than promised.
var errWrongSize = errors.New("body of another size than promised")

// body holds a request's body to its promised size and remembers that the client failed, not the store.
type body struct {
	r    io.Reader
	left int64 // -1: not promised
	err  error
}

func newBody(c Chunk) *body {
	if c.Body == nil {
		return &body{r: eof{}, left: c.Size}
	}
	return &body{r: c.Body, left: c.Size}
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.left < 0 {
		return b.fail(b.r.Read(p))
	}
	// One byte more than promised is asked for, to see a body that goes on.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.r.Read(p)
	if int64(n) > b.left || err == io.EOF && int64(n) < b.left {
		b.left -= min(int64(n), b.left)
		return 0, errWrongSize
	}
	b.left -= int64(n)
	return b.fail(n, err)
}

func (b *body) fail(n int, err error) (int, error) {
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }
