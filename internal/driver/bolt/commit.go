package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	bbolt "go.etcd.io/bbolt"
)

// Top-level buckets: documents are in "b:"+name.
var (
	metaBucket = []byte("m")
	tombBucket = []byte("t") // bucket and key -> sequence of a durable deletion
	seqKey     = []byte("seq")
	foldedKey  = []byte("folded") // log records up to this sequence are in db
)

const (
	// maxName bounds bucket and key names; bbolt's own limit is 32,768.
	maxName = 16 << 10
	// compactBytes and compactTombs say when a log has grown enough to be folded.
	compactBytes = 4 << 20
	compactTombs = 4096
)

func bucketName(name string) []byte { return append([]byte("b:"), name...) }

func initialise(tx *bbolt.Tx) error {
	for _, b := range [][]byte{metaBucket, tombBucket} {
		if _, err := tx.CreateBucketIfNotExists(b); err != nil {
			return err
		}
	}
	return nil
}

// batch is a group of durable writes that are committed together. Whoever adds the first op leads it.
type batch struct {
	ops  []*op
	done chan struct{}
	err  error // set before done is closed
}

func (s *Store) writeDurable(o op) error {
	s.mu.Lock()
	s.seq++
	o.seq = s.seq
	b := s.pending
	leader := b == nil
	if leader {
		b = &batch{done: make(chan struct{})}
		s.pending = b
	}
	b.ops = append(b.ops, &o)
	s.mu.Unlock()
	if leader {
		s.lead(b)
	}
	<-b.done
	return b.err
}

// lead waits for the running commit, closes the batch to newcomers and commits it.
func (s *Store) lead(b *batch) {
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	s.mu.Lock()
	s.pending = nil
	s.mu.Unlock()
	defer close(b.done)

	tombs := 0
	b.err = s.db.Update(func(tx *bbolt.Tx) error {
		var err error
		tombs, err = s.applyBatch(tx, b.ops)
		return err
	})
	if b.err != nil {
		b.err = fmt.Errorf("state: %w", b.err)
		return
	}
	s.mu.Lock()
	for _, o := range b.ops {
		s.overlay.forget(o.bucket, o.key, o.seq)
	}
	s.tombs += tombs
	full := s.tombs > compactTombs
	s.mu.Unlock()
	if full {
		// The batch itself is safe whatever happens here; a failure shows again at the next try.
		_ = s.compactLocked()
	}
}

func (s *Store) applyBatch(tx *bbolt.Tx, ops []*op) (tombs int, err error) {
	s.mu.RLock()
	logged := s.log.size > 0 || len(s.retired) > 0
	s.mu.RUnlock()
	var last uint64
	for _, o := range ops {
		if err := applyOp(tx, o); err != nil {
			return 0, err
		}
		last = max(last, o.seq)
		// A volatile write may begin a log at any moment, but then with a higher sequence: only what is logged
		// already could come back.
		if o.deleted && logged {
			tombs++
			if err := tx.Bucket(tombBucket).Put(tombKey(o.bucket, o.key), number(o.seq)); err != nil {
				return 0, err
			}
		}
	}
	if meta := tx.Bucket(metaBucket); last > sequence(meta.Get(seqKey)) {
		err = meta.Put(seqKey, number(last))
	}
	return tombs, err
}

// applyOp writes o unless db has a newer document.
func applyOp(tx *bbolt.Tx, o *op) error {
	name := bucketName(o.bucket)
	b := tx.Bucket(name)
	if o.deleted {
		if b == nil {
			return nil
		}
		if v := b.Get([]byte(o.key)); v == nil || sequence(v) > o.seq {
			return nil
		}
		return b.Delete([]byte(o.key))
	}
	if b == nil {
		var err error
		if b, err = tx.CreateBucket(name); err != nil {
			return err
		}
	}
	if v := b.Get([]byte(o.key)); v != nil && sequence(v) > o.seq {
		return nil
	}
	v := make([]byte, 8+len(o.doc))
	binary.BigEndian.PutUint64(v, o.seq)
	copy(v[8:], o.doc)
	return b.Put([]byte(o.key), v)
}

func (s *Store) writeVolatile(o op) error {
	s.mu.Lock()
	s.seq++
	o.seq = s.seq
	err := s.log.append(&o)
	if err == nil {
		s.overlay.apply(&o)
	}
	full := s.log.size > compactBytes
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if full && s.commitMu.TryLock() {
		defer s.commitMu.Unlock()
		// The write is in the log; folding is tried again when the next log is full.
		_ = s.compactLocked()
	}
	return nil
}

// compactLocked folds the log into db; the caller holds commitMu.
func (s *Store) compactLocked() error {
	s.mu.Lock()
	if s.log.size == 0 && len(s.retired) == 0 && s.tombs == 0 {
		s.mu.Unlock()
		return nil
	}
	fresh, err := createLog(s.path, s.log.number+1)
	if err == nil {
		if err = fresh.ahead(); err != nil { // the old one has room still
			err = errors.Join(err, fresh.remove())
		}
	}
	if err != nil {
		s.mu.Unlock()
		return fmt.Errorf("state: %w", err)
	}
	old := s.log
	s.retired = append(s.retired, old.name)
	s.log = fresh
	cut := s.seq
	s.mu.Unlock()
	return errors.Join(old.close(), s.fold(cut))
}

// fold moves the overlay's writes up to cut into db in one transaction and removes the retired logs.
func (s *Store) fold(cut uint64) error {
	ops := s.upTo(cut)
	err := s.db.Update(func(tx *bbolt.Tx) error {
		tombs := tx.Bucket(tombBucket)
		for _, o := range ops {
			if sequence(tombs.Get(tombKey(o.bucket, o.key))) > o.seq {
				continue
			}
			if err := applyOp(tx, o); err != nil {
				return err
			}
		}
		// Durable writes are not under way (commitMu is held), so that no tombstone is newer than cut and needed.
		if err := tx.DeleteBucket(tombBucket); err != nil {
			return err
		}
		if _, err := tx.CreateBucket(tombBucket); err != nil {
			return err
		}
		meta := tx.Bucket(metaBucket)
		if err := meta.Put(foldedKey, number(cut)); err != nil {
			return err
		}
		return meta.Put(seqKey, number(max(cut, sequence(meta.Get(seqKey)))))
	})
	if err != nil {
		return fmt.Errorf("state: fold the log: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range ops {
		s.overlay.forget(o.bucket, o.key, o.seq)
	}
	s.tombs = 0
	for _, name := range s.retired {
		// A log that stays is harmless: its records are not newer than the folded mark.
		_ = os.Remove(name)
	}
	s.retired = nil
	return nil
}

func (s *Store) upTo(cut uint64) []*op {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var ops []*op
	for _, m := range s.overlay {
		for _, o := range m {
			if o.seq <= cut {
				ops = append(ops, o)
			}
		}
	}
	return ops
}

func tombKey(bucket, key string) []byte {
	k := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(bucket)+len(key)), uint16(len(bucket)))
	return append(append(k, bucket...), key...)
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
