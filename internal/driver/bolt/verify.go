package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"syscall"

	"github.com/containerd/errdefs"
	bbolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Verify reads everything in the bbolt file at path, which may be another package's, and tells what is damaged:
// ErrDataLoss. A missing or empty file is as good as a new one. It is to be asked before the file is opened for writing, because
// bbolt ends the whole process when it meets a damaged page there, and changes nothing.
func Verify(path string) error {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && st.Size() == 0) {
		return nil
	}
	if err != nil {
		return err
	}
	// A file that was cut short faults where its pages are missing.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	err = readAll(path, false)
	if err == nil {
		err = readAll(path, true) // only when all pages are known to be good: bbolt reads them in a goroutine of its own then
	}
	if err == nil || errors.Is(err, errdefs.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("the database %s is damaged and left as it is: put a copy of it in its place (docs/operations.md, \"Damaged files\"): %w: %w", path, err, errdefs.ErrDataLoss)
}

// readAll reads what the buckets hold, with free also the list of free pages.
func readAll(path string, free bool) (err error) {
	var file *os.File
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
		if file != nil { // bbolt keeps the lock when it is interrupted, and so does the mapping that it leaves
			_ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
			_ = file.Close()
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: lockWait, ReadOnly: true, PreLoadFreelist: free,
		OpenFile: func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
			file, err = os.OpenFile(name, flag, mode)
			return file, err
		},
	})
	if errors.Is(err, berrors.ErrTimeout) {
		return fmt.Errorf("open %s: in use by another process: %w", path, errdefs.ErrUnavailable)
	}
	if err != nil {
		return err
	}
	if free {
		return db.Close()
	}
	defer db.Close()
	return db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error { return readBucket(b) })
	})
}

// readBucket touches every page of a bucket and of those in it.
func readBucket(b *bbolt.Bucket) error {
	var sum byte
	var last []byte
	return b.ForEach(func(k, v []byte) error {
		if len(k) == 0 || (last != nil && string(k) <= string(last)) {
			return fmt.Errorf("key %q is out of order", k)
		}
		last = append(last[:0], k...)
		if v == nil {
			if inner := b.Bucket(k); inner != nil {
				return readBucket(inner)
			}
			return nil
		}
		if n := len(v); n > 0 {
			sum ^= v[0] ^ v[n-1]
		}
		return nil
	})
}
