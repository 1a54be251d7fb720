// Package bolt keeps the engine's documents in one bbolt file and, beside it, a log of the writes that need not survive
// a power cut.
//
// Durable writes are bbolt transactions with fsync; writers that come while one is being committed share the next, so
// that n concurrent writers pay for two, not n. Volatile writes are one write(2) to the log and an entry in memory:
// they survive the death of the process, and since the bbolt file itself is always written with fsync, a power cut can
// never cost more than the volatile writes since the last compaction. The log is folded into bbolt when it has grown,
// at Open and at Close.
//
// Every write has a sequence number, kept with the document, so that a durable and a volatile write of the same key
// have one order after a restart too.
package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	bbolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"longshore/internal/base/atomicfile"
	"longshore/internal/core/state"
)

// lockWait bounds how long Open waits for another process to let go of the file.
const lockWait = 3 * time.Second

// Store implements state.Store. It is safe for concurrent use.
type Store struct {
	db   *bbolt.DB
	path string

	commitMu sync.Mutex // held by whoever writes to db; taken before mu

	mu      sync.RWMutex // guards everything below
	seq     uint64       // last sequence number given out
	pending *batch       // durable writes that wait for the running commit
	overlay overlay      // volatile writes that are not in db yet
	log     *volatileLog
	retired []string // log files whose records are being folded
	tombs   int      // durable deletions remembered because a log may hold an older write
	damaged []string // files that Open found damaged
	whole   int64    // length of the last log's good part, while Open reads them
}

// Damaged are the logs in which Open found what it could not read: the rest of each was kept under the name given, and what
// volatile writes it had is lost.
func (s *Store) Damaged() []string { return s.damaged }

var _ state.Store = (*Store)(nil)

// Open opens or creates the store at path; its logs are path+".log.N". A file that another process holds open is
// ErrUnavailable.
func Open(path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("open state %s: in use by another process: %w", path, errdefs.ErrUnavailable)
	}
	if err != nil {
		return nil, fmt.Errorf("open state %s: %w", path, err)
	}
	s := &Store{db: db, path: path, overlay: overlay{}}
	if err := s.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("open state %s: %w", path, err), db.Close())
	}
	return s, nil
}

// recover replays the logs of the last process, folds them into db and begins a new one.
func (s *Store) recover() error {
	if fresh, err := s.empty(); err != nil {
		return err
	} else if fresh {
		if err := s.db.Update(initialise); err != nil {
			return err
		}
	}
	if err := s.replay(); err != nil {
		return err
	}
	if err := s.beginLog(); err != nil {
		return err
	}
	if err := atomicfile.SyncDir(filepath.Dir(s.path)); err != nil {
		return err
	}
	if len(s.retired) > 0 || s.tombs > 0 {
		// On a full disk the logs stay, and are folded when there is room: containers can be removed to make some.
		if err := s.fold(s.seq); !full(err) {
			return err
		}
	}
	return nil
}

// empty tells whether db has none of our buckets yet.
func (s *Store) empty() (fresh bool, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		fresh = tx.Bucket(metaBucket) == nil || tx.Bucket(tombBucket) == nil
		return nil
	})
	return fresh, err
}

// Close folds the log and releases the file. Calls after Close fail.
func (s *Store) Close() error {
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	err := s.compactLocked()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		err = s.log.remove()
	} else {
		err = errors.Join(err, s.log.close())
	}
	return errors.Join(err, s.db.Close())
}

// Put stores a document. Bucket and key must not be empty.
func (s *Store) Put(ctx context.Context, bucket, key string, doc []byte, d state.Durability) error {
	return s.write(ctx, op{bucket: bucket, key: key, doc: bytes.Clone(doc)}, d)
}

// Delete removes a document; a missing one is no error.
func (s *Store) Delete(ctx context.Context, bucket, key string, d state.Durability) error {
	return s.write(ctx, op{bucket: bucket, key: key, deleted: true}, d)
}

func (s *Store) write(ctx context.Context, o op, d state.Durability) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if o.bucket == "" || o.key == "" || len(o.bucket) > maxName || len(o.key) > maxName {
		return fmt.Errorf("state: bucket %q, key %q: bad name: %w", o.bucket, o.key, errdefs.ErrInvalidArgument)
	}
	if d == state.Durable {
		return s.writeDurable(o)
	}
	return s.writeVolatile(o)
}

// Get returns a copy of the document.
func (s *Store) Get(ctx context.Context, bucket, key string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// The overlay first: folding moves from there to db, never back.
	s.mu.RLock()
	o, ok := s.overlay[bucket][key]
	s.mu.RUnlock()
	if ok {
		if o.deleted {
			return nil, missing(bucket, key)
		}
		return bytes.Clone(o.doc), nil
	}
	var doc []byte
	err := s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketName(bucket))
		if b == nil {
			return missing(bucket, key)
		}
		v := b.Get([]byte(key))
		if v == nil {
			return missing(bucket, key)
		}
		doc = bytes.Clone(document(v))
		return nil
	})
	return doc, err
}

func missing(bucket, key string) error {
	return fmt.Errorf("state: no %s %q: %w", bucket, key, errdefs.ErrNotFound)
}

// Each calls f in key order with a copy of the bucket as it was at the call; f may write to the store.
func (s *Store) Each(ctx context.Context, bucket string, f func(key string, doc []byte) error) error {
	found := s.overlaid(bucket)
	err := s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketName(bucket))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			if o, ok := found[string(k)]; !ok || o.seq < sequence(v) {
				found[string(k)] = &op{seq: sequence(v), doc: bytes.Clone(document(v))}
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	keys := make([]string, 0, len(found))
	for k, o := range found {
		if !o.deleted {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	for _, k := range keys {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f(k, bytes.Clone(found[k].doc)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) overlaid(bucket string) map[string]*op {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m := make(map[string]*op, len(s.overlay[bucket]))
	for k, o := range s.overlay[bucket] {
		m[k] = o
	}
	return m
}

// op is one write; it never changes once it has its sequence number.
type op struct {
	seq         uint64
	bucket, key string
	deleted     bool
	doc         []byte
}

// overlay holds the newest volatile write of each key, by bucket.
type overlay map[string]map[string]*op

// apply keeps o unless a newer write is there.
func (v overlay) apply(o *op) {
	m := v[o.bucket]
	if m == nil {
		m = map[string]*op{}
		v[o.bucket] = m
	}
	if old, ok := m[o.key]; !ok || old.seq < o.seq {
		m[o.key] = o
	}
}

// forget drops what is not newer than seq.
func (v overlay) forget(bucket, key string, seq uint64) {
	if o, ok := v[bucket][key]; ok && o.seq <= seq {
		delete(v[bucket], key)
	}
}

// Documents lie in db behind their sequence number.
func sequence(v []byte) uint64 {
	if len(v) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

func document(v []byte) []byte {
	if len(v) < 8 {
		return nil
	}
	return v[8:]
}
