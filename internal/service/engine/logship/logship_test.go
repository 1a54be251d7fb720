package logship

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/core/logs"
	"longshore/internal/core/state"
	"longshore/internal/driver/logfile"
)

// server takes lines while it is up.
type server struct {
	mu    sync.Mutex
	up    bool
	lines []string
}

func (s *server) Check(string, map[string]string) error { return nil }

func (s *server) Open(context.Context, logs.Target) (logs.Sink, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.up {
		return nil, errors.New("connection refused")
	}
	return s, nil
}

func (s *server) Send(_ context.Context, lines []logs.Line) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.up {
		return errors.New("broken pipe")
	}
	for _, l := range lines {
		s.lines = append(s.lines, fmt.Sprint(l.Stream, " ", string(l.Text)))
	}
	return nil
}

func (s *server) Close() error { return nil }

func (s *server) set(up bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up = up
}

func (s *server) got() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "|")
}

// memory is a store of documents.
type memory struct {
	mu   sync.Mutex
	docs map[string][]byte
}

func (m *memory) Put(_ context.Context, bucket, key string, doc []byte, _ state.Durability) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.docs[bucket+"/"+key] = doc
	return nil
}

func (m *memory) Get(_ context.Context, bucket, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if doc, ok := m.docs[bucket+"/"+key]; ok {
		return doc, nil
	}
	return nil, errdefs.ErrNotFound
}

func (m *memory) Delete(_ context.Context, bucket, key string, _ state.Durability) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.docs, bucket+"/"+key)
	return nil
}

func (m *memory) Each(context.Context, string, func(string, []byte) error) error { return nil }

// rig is a log that a test writes and a service that sends it.
type rig struct {
	t      *testing.T
	srv    *server
	store  *memory
	path   string
	nanos  int
	svc    *Service
	cancel context.CancelFunc
	ended  chan struct{}
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, srv: &server{up: true}, store: &memory{docs: map[string][]byte{}}, path: filepath.Join(t.TempDir(), "x.log")}
	r.start()
	t.Cleanup(r.stop)
	return r
}

func (r *rig) start() {
	ctx, cancel := context.WithCancel(context.Background())
	r.svc = New(r.srv, logfile.New(), r.store, slog.New(slog.DiscardHandler))
	r.cancel, r.ended = cancel, make(chan struct{})
	go func() {
		defer close(r.ended)
		_ = r.svc.Run(ctx)
	}()
	r.svc.Follow(logs.Target{Driver: "test", Origin: logs.Origin{ID: "c1"}, Source: logs.Source{Driver: "json-file", Path: r.path}})
}

func (r *rig) stop() {
	r.cancel()
	<-r.ended
}

// log writes entries of the json-file format; text without a final newline is a part of a line.
func (r *rig) log(stream string, texts ...string) {
	r.t.Helper()
	f, err := os.OpenFile(r.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	for _, text := range texts {
		r.nanos++
		b, _ := json.Marshal(map[string]string{"log": text, "stream": stream, "time": time.Unix(1767323045, int64(r.nanos)).UTC().Format(time.RFC3339Nano)})
		if _, err := f.Write(append(b, '\n')); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *rig) expect(want string) {
	r.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for r.srv.got() != want {
		if time.Now().After(deadline) {
			r.t.Fatalf("got %s\nwant %s", r.srv.got(), want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestShip: lines come whole and in order, also those from before and from a time without server or service.
func TestShip(t *testing.T) {
	r := newRig(t)
	r.log("stdout", "a\n", "begin")
	r.log("stderr", "e\n")
	r.log("stdout", "ning\n", "b\n")
	r.expect("1 a|2 e|1 beginning|1 b")
	r.srv.set(false)
	r.log("stdout", "c\n")
	r.stop() // the service ends while the server is down
	r.log("stdout", "d\n")
	r.srv.set(true)
	r.start()
	r.expect("1 a|2 e|1 beginning|1 b|1 c|1 d")
	r.log("stdout", "no end")
	r.svc.Finish(t.Context(), "c1")
	r.expect("1 a|2 e|1 beginning|1 b|1 c|1 d|1 no end")
	if len(r.store.docs) != 0 {
		t.Errorf("left: %v", r.store.docs)
	}
}

// TestHalfLine: what is remembered never goes past the beginning of a line whose end is still to come.
func TestHalfLine(t *testing.T) {
	r := newRig(t)
	r.log("stdout", "half")
	r.log("stderr", "e\n")
	r.expect("2 e")
	r.stop()
	r.log("stdout", " and half\n")
	r.start()
	r.expect("2 e|2 e|1 half and half") // twice rather than never
}

// TestClockSetBack: what is written while the clock is behind what was sent already is sent, too, and once; so it is when
// the file was rotated meanwhile. Where a file's place is another one's now, its time counts.
func TestClockSetBack(t *testing.T) {
	r := newRig(t)
	r.log("stdout", "a\n", "b\n")
	r.expect("1 a|1 b")
	r.stop()
	r.nanos -= int(time.Hour)
	r.log("stdout", "c\n")
	r.start()
	r.log("stdout", "d\n")
	r.expect("1 a|1 b|1 c|1 d")
	r.stop()
	r.nanos -= int(time.Hour)
	r.log("stdout", "e\n")
	if err := os.Rename(r.path, r.path+".1"); err != nil {
		t.Fatal(err)
	}
	r.log("stderr", "f\n")
	r.start()
	r.expect("1 a|1 b|1 c|1 d|1 e|2 f")
	r.stop()
	if err := os.Remove(r.path + ".1"); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(r.path, 0); err != nil { // the same inode, with other entries in it
		t.Fatal(err)
	}
	r.log("stderr", "g\n")
	r.start()
	r.expect("1 a|1 b|1 c|1 d|1 e|2 f|2 g")
}

// TestServerDown: a server that goes in the middle gets the rest when it is back.
func TestServerDown(t *testing.T) {
	r := newRig(t)
	r.log("stdout", "a\n")
	r.expect("1 a")
	r.srv.set(false)
	var want strings.Builder
	want.WriteString("1 a")
	for i := range 1000 {
		r.log("stdout", fmt.Sprintf("%d\n", i))
		fmt.Fprintf(&want, "|1 %d", i)
	}
	r.srv.set(true)
	r.expect(want.String())
}
