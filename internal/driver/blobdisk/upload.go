package blobdisk

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"longshore/internal/core/blob"
)

// session is what this process knows of an upload beside its file. It may be missing or behind (after a restart): then
// the hash is computed again from the file.
type session struct {
	// mu is held by the one request that writes; others are refused, not queued.
	mu     sync.Mutex
	alg    digest.Algorithm
	hash   hash.Hash
	hashed int64 // bytes that hash has seen
}

// Begin implements blob.Uploads.
func (s *Store) Begin(_ context.Context, key string, alg digest.Algorithm) error {
	path, err := s.uploadPath(key)
	if err != nil {
		return err
	}
	if !alg.Available() {
		return fmt.Errorf("begin upload: algorithm %q: %w", alg, errdefs.ErrInvalidArgument)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeDir(filepath.Dir(path)); err != nil {
			return fmt.Errorf("begin upload: %w", err)
		}
		f, err = os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("begin upload %s: %w", key, errdefs.ErrAlreadyExists)
	}
	if err != nil {
		return fmt.Errorf("begin upload: %w", err)
	}
	s.sessions.Store(key, &session{alg: alg, hash: alg.Hash()})
	return f.Close()
}

// Offset implements blob.Uploads.
func (s *Store) Offset(_ context.Context, key string) (int64, error) {
	path, err := s.uploadPath(key)
	if err != nil {
		return 0, err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return 0, classed("upload", key, err)
	}
	return fi.Size(), nil
}

// Append implements blob.Uploads.
func (s *Store) Append(ctx context.Context, key string, at int64, r io.Reader) (int64, error) {
	up, err := s.lock(key, os.O_RDWR|os.O_APPEND)
	if err != nil {
		return 0, err
	}
	defer up.unlock()
	if at >= 0 && at != up.size {
		return up.size, fmt.Errorf("upload %s holds %d bytes, the chunk begins at %d: %w", key, up.size, at, errdefs.ErrOutOfRange)
	}
	if err := up.catchUp(up.session.alg); err != nil {
		return up.size, fmt.Errorf("upload %s: %w", key, err)
	}
	n, err := receive(ctx, up.file, up.session.hash, r)
	up.session.hashed += n
	if err != nil {
		return up.size + n, fmt.Errorf("upload %s: %w", key, err)
	}
	return up.size + n, nil
}

// Commit implements blob.Uploads.
func (s *Store) Commit(_ context.Context, key string, d digest.Digest) (blob.Info, error) {
	if _, err := s.path(d); err != nil {
		return blob.Info{}, err
	}
	up, err := s.lock(key, os.O_RDWR)
	if err != nil {
		return blob.Info{}, err
	}
	defer up.unlock()
	if err := up.catchUp(d.Algorithm()); err != nil {
		return blob.Info{}, fmt.Errorf("upload %s: %w", key, err)
	}
	if got := digest.NewDigest(d.Algorithm(), up.session.hash); got != d {
		s.drop(key, up.file.Name())
		return blob.Info{}, fmt.Errorf("upload %s: the bytes have %s, not %s: %w", key, got, d, errdefs.ErrInvalidArgument)
	}
	info, err := s.seal(up.file, d)
	if err != nil {
		return blob.Info{}, err
	}
	s.drop(key, up.file.Name()) // the name is left when the blob was there already
	return info, nil
}

// Cancel implements blob.Uploads.
func (s *Store) Cancel(_ context.Context, key string) error {
	path, err := s.uploadPath(key)
	if err != nil {
		return err
	}
	s.sessions.Delete(key)
	if err := os.Remove(path); err != nil {
		return classed("cancel upload", key, err)
	}
	return nil
}

// Sweep implements blob.Uploads.
func (s *Store) Sweep(ctx context.Context, before time.Time) (int, error) {
	shelves, err := os.ReadDir(s.uploads)
	if err != nil {
		return 0, fmt.Errorf("sweep uploads: %w", err)
	}
	n := 0
	for _, shelf := range shelves {
		dir := filepath.Join(s.uploads, shelf.Name())
		entries, err := os.ReadDir(dir)
		if err != nil {
			return n, fmt.Errorf("sweep uploads: %w", err)
		}
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return n, err
			}
			fi, err := e.Info()
			if err == nil && fi.ModTime().Before(before) && s.sweepOne(dir, e.Name()) {
				n++
			}
		}
	}
	return n, nil
}

// sweepOne removes a resting upload unless a request holds it this moment.
func (s *Store) sweepOne(dir, key string) bool {
	if v, ok := s.sessions.Load(key); ok {
		sess := v.(*session)
		if !sess.mu.TryLock() {
			return false
		}
		defer sess.mu.Unlock()
	}
	s.sessions.Delete(key)
	return os.Remove(filepath.Join(dir, key)) == nil
}

// drop forgets an upload.
func (s *Store) drop(key, path string) {
	s.sessions.Delete(key)
	_ = unix.Unlink(path)
}

// uploadPath is the file of an upload.
func (s *Store) uploadPath(key string) (string, error) {
	if err := blob.CheckKey(key); err != nil {
		return "", err
	}
	return filepath.Join(s.uploads, shelfOf(key), key), nil
}

// held is an upload that one request holds.
type held struct {
	session *session
	file    *os.File
	size    int64
}

func (s *Store) lock(key string, flag int) (*held, error) {
	path, err := s.uploadPath(key)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return nil, classed("upload", key, err)
	}
	v, ok := s.sessions.Load(key)
	if !ok {
		v, _ = s.sessions.LoadOrStore(key, &session{alg: digest.SHA256})
	}
	sess := v.(*session)
	if !sess.mu.TryLock() {
		f.Close()
		return nil, fmt.Errorf("upload %s is being written by another request: %w", key, errdefs.ErrOutOfRange)
	}
	fi, err := f.Stat()
	if err == nil && nlink(fi) == 0 {
		err = fs.ErrNotExist // committed or cancelled between open and lock
	}
	if err != nil {
		sess.mu.Unlock()
		f.Close()
		return nil, classed("upload", key, err)
	}
	return &held{session: sess, file: f, size: fi.Size()}, nil
}

func (u *held) unlock() {
	u.session.mu.Unlock()
	u.file.Close()
}

// catchUp makes the session's hash that of the whole file in alg, reading the file again where it must.
func (u *held) catchUp(alg digest.Algorithm) error {
	sess := u.session
	if sess.hash != nil && sess.alg == alg && sess.hashed == u.size {
		return nil
	}
	sess.alg, sess.hash, sess.hashed = alg, alg.Hash(), 0
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	n, err := io.CopyBuffer(sess.hash, struct{ io.Reader }{io.NewSectionReader(u.file, 0, u.size)}, *buf)
	sess.hashed = n
	if err == nil && n != u.size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func nlink(fi fs.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Nlink)
	}
	return 1
}

// buffers are the copies' buffers; fifty uploads at once take 13 MB.
var buffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// writeback is how many bytes are handed to the disk early, so that the sync at the end is short.
const writeback = 8 << 20

// receive copies r into f and h. n bytes have reached both, also when it errs.
func receive(ctx context.Context, f *os.File, h hash.Hash, r io.Reader) (n int64, err error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	base, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	started := int64(0)
	for {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		k, rerr := r.Read(*buf)
		if k > 0 {
			w, err := f.Write((*buf)[:k])
			h.Write((*buf)[:w])
			n += int64(w)
			if err != nil {
				return n, err
			}
		}
		if rerr == io.EOF {
			return n, nil
		}
		if rerr != nil {
			return n, rerr
		}
		if n-started >= writeback {
			// Only a hint: the sync before the rename is what counts.
			_ = unix.SyncFileRange(int(f.Fd()), base+started, n-started, unix.SYNC_FILE_RANGE_WRITE)
			started = n
		}
	}
}
