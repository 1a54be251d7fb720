// Package journal keeps the engine's events: in segment files that survive the daemon, and in memory for those who
// follow live.
//
// Publish appends one line to the newest segment and never waits for a reader or for the disk; Run writes to the disk
// about once a second. Segments are bounded in size and number; the oldest goes when a new one begins. Live readers
// share one ring of the newest events: who falls further behind than the ring reaches gets ErrBehind.
package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"

	"longshore/internal/core/event"
)

// ErrBehind ends a reader that is slower than the events come. Its class is ErrResourceExhausted.
var ErrBehind = fmt.Errorf("events: the reader fell too far behind: %w", errdefs.ErrResourceExhausted)

const (
	defaultSegmentBytes = 4 << 20
	defaultSegments     = 8
	defaultRing         = 4096
	// ringBytes bounds what the ring keeps of events, whose labels may be large.
	ringBytes = 32 << 20
	syncEvery = time.Second
)

// Journal implements event.Publisher and event.Source. It is safe for concurrent use.
type Journal struct {
	dir    string
	config config

	mu       sync.Mutex // guards everything below
	segments []segment  // oldest first; the last one is open for appending
	file     *os.File   // the last segment; nil after a failure, then the next event begins a new one
	buf      []byte
	dirty    bool
	failed   bool // the last write failed; logged once
	closed   bool
	ring     []events.Message // event n is at n % len(ring)
	next     uint64           // number of the next event
	first    uint64           // number of the oldest event that the ring has
	held     int              // bytes of the events in the ring, about
	wake     chan struct{}    // closed at the next event
	readers  int
}

var (
	_ event.Publisher = (*Journal)(nil)
	_ event.Source    = (*Journal)(nil)
)

type config struct {
	segmentBytes int64
	segments     int
	ring         int
	log          *slog.Logger
	now          func() time.Time
}

// Option changes a default of Open.
type Option func(*config)

// Size bounds the journal: segments files of about bytes each. The default is 8 of 4 MiB.
func Size(segments int, bytes int64) Option {
	return func(c *config) { c.segments, c.segmentBytes = max(segments, 2), max(bytes, 1) }
}

// Ring is how many events a live reader may be behind; the default is 4096.
func Ring(n int) Option { return func(c *config) { c.ring = max(n, 1) } }

// Logger gets the failures that Publish has nobody to tell; the default discards them.
func Logger(l *slog.Logger) Option { return func(c *config) { c.log = l } }

// Clock replaces time.Now.
func Clock(now func() time.Time) Option { return func(c *config) { c.now = now } }

// Open opens or creates the journal in dir.
func Open(dir string, opts ...Option) (*Journal, error) {
	c := config{segmentBytes: defaultSegmentBytes, segments: defaultSegments, ring: defaultRing, log: slog.New(slog.DiscardHandler), now: time.Now}
	for _, o := range opts {
		o(&c)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	j := &Journal{dir: dir, config: c, wake: make(chan struct{})}
	var err error
	if j.segments, err = listSegments(dir); err != nil {
		return nil, fmt.Errorf("open event journal: %w", err)
	}
	if err := j.resume(); err != nil {
		return nil, fmt.Errorf("open event journal: %w", err)
	}
	return j, nil
}

// Run writes what was published to the disk until ctx is done, and once more then.
func (j *Journal) Run(ctx context.Context) error {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return j.sync()
		case <-tick.C:
			if err := j.sync(); err != nil {
				j.config.log.Error("event journal", "error", err)
			}
		}
	}
}

// Close writes everything to the disk and ends the readers. Events published later reach nobody.
func (j *Journal) Close() error {
	err := j.sync()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	j.closed = true
	close(j.wake)
	if j.file != nil {
		err = errors.Join(err, j.file.Close())
		j.file = nil
	}
	return err
}

// sync does not hold the lock while the disk works.
func (j *Journal) sync() error {
	j.mu.Lock()
	if !j.dirty || j.file == nil {
		j.mu.Unlock()
		return nil
	}
	j.dirty = false
	f := j.file
	j.mu.Unlock()
	if err := f.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// Publish implements event.Publisher. A full disk costs the past, not the present: live readers still get the event.
func (j *Journal) Publish(_ context.Context, m events.Message) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return
	}
	stamp(&m, j.config.now)
	if err := j.write(&m); err != nil {
		if !j.failed {
			j.config.log.Error("event journal: events are not kept", "error", err)
		}
		j.failed = true
	} else {
		j.failed = false
	}
	j.keep(m)
	close(j.wake)
	j.wake = make(chan struct{})
}

// keep puts an event into the ring and lets the oldest go that are too much. The caller holds the lock.
func (j *Journal) keep(m events.Message) {
	size := weight(&m)
	for j.first < j.next && (j.next-j.first >= uint64(j.config.ring) || j.held+size > ringBytes) {
		old := &j.ring[j.first%uint64(j.config.ring)]
		j.held -= weight(old)
		*old = events.Message{}
		j.first++
	}
	if at := j.next % uint64(j.config.ring); at < uint64(len(j.ring)) {
		j.ring[at] = m
	} else {
		j.ring = append(j.ring, m)
	}
	j.held += size
	j.next++
}

// weight is what an event's texts take, in bytes.
func weight(m *events.Message) int {
	n := len(m.Actor.ID)
	for k, v := range m.Actor.Attributes {
		n += len(k) + len(v)
	}
	return n
}

// stamp fills in the times that are missing.
func stamp(m *events.Message, now func() time.Time) {
	if m.TimeNano == 0 {
		if m.Time == 0 {
			m.TimeNano = now().UnixNano()
		} else {
			m.TimeNano = m.Time * int64(time.Second)
		}
	}
	if m.Time == 0 {
		m.Time = m.TimeNano / int64(time.Second)
	}
	if m.Scope == "" {
		m.Scope = "local"
	}
}

// Listeners counts the readers that follow live events.
func (j *Journal) Listeners() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.readers
}
