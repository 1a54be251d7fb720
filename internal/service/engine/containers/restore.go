package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	core "longshore/internal/core/container"
	"longshore/internal/core/runtime"
	"longshore/internal/core/state"
)

// Restore loads the records, adopts what still runs, records what ended meanwhile, removes what a dead daemon left and
// starts what the restart policies want. Call it once, before or beside Run.
func (s *Service) Restore(ctx context.Context) error {
	handles, err := s.load(ctx)
	if err != nil {
		return err
	}
	if err := s.emptyTrash(ctx); err != nil {
		return err
	}
	found := s.adoptAll(ctx, handles)
	var running []string
	for i, h := range handles {
		if found[i].Process != nil {
			running = append(running, h.id)
		}
	}
	if err := s.deps.Launch.Networks.Restore(ctx, running); err != nil {
		return fmt.Errorf("restore networks: %w", err)
	}
	for i, h := range handles {
		s.resume(ctx, h, found[i])
		s.births.Add(h)
	}
	return s.sweep(ctx)
}

// load reads the records into the index.
func (s *Service) load(ctx context.Context) ([]*handle, error) {
	handles, err := state.ReadAll(ctx, s.deps.Store, bucket, s.read)
	if err != nil {
		return nil, fmt.Errorf("read containers: %w", err)
	}
	handles = slices.DeleteFunc(handles, func(h *handle) bool { return h == nil })
	for _, h := range handles {
		rec := h.record()
		if _, ok := s.index.Reserve(rec.Name, rec.ID); !ok {
			s.log.Error("two containers with one name", "container", rec.ID, "name", rec.Name)
		}
		s.index.Add(rec.ID, h)
		if err := s.deps.Images.Use(ctx, rec.ID, rec.Image.ID); err != nil {
			s.log.Warn("container's image is not there", "container", rec.ID, "error", err)
		}
		s.mounts.Restore(ctx, rec.ID, rec.Mounts)
		if !rec.State.StartedAt.IsZero() {
			if err := s.launcher.ShipLogs(rec); err != nil {
				s.log.Warn("send logs on", "container", rec.ID, "error", err)
			}
		}
	}
	return handles, nil
}

// read makes a container of its record; nil when the record is damaged.
func (s *Service) read(key string, doc []byte) *handle {
	rec := &core.Record{}
	if err := json.Unmarshal(doc, rec); err != nil || !rec.Whole(key) {
		s.log.Error("container record cannot be read: its files stay until it is removed by its whole ID", "container", key, "error", err)
		s.damaged.Store(key, true)
		return nil
	}
	return newHandle(rec)
}

// adoptAll looks for the shims of all containers that ran, several at once: a shim that hangs must not hold up the others.
func (s *Service) adoptAll(ctx context.Context, handles []*handle) []runtime.Adopted {
	found := make([]runtime.Adopted, len(handles))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i, h := range handles {
		rec := h.record()
		if rec.Run == nil || (!rec.State.Live() && rec.State.Phase != core.Starting) {
			continue
		}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			a, err := s.launcher.Adopt(ctx, rec)
			if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
				s.log.Warn("adopt container", "container", rec.ID, "error", err)
			}
			if a.Process != nil && a.Process.PID() == 0 && rec.State.Phase == core.Starting {
				a.Process = nil // never got its start; its shim ends by itself
			}
			found[i] = a
		})
	}
	wg.Wait()
	return found
}

// resume brings one container's state in line with what was found. Its actor does not run yet.
func (s *Service) resume(ctx context.Context, h *handle, a runtime.Adopted) {
	rec := h.record()
	switch {
	case a.Process != nil:
		s.adopt(ctx, h, a.Process)
	case rec.State.Live():
		exit := a.Exit
		if exit == nil {
			exit = &runtime.Exit{Code: 255, At: s.deps.Now(), Error: "the container's shim was lost while the daemon was down"}
		}
		h.later(func(ctx context.Context) { s.ended(ctx, h, *exit) })
	case rec.State.Phase == core.Starting:
		s.undoStart(ctx, h, a.Exit)
	case rec.State.Phase == core.Removing:
		h.later(func(ctx context.Context) { _ = s.destroy(context.WithoutCancel(ctx), h, false) })
	default: // its last run, or a copy from or to its root, may not have been taken down
		h.later(func(ctx context.Context) { s.release(context.WithoutCancel(ctx), h) })
		s.atBoot(h)
	}
}

// adopt goes on with a process that another daemon started.
func (s *Service) adopt(ctx context.Context, h *handle, p runtime.Process) {
	s.holdRoot(h)
	l := &live{Process: p}
	h.room.Begin(ctx, l)
	rec := h.record()
	if rec.State.Phase == core.Starting {
		next := *rec
		next.State.Phase, next.State.PID = core.Running, p.PID()
		next.State.StartedAt, next.State.Before = s.deps.Now().UTC(), ""
		if err := s.save(ctx, &next, state.Volatile); err != nil {
			s.log.Error("store container", "container", h.id, "error", err)
		}
		h.publish(&next)
	}
	h.later(func(actor context.Context) {
		h.tasks.Go(func() { s.watch(actor, h, l) })
		if h.record().Spec().Health {
			s.startProbing(actor, h)
		}
	})
}

// undoStart: the daemon died within a start of which nobody was told. If the process ran, its end counts.
func (s *Service) undoStart(ctx context.Context, h *handle, exit *runtime.Exit) {
	next := *h.record()
	next.State.Phase, next.State.Before = next.State.Before, ""
	if next.State.Phase == core.Restarting {
		next.State.Phase = core.Exited
	}
	if next.Run == nil {
		next.Run = s.launcher.Begun(&next)
	}
	if exit != nil {
		next.State.Phase, next.State.ExitCode, next.State.FinishedAt = core.Exited, exit.Code, exit.At
		next.State.Exits++
	}
	if err := s.save(ctx, &next, state.Volatile); err != nil {
		s.log.Error("store container", "container", h.id, "error", err)
	}
	h.publish(&next)
	h.later(func(ctx context.Context) { s.release(context.WithoutCancel(ctx), h) })
	s.atBoot(h)
}

// atBoot applies restart policy and auto-remove to a container that does not run.
func (s *Service) atBoot(h *handle) {
	rec := h.record()
	switch {
	case core.StartsAtBoot(rec.HostConfig.RestartPolicy, rec.State):
		h.later(func(ctx context.Context) { s.restartDue(ctx, h, core.RestartDue{Boot: true}) })
	case rec.HostConfig.AutoRemove && rec.State.Phase == core.Exited:
		h.later(func(ctx context.Context) { _ = s.destroy(context.WithoutCancel(ctx), h, true) })
	case rec.State.Phase == core.Restarting:
		h.later(func(ctx context.Context) { _ = s.apply(ctx, h, core.Stopping{Restart: true}) })
	}
}

// emptyTrash finishes removals that a dead daemon had begun.
func (s *Service) emptyTrash(ctx context.Context) error {
	var left []debris
	err := s.deps.Store.Each(ctx, trash, func(key string, doc []byte) error {
		var d debris
		if err := json.Unmarshal(doc, &d); err == nil && d.Record != nil {
			left = append(left, d)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read trash: %w", err)
	}
	for _, d := range left {
		if _, alive := s.index.Get(d.Record.ID); alive {
			// The record outlived its removal: nobody was told that it is gone.
			_ = s.deps.Store.Delete(ctx, trash, d.Record.ID, state.Volatile)
			continue
		}
		s.launcher.Down(ctx, d.Record)
		s.launcher.UnmountRoot(ctx, d.Record.ID)
		s.mounts.Drop(ctx, d.Record.ID, d.Record.Mounts, d.Volumes)
		s.discard(ctx, d.Record.ID)
	}
	return nil
}

// sweep removes directories, mounts and snapshots that belong to no record: what a daemon left that died within a create.
func (s *Service) sweep(ctx context.Context) error {
	ids, err := s.deps.Disk.Found()
	if err != nil {
		return fmt.Errorf("sweep container directories: %w", err)
	}
	for _, id := range ids {
		_, known := s.index.Get(id)
		if _, damaged := s.damaged.Load(id); known || damaged || len(id) != 64 {
			continue
		}
		s.log.Info("sweep files without container", "container", id)
		s.clear(ctx, id)
	}
	return nil
}

// clear takes everything down and away that a container without a record in the index may have.
func (s *Service) clear(ctx context.Context, id string) {
	s.launcher.Down(ctx, s.launcher.Orphan(id))
	s.launcher.UnmountRoot(ctx, id)
	s.discard(ctx, id)
}

// Shutdown ends the containers unless live-restore is on; restart policies wait for the next start of the daemon.
func (s *Service) Shutdown(ctx context.Context) error {
	s.closing.Do(func() { close(s.down) })
	live := s.live.Load()
	if live.LiveRestore {
		return nil
	}
	if live.ShutdownTimeout > 0 { // negative: as long as it takes
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, live.ShutdownTimeout)
		defer cancel()
	}
	var wg sync.WaitGroup
	for _, h := range s.index.All() {
		if rec := h.record(); rec.State.Live() {
			wg.Go(func() {
				if err := s.end(ctx, h, rec.StopSignal(), rec.StopTimeout()); err != nil {
					s.log.Warn("stop container at shutdown", "container", h.id, "error", err)
				}
			})
		}
	}
	wg.Wait()
	return nil
}
