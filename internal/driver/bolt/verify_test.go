package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	bbolt "go.etcd.io/bbolt"

	"longshore/internal/core/state"
)

// TestVerify damages databases with and without a stored list of free pages in every page and by every cut.
func TestVerify(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "db")
	for _, unsynced := range []bool{true, false} {
		_ = os.Remove(path)
		if err := Verify(path); err != nil {
			t.Fatalf("no file: %v", err)
		}
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoFreelistSync: unsynced})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			err := db.Update(func(tx *bbolt.Tx) error {
				b, err := tx.CreateBucketIfNotExists([]byte("b"))
				if err != nil {
					return err
				}
				if b, err = b.CreateBucketIfNotExists(fmt.Appendf(nil, "inner%d", i%3)); err != nil {
					return err
				}
				return b.Put(fmt.Appendf(nil, "key%d", i), bytes.Repeat([]byte{byte(i)}, 200))
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if err := Verify(path); err != nil {
			t.Fatalf("a good file: %v", err)
		}
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all := append([]byte{}, whole...)
		for i := 2 * 4096; i < len(all); i++ {
			all[i] = byte(i*7 + i>>8)
		}
		for what, b := range map[string][]byte{
			"cut to a page": whole[:4096], "cut to two": whole[:8192], "zero": make([]byte, len(whole)),
			"text": []byte(strings.Repeat("not a database", 1000)), "noise": all, "a line": []byte("x\n"),
		} {
			write(t, path, b)
			if err := Verify(path); !errors.Is(err, errdefs.ErrDataLoss) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %v", what, err)
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, b) {
				t.Errorf("%s: the file was changed", what)
			}
		}
		// Whatever it says of a file with one bad page, or of a shorter one: what it calls good can be opened and read.
		for at := 0; at < len(whole); at += 4096 {
			bad := append([]byte{}, whole...)
			copy(bad[at:], bytes.Repeat([]byte{0xa5}, 4096))
			for _, b := range [][]byte{bad, whole[:at]} {
				write(t, path, b)
				if Verify(path) == nil {
					openAndRead(t, path)
				}
			}
		}
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func openAndRead(t *testing.T, path string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucketIfNotExists([]byte("new")); return err }); err != nil {
		t.Error(err)
	}
}

// TestDamagedLog: the records before the damage count, the rest is kept aside and named.
func TestDamagedLog(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := s.Put(ctx, "b", fmt.Sprint("key", i), []byte("document"), state.Volatile); err != nil {
			t.Fatal(err)
		}
	}
	name := s.log.name
	log, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(path)
	log[len(log)/2] ^= 0xff
	write(t, name, log)
	if s, err = Open(path); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Get(ctx, "b", "key0"); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(ctx, "b", "key9"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Error(err)
	}
	if d := s.Damaged(); len(d) != 1 {
		t.Errorf("damaged: %v", d)
	} else if b, err := os.ReadFile(d[0]); err != nil || !bytes.HasSuffix(log, b) || len(b) == 0 {
		t.Errorf("%d bytes are kept: %v", len(b), err)
	}
}
