package blobs3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minio/minio-go/v7"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/blob"
)

// upload is the name of one of an upload's objects.
func (s *Store) upload(key, what string) string { return path.Join(s.prefix, "uploads", key, what) }

// hold makes this request the one of this process that writes to the upload.
func (s *Store) hold(key string) (free func(), err error) {
	if err := blob.CheckKey(key); err != nil {
		return nil, err
	}
	if _, taken := s.busy.LoadOrStore(key, struct{}{}); taken {
		return nil, fmt.Errorf("upload %s is being written by another request: %w", key, errdefs.ErrOutOfRange)
	}
	return func() { s.busy.Delete(key) }, nil
}

// Begin implements blob.Uploads.
func (s *Store) Begin(ctx context.Context, key string, alg digest.Algorithm) error {
	free, err := s.hold(key)
	if err != nil {
		return err
	}
	defer free()
	if !alg.Available() {
		return fmt.Errorf("begin upload: algorithm %q: %w", alg, errdefs.ErrInvalidArgument)
	}
	_, err = s.client.StatObject(ctx, s.bucket, s.upload(key, "state"), minio.StatObjectOptions{})
	if err == nil {
		return fmt.Errorf("begin upload %s: %w", key, errdefs.ErrAlreadyExists)
	}
	if !missing(err) {
		return fmt.Errorf("begin upload %s: %w", key, err)
	}
	return s.save(ctx, key, newState(alg))
}

// Offset implements blob.Uploads.
func (s *Store) Offset(ctx context.Context, key string) (int64, error) {
	if err := blob.CheckKey(key); err != nil {
		return 0, err
	}
	st, err := s.load(ctx, key)
	if err != nil {
		return 0, err
	}
	return st.Offset, nil
}

// Append implements blob.Uploads.
func (s *Store) Append(ctx context.Context, key string, at int64, r io.Reader) (int64, error) {
	free, err := s.hold(key)
	if err != nil {
		return 0, err
	}
	defer free()
	st, err := s.load(ctx, key)
	if err != nil {
		return 0, err
	}
	if at >= 0 && at != st.Offset {
		return st.Offset, fmt.Errorf("upload %s holds %d bytes, the chunk begins at %d: %w", key, st.Offset, at, errdefs.ErrOutOfRange)
	}
	before := st.Offset
	rerr, err := s.receive(ctx, key, st, r)
	if err != nil {
		return before, err
	}
	// What a client that went away has sent is kept; its context is gone.
	keep, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := s.save(keep, key, st); err != nil {
		return before, errors.Join(rerr, err)
	}
	if rerr != nil {
		return st.Offset, fmt.Errorf("upload %s: %w", key, rerr)
	}
	return st.Offset, nil
}

// receive reads r to its end into the tail, and parts where it is full. rerr is the reader's error: the state is good
// then; err is the service's.
func (s *Store) receive(ctx context.Context, key string, st *state, r io.Reader) (rerr, err error) {
	for {
		size := st.partSize()
		if len(st.tail) >= size {
			if err := s.flush(ctx, key, st); err != nil {
				return nil, err
			}
		}
		if cap(st.tail)-len(st.tail) < 64<<10 {
			grown := make([]byte, len(st.tail), min(max(2*cap(st.tail), 256<<10), size+64<<10))
			copy(grown, st.tail)
			st.tail = grown
		}
		room := st.tail[len(st.tail):min(cap(st.tail), size)]
		n, err := r.Read(room)
		st.hash.Write(room[:n])
		st.tail = st.tail[:len(st.tail)+n]
		st.Offset += int64(n)
		if err == io.EOF {
			return nil, nil
		}
		if err != nil {
			return err, nil
		}
	}
}

// Commit implements blob.Uploads.
func (s *Store) Commit(ctx context.Context, key string, d digest.Digest) (blob.Info, error) {
	name, err := s.name(d)
	if err != nil {
		return blob.Info{}, err
	}
	free, err := s.hold(key)
	if err != nil {
		return blob.Info{}, err
	}
	defer free()
	st, err := s.load(ctx, key)
	if err != nil {
		return blob.Info{}, err
	}
	if st.Algorithm == d.Algorithm() {
		if got := digest.NewDigest(st.Algorithm, st.hash); got != d {
			return blob.Info{}, s.refuse(ctx, key, got, d)
		}
	}
	if st.UploadID == "" {
		err = s.commitSmall(ctx, key, st, d)
	} else {
		err = s.commitLarge(ctx, key, st, name, d)
	}
	if err != nil {
		return blob.Info{}, err
	}
	s.discard(context.WithoutCancel(ctx), key, nil)
	return blob.Info{Digest: d, Size: st.Offset, Modified: time.Now()}, nil
}

// refuse drops an upload whose bytes have another digest.
func (s *Store) refuse(ctx context.Context, key string, got, want digest.Digest) error {
	st, err := s.load(ctx, key)
	if err == nil {
		s.discard(context.WithoutCancel(ctx), key, st)
	}
	return fmt.Errorf("upload %s: the bytes have %s, not %s: %w", key, got, want, errdefs.ErrInvalidArgument)
}

// commitSmall: everything is in the tail.
func (s *Store) commitSmall(ctx context.Context, key string, st *state, d digest.Digest) error {
	_, err := s.putWhole(ctx, d, st.tail)
	if errdefs.IsInvalidArgument(err) {
		return s.refuse(ctx, key, d.Algorithm().FromBytes(st.tail), d)
	}
	return err
}

// commitLarge ends the multipart upload and has the service copy it to the blob's name. Both steps can be repeated: a
// commit that died in between is taken up by the next.
func (s *Store) commitLarge(ctx context.Context, key string, st *state, name string, d digest.Digest) error {
	data := s.upload(key, "data")
	if _, err := s.client.StatObject(ctx, s.bucket, data, minio.StatObjectOptions{}); missing(err) {
		if len(st.tail) > 0 {
			if err := s.flush(ctx, key, st); err != nil {
				return err
			}
		}
		if _, err := s.core.CompleteMultipartUpload(ctx, s.bucket, data, st.UploadID, st.Parts, minio.PutObjectOptions{}); err != nil {
			return fmt.Errorf("upload %s: %w", key, err)
		}
	}
	if st.Algorithm != d.Algorithm() {
		got, err := s.digest(ctx, data, d.Algorithm())
		if err != nil {
			return fmt.Errorf("upload %s: %w", key, err)
		}
		if got != d {
			return s.refuse(ctx, key, got, d)
		}
	}
	_, err := s.client.ComposeObject(ctx, minio.CopyDestOptions{Bucket: s.bucket, Object: name},
		minio.CopySrcOptions{Bucket: s.bucket, Object: data})
	if err != nil {
		return fmt.Errorf("upload %s: %w", key, err)
	}
	return nil
}

// digest reads an object.
func (s *Store) digest(ctx context.Context, name string, alg digest.Algorithm) (digest.Digest, error) {
	body, _, _, err := s.core.GetObject(ctx, s.bucket, name, minio.GetObjectOptions{})
	if err != nil {
		return "", err
	}
	defer body.Close()
	return alg.FromReader(body)
}

// discard removes an upload's objects, and its parts when st names them. What cannot be removed now is swept later.
func (s *Store) discard(ctx context.Context, key string, st *state) {
	if st != nil && st.UploadID != "" {
		_ = s.core.AbortMultipartUpload(ctx, s.bucket, s.upload(key, "data"), st.UploadID)
	}
	_ = s.remove(ctx, s.upload(key, "data"))
	_ = s.remove(ctx, s.upload(key, "state"))
}

// Cancel implements blob.Uploads.
func (s *Store) Cancel(ctx context.Context, key string) error {
	if err := blob.CheckKey(key); err != nil {
		return err
	}
	st, err := s.load(ctx, key)
	if err != nil {
		return err
	}
	s.discard(ctx, key, st)
	return nil
}

// Sweep implements blob.Uploads.
func (s *Store) Sweep(ctx context.Context, before time.Time) (int, error) {
	prefix := path.Join(s.prefix, "uploads") + "/"
	n := 0
	for o := range s.client.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if o.Err != nil {
			return n, fmt.Errorf("sweep uploads: %w", o.Err)
		}
		if !o.LastModified.Before(before) {
			continue
		}
		if path.Base(o.Key) != "state" {
			// Left by a commit that died: it goes with its state, or has none.
			if _, err := s.client.StatObject(ctx, s.bucket, path.Join(path.Dir(o.Key), "state"), minio.StatObjectOptions{}); missing(err) {
				_ = s.remove(ctx, o.Key)
			}
			continue
		}
		key := path.Base(path.Dir(o.Key))
		free, err := s.hold(key)
		if err != nil {
			continue
		}
		st, err := s.load(ctx, key)
		if err == nil {
			s.discard(ctx, key, st)
			n++
		}
		free()
	}
	return n, s.sweepParts(ctx, before)
}

// sweepParts aborts multipart uploads that nothing refers to any more, those of Put included.
func (s *Store) sweepParts(ctx context.Context, before time.Time) error {
	for _, dir := range []string{"uploads", "blobs"} {
		for u := range s.client.ListIncompleteUploads(ctx, s.bucket, path.Join(s.prefix, dir)+"/", true) {
			if u.Err != nil {
				return fmt.Errorf("sweep parts: %w", u.Err)
			}
			if !u.Initiated.Before(before) {
				continue
			}
			if st, err := s.load(ctx, path.Base(path.Dir(u.Key))); err == nil && st.UploadID == u.UploadID {
				continue // a living upload
			}
			if err := s.core.AbortMultipartUpload(ctx, s.bucket, u.Key, u.UploadID); err != nil && !missing(err) {
				return fmt.Errorf("sweep parts: %w", err)
			}
		}
	}
	return nil
}
