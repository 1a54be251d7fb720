package bolt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	bbolt "go.etcd.io/bbolt"

	"longshore/internal/core/state"
	"longshore/internal/core/state/statetest"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("BOLT_TEST_WRITER"); path != "" {
		writeForever(path)
	}
	os.Exit(m.Run())
}

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	fresh := func(t *testing.T) state.Store { return open(t, filepath.Join(t.TempDir(), "state.db")) }
	statetest.Run(t, fresh, func(t *testing.T, old state.Store) state.Store {
		s := old.(*Store)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return open(t, s.path)
	})
}

// TestConformanceAfterDeath reopens without Close, as after kill -9.
func TestConformanceAfterDeath(t *testing.T) {
	fresh := func(t *testing.T) state.Store { return open(t, filepath.Join(t.TempDir(), "state.db")) }
	statetest.Run(t, fresh, func(t *testing.T, old state.Store) state.Store {
		s := old.(*Store)
		_ = s.db.Close() // gives up the lock; the log stays behind
		_ = s.log.close()
		return open(t, s.path)
	})
}

func TestSecondOpenIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	open(t, path)
	if _, err := Open(path); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Fatal(err)
	}
}

func TestClosed(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "state.db"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, d := range []state.Durability{state.Durable, state.Volatile} {
		if s.Put(t.Context(), "b", "k", nil, d) == nil {
			t.Error("a closed store took a write")
		}
	}
	if left, _ := filepath.Glob(s.path + ".log.*"); len(left) != 0 {
		t.Error("logs left:", left)
	}
}

// TestGroupCommit: writers that wait for a running commit share the next one.
func TestGroupCommit(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "state.db"))
	const writers = 50
	before := txid(t, s)
	s.commitMu.Lock()
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			if err := s.Put(context.Background(), "b", strconv.Itoa(i), []byte("x"), state.Durable); err != nil {
				t.Error(err)
			}
		})
	}
	for {
		s.mu.RLock()
		n := 0
		if s.pending != nil {
			n = len(s.pending.ops)
		}
		s.mu.RUnlock()
		if n == writers {
			break
		}
		runtime.Gosched()
	}
	s.commitMu.Unlock()
	wg.Wait()
	if n := txid(t, s) - before; n != 1 {
		t.Fatalf("%d writers needed %d commits", writers, n)
	}
}

func txid(t *testing.T, s *Store) int {
	t.Helper()
	id := 0
	if err := s.db.View(func(tx *bbolt.Tx) error { id = tx.ID(); return nil }); err != nil {
		t.Fatal(err)
	}
	return id
}

// TestFolding: a grown log is folded and removed, its tombstones too.
func TestFolding(t *testing.T) {
	ctx := t.Context()
	s := open(t, filepath.Join(t.TempDir(), "state.db"))
	doc := make([]byte, 64<<10)
	for i := range 3 * compactBytes / len(doc) {
		if err := s.Put(ctx, "b", strconv.Itoa(i%10), doc, state.Volatile); err != nil {
			t.Fatal(err)
		}
		if i%10 == 3 {
			if err := s.Delete(ctx, "b", "3", state.Durable); err != nil {
				t.Fatal(err)
			}
		}
	}
	if s.log.number < 3 || s.log.size > compactBytes+int64(len(doc)) {
		t.Fatalf("log %d has %d bytes", s.log.number, s.log.size)
	}
	if logs, _ := findLogs(s.path); len(logs) != 1 {
		t.Fatal(logs)
	}
	if s.tombs > 50 {
		t.Fatal(s.tombs, "tombstones")
	}
}

// TestTornLog: what a power cut makes of the log never hides a durable write and never stops Open.
func TestTornLog(t *testing.T) {
	ctx := t.Context()
	for cut := range 60 {
		path := filepath.Join(t.TempDir(), "state.db")
		s := open(t, path)
		for _, err := range []error{
			s.Put(ctx, "b", "k", []byte("volatile, old"), state.Volatile),
			s.Put(ctx, "b", "gone", []byte("volatile, old"), state.Volatile),
			s.Put(ctx, "b", "k", []byte("durable"), state.Durable),
			s.Delete(ctx, "b", "gone", state.Durable),
			s.Put(ctx, "b", "late", []byte("x"), state.Volatile),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		name, size := s.log.name, s.log.size
		_, _ = s.db.Close(), s.log.close()
		if cut%2 == 0 {
			if err := os.Truncate(name, max(0, size-int64(cut)*2)); err != nil {
				t.Fatal(err)
			}
		} else {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)-cut] ^= 0x55
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s = open(t, path)
		if got, err := s.Get(ctx, "b", "k"); err != nil || string(got) != "durable" {
			t.Fatalf("cut %d: %q, %v", cut, got, err)
		}
		if _, err := s.Get(ctx, "b", "gone"); !errors.Is(err, errdefs.ErrNotFound) {
			t.Fatalf("cut %d: deleted document came back: %v", cut, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKill kills a writing process and looks for everything it was told to be written.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	for round := range 6 {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), "BOLT_TEST_WRITER="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		told := map[string]string{}
		sc := bufio.NewScanner(out)
		for lines := 0; sc.Scan(); lines++ {
			key, val, _ := strings.Cut(sc.Text(), " ")
			told[key] = val
			if lines == 700+131*round {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait()
		s, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		for key, val := range told {
			got, err := s.Get(t.Context(), "b", key)
			// The write after the last one that was told may or may not be there: values only grow.
			have, _ := strconv.Atoi(string(got))
			if want, _ := strconv.Atoi(val); err != nil || have < want || have > want+1 {
				t.Fatalf("round %d: %s is %q, told %q: %v", round, key, got, val, err)
			}
		}
		if len(told) < 20 {
			t.Fatalf("only %d keys", len(told))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func writeForever(path string) {
	s, err := Open(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for w := range 4 {
		go func() {
			for i := 1; ; i++ {
				key := fmt.Sprintf("%d-%d", w, i%10)
				if err := s.Put(context.Background(), "b", key, []byte(strconv.Itoa(i/10)), state.Durability(i%3 == 0)); err != nil {
					os.Exit(1)
				}
				fmt.Printf("%s %d\n", key, i/10)
			}
		}()
	}
	select {}
}

func FuzzLog(f *testing.F) {
	good := appendRecord(nil, &op{seq: 7, bucket: "b", key: "k", doc: []byte("doc")})
	f.Add(good)
	f.Add(append(good, appendRecord(nil, &op{seq: 8, bucket: "b", key: "k", deleted: true})...))
	f.Add(good[:len(good)-1])
	f.Fuzz(func(t *testing.T, data []byte) {
		for {
			o, rest, ok := nextRecord(data)
			if !ok {
				return
			}
			if again := appendRecord(nil, &o); string(again) != string(data[:len(data)-len(rest)]) {
				t.Fatalf("record does not survive: %x, %x", again, data)
			}
			data = rest
		}
	})
}

func BenchmarkPut(b *testing.B) {
	for name, d := range map[string]state.Durability{"durable": state.Durable, "volatile": state.Volatile} {
		b.Run(name, func(b *testing.B) {
			s, err := Open(filepath.Join(b.TempDir(), "state.db"))
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			doc := make([]byte, 3000)
			for i := range b.N {
				if err := s.Put(context.Background(), "b", strconv.Itoa(i%100), doc, d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
