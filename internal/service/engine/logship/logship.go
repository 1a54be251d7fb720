// Package logship sends what containers write on to log servers.
//
// The lines come from the file that the container's shim writes, so a server that is slow or dead never blocks a
// container, and what has been sent is remembered, so that nothing is lost when the daemon is restarted: lines may be
// sent twice then, but none is left out as long as the file still has it.
//
//	svc := logship.New(servers, reader, store, log)
//	err := svc.Run(ctx)   // owns a goroutine per container
package logship

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"longshore/internal/core/logs"
	"longshore/internal/core/state"
)

const (
	// bucket keeps a cursor for each container.
	bucket = "log-cursors"
	// patience is how long a container that is removed waits for a server that takes nothing.
	patience = 10 * time.Second
)

// Service follows containers. Safe for concurrent use.
type Service struct {
	servers logs.Servers
	reader  logs.Reader
	store   state.Store
	log     *slog.Logger

	mu    sync.Mutex // guards what follows
	ships map[string]*ship
	fresh []*ship
	more  chan struct{}
}

// New makes a service that does nothing until Run.
func New(servers logs.Servers, reader logs.Reader, store state.Store, log *slog.Logger) *Service {
	return &Service{servers: servers, reader: reader, store: store, log: log, ships: map[string]*ship{}, more: make(chan struct{}, 1)}
}

// Run owns the goroutines until ctx is done; it returns when they have ended.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		s.mu.Lock()
		fresh := s.fresh
		s.fresh = nil
		s.mu.Unlock()
		for _, sh := range fresh {
			wg.Go(func() { sh.run(ctx) })
		}
		select {
		case <-s.more:
		case <-ctx.Done():
			return nil
		}
	}
}

// Check refuses drivers and options that are not known.
func (s *Service) Check(driver string, options map[string]string) error {
	return s.servers.Check(driver, options)
}

// Follow begins with a container, or goes on where an earlier daemon was. A container that is followed stays so.
func (s *Service) Follow(t logs.Target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.ships[t.Origin.ID]; ok {
		return
	}
	sh := &ship{svc: s, target: t, done: make(chan struct{}), gone: make(chan struct{}), abort: make(chan struct{})}
	s.ships[t.Origin.ID] = sh
	s.fresh = append(s.fresh, sh)
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// Finish sends what is left, for a limited time, and forgets the container.
func (s *Service) Finish(ctx context.Context, id string) {
	s.mu.Lock()
	sh, ok := s.ships[id]
	delete(s.ships, id)
	s.mu.Unlock()
	if ok {
		close(sh.done)
		limit := time.NewTimer(patience)
		defer limit.Stop()
		select {
		case <-sh.gone:
		case <-limit.C:
			s.log.Warn("log server takes nothing, the rest of a removed container's log is lost", "container", id, "driver", sh.target.Driver)
		case <-ctx.Done():
		}
		close(sh.abort)
	}
	if err := s.store.Delete(ctx, bucket, id, state.Volatile); err != nil {
		s.log.Warn("forget log cursor", "container", id, "error", err)
	}
}

// load gives the place up to which everything has been sent.
func (s *Service) load(ctx context.Context, id string) logs.Place {
	var c logs.Place
	doc, err := s.store.Get(ctx, bucket, id)
	if err == nil && json.Unmarshal(doc, &c) != nil {
		s.log.Warn("log cursor cannot be read, the log is sent from its beginning", "container", id)
	}
	return c
}

func (s *Service) save(ctx context.Context, id string, c logs.Place) {
	doc, err := json.Marshal(c)
	if err == nil {
		err = s.store.Put(context.WithoutCancel(ctx), bucket, id, doc, state.Volatile)
	}
	if err != nil {
		s.log.Warn("store log cursor", "container", id, "error", err)
	}
}
