package sqlmeta

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// walSync makes commits durable in SQLite's place (synchronous=NORMAL leaves them to us, and still syncs around
// checkpoints). SQLite would call fsync, which for a log that is overwritten in place writes the file system's journal
// for the sake of a time stamp; and it would hold up the next transaction meanwhile, which here runs beside the sync.
type walSync struct {
	log      *os.File
	prepared bool
	// committed counts transactions whose frames are in the log.
	committed atomic.Uint64

	mu     sync.Mutex // held while the log is synced; guards what follows
	synced uint64     // as many of committed are durable
	err    error      // a sync has failed: what the log holds is not known any more, for good
}

// preallocated is the size of the log before its first checkpoint, so that it does not grow with each commit.
const preallocated = 5 << 20

// newWALSync opens the log beside the database, which SQLite has made.
func newWALSync(database string) (*walSync, error) {
	log, err := os.OpenFile(database+"-wal", os.O_RDWR, 0)
	return &walSync{log: log}, err
}

// prepare is called by the writer before its first transaction, while nobody else writes.
func (s *walSync) prepare() error {
	if s.prepared {
		return nil
	}
	fi, err := s.log.Stat()
	if err == nil && fi.Size() < preallocated {
		// SQLite reads zeros as the log's end.
		_, err = s.log.WriteAt(make([]byte, preallocated-fi.Size()), fi.Size())
	}
	s.prepared = err == nil
	return err
}

// wait returns when everything that is committed by now is durable. Those who wait while another syncs share the next.
func (s *walSync) wait() error {
	mine := s.committed.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.synced >= mine {
		return s.err
	}
	all := s.committed.Load()
	err := unix.Fdatasync(int(s.log.Fd()))
	if err == nil && s.synced == 0 {
		err = s.syncName()
	}
	if err != nil {
		s.err = fmt.Errorf("sync log: %w", err)
		return s.err
	}
	s.synced = all
	return nil
}

// syncName makes the log's name and the database's durable, once.
func (s *walSync) syncName() error {
	dir, err := os.Open(filepath.Dir(s.log.Name()))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func (s *walSync) close() error { return s.log.Close() }
