package blobdisk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"longshore/internal/base/groupcommit"
)

// intake makes small blobs durable. Each alone would take two syncs, of its bytes and of its name; in the log all that
// come at once share one, and a sync of a log that is overwritten in place needs nothing of the file system's journal.
//
//	root/intake/<random>   segments of fixed size: records from the beginning, then zeros or old records
//
// A blob gets its name after its record is synced and is not synced itself. So a power cut may leave a name without
// bytes, or no name, but only while the log holds the bytes: New puts them back. A segment is emptied once the file
// system has been synced behind it. Each store has segments of its own, by file lock, also in one folder.
type intake struct {
	dir string

	queue *groupcommit.Queue[*arrival]
	buf   []byte // the leader's

	mu      sync.Mutex // guards what follows
	active  *segment
	full    []*segment
	clean   []*segment
	count   int       // of segments, in use or not
	last    time.Time // when a record was written
	drained *sync.Cond

	// settling is held by the one who syncs the file system.
	settling sync.Mutex
}

const (
	// smallBlob is the size up to which a blob goes through the log.
	smallBlob = 32 << 10
	// segmentSize of the log's files, and how many there may be before pushes wait for the file system.
	segmentSize, maxSegments = 1 << 20, 24
	// maxBatch is how many bytes share a sync.
	maxBatch = 512 << 10
)

// arrival is a blob that waits for its record.
type arrival struct {
	digest digest.Digest
	data   []byte
	at     *segment
	offset int64 // in it
	err    error // the outcome
}

func newIntake(dir string) *intake {
	k := &intake{dir: dir}
	k.drained = sync.NewCond(&k.mu)
	k.queue = groupcommit.New(k.turn)
	return k
}

// add returns when the blob is in the log, durably. The caller then gives the blob its name and calls placed, whether
// that went well or not.
func (k *intake) add(d digest.Digest, data []byte) (placed func(), err error) {
	a := &arrival{digest: d, data: data}
	if k.queue.Do(a); a.err != nil {
		return nil, fmt.Errorf("intake: %w", a.err)
	}
	return func() { k.release(a.at, 1) }, nil
}

// release says that n blobs of a segment have their names.
func (k *intake) release(seg *segment, n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if seg.pending -= n; seg.pending == 0 {
		k.drained.Broadcast()
	}
}

// turn writes the first of those who wait.
func (k *intake) turn(waiting []*arrival) (taken int, end func()) {
	batch, err := k.choose(waiting)
	if err == nil {
		seg := batch[0].at
		if err = seg.write(&k.buf, batch); err != nil {
			k.abandon(seg, len(batch))
		}
	}
	for _, a := range batch {
		a.err = err
	}
	return len(batch), nil
}

// choose says who are written next, and where. An error concerns all of them.
func (k *intake) choose(waiting []*arrival) ([]*arrival, error) {
	for {
		n, missing := k.reserve(waiting)
		if missing == nil {
			return waiting[:n], nil
		}
		if err := missing(); err != nil {
			return waiting, err
		}
	}
}

// reserve gives the first of those who wait their places in the active segment, and counts them there, so that Settle
// waits for them. missing is what is to be done first when there is no segment with room.
func (k *intake) reserve(waiting []*arrival) (n int, missing func() error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.active != nil && k.active.room() < recordSize(smallBlob) {
		k.full, k.active = append(k.full, k.active), nil
	}
	if k.active == nil && len(k.clean) > 0 {
		k.active, k.clean = k.clean[0], k.clean[1:]
	}
	seg := k.active
	switch {
	case seg == nil && k.count < maxSegments:
		return 0, k.grow
	case seg == nil:
		return 0, func() error { return k.settle(0) }
	}
	size := 0
	for _, a := range waiting {
		length := recordSize(len(a.data))
		if length > seg.room() || size > maxBatch {
			break
		}
		a.at, a.offset = seg, seg.at
		seg.at, size = seg.at+int64(length), size+length
		n++
	}
	seg.pending += n
	k.last = time.Now()
	return n, nil
}

// grow adds a segment.
func (k *intake) grow() error {
	seg, err := makeSegment(k.dir)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.clean = append(k.clean, seg)
	k.count++
	return nil
}

// abandon writes no more to a segment that could not be written or synced. What was acknowledged before is still in it.
func (k *intake) abandon(seg *segment, n int) {
	k.release(seg, n)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.active == seg {
		k.full, k.active = append(k.full, seg), nil
	}
}

// settle empties the full segments, and the active one when nothing has come for that long.
func (k *intake) settle(rested time.Duration) error {
	k.settling.Lock()
	defer k.settling.Unlock()
	k.mu.Lock()
	if k.active != nil && k.active.at > 0 && time.Since(k.last) >= rested {
		k.full, k.active = append(k.full, k.active), nil
	}
	full := k.full
	for _, seg := range full {
		for seg.pending > 0 {
			k.drained.Wait()
		}
	}
	k.mu.Unlock()
	if len(full) == 0 {
		return nil
	}
	if err := syncFileSystem(k.dir); err != nil {
		return fmt.Errorf("settle intake: %w", err)
	}
	var errs []error
	for _, seg := range full {
		errs = append(errs, seg.empty())
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.full = k.full[len(full):] // others may have come behind
	k.clean = append(k.clean, full...)
	return errors.Join(errs...)
}

// Settle implements blob.Settler.
func (s *Store) Settle(_ context.Context, rested time.Duration) error { return s.intake.settle(rested) }

// syncFileSystem writes back everything of the file system that dir is on, and waits for it.
func syncFileSystem(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
