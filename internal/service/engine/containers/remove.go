package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
	"longshore/internal/core/state"
	"longshore/internal/service/engine/containers/launch"
	"longshore/internal/service/engine/containers/names"
	"longshore/internal/service/engine/containers/request"
)

// RemoveOptions say how far a removal goes.
type RemoveOptions struct {
	// Force kills a running container first. Volumes removes its anonymous volumes. Link removes a link, not a container.
	Force, Volumes, Link bool
}

// Remove deletes a container. When it answers, name and record are gone for good; files follow in the background.
func (s *Service) Remove(ctx context.Context, ref string, o RemoveOptions) error {
	if o.Link {
		return s.removeLink(ctx, strings.Trim(ref, "/"))
	}
	h, err := s.find(ref)
	if err != nil {
		return s.removeDamaged(ctx, ref, err)
	}
	rec := h.record()
	if rec.State.Active() && !o.Force {
		return request.CannotRemove(rec)
	}
	if o.Force {
		if err := s.killForRemoval(ctx, h); err != nil {
			return err
		}
	}
	err = h.do(context.WithoutCancel(ctx), func(ctx context.Context) error { return s.removeStopped(ctx, h, o) })
	if o.Force && errors.Is(err, errdefs.ErrNotFound) {
		return nil // auto-remove was faster
	}
	return err
}

// removeDamaged removes what there is of a container whose record could not be read; another's absence is told.
func (s *Service) removeDamaged(ctx context.Context, id string, absent error) error {
	if _, ok := s.damaged.LoadAndDelete(id); !ok {
		return absent
	}
	ctx = context.WithoutCancel(ctx)
	if err := s.deps.Store.Delete(ctx, bucket, id, state.Durable); err != nil {
		s.damaged.Store(id, true)
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	s.clear(ctx, id)
	return nil
}

// removeLink takes away what "parent/alias" names.
func (s *Service) removeLink(ctx context.Context, name string) error {
	parent, alias, whole := strings.Cut(name, "/")
	h, err := s.find(parent)
	switch {
	case err != nil:
		return fault.NotFound("No such container: %s", name)
	case !whole:
		return fault.Conflict("Conflict, cannot remove the default link name of the container")
	}
	return h.do(context.WithoutCancel(ctx), func(ctx context.Context) error {
		left, ok := launch.Unlink(h.record().HostConfig.Links, alias)
		if !ok {
			return fault.NotFound("No such container: %s", name)
		}
		err := s.change(ctx, h, state.Durable, func(r *core.Record) {
			hc := *r.HostConfig
			hc.Links, r.HostConfig = left, &hc
		})
		if err != nil {
			return err
		}
		return s.relink(ctx, h)
	})
}

// relink has a container learn of those that it links to as they are now.
func (s *Service) relink(ctx context.Context, h *handle) error {
	sb, err := s.deps.Launch.Networks.Rename(ctx, h.id, h.record().Name, h.record().HostConfig.Links)
	if err != nil || sb.Hosts == nil {
		return err
	}
	return s.launcher.WriteNames(h.id, sb)
}

// tellParents has the containers that link to this one learn of its address and name, each on its own actor.
func (s *Service) tellParents(h *handle) {
	h.later(func(ctx context.Context) {
		for _, parent := range s.index.All() {
			if rec := parent.record(); rec.State.Live() && launch.LinksTo(rec, h.record()) {
				h.tasks.Go(func() { _ = parent.do(ctx, func(ctx context.Context) error { return s.relink(ctx, parent) }) })
			}
		}
	})
}

// killForRemoval kills a container that lives, without giving auto-remove a chance to race.
func (s *Service) killForRemoval(ctx context.Context, h *handle) error {
	err := h.do(ctx, func(ctx context.Context) error { return s.apply(ctx, h, core.Stopping{Restart: true}) })
	if errors.Is(err, fault.ErrNotModified) || errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if !h.record().State.Live() {
		return nil
	}
	exits := h.record().State.Exits
	if err := s.killHard(ctx, h); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, killPatience)
	defer cancel()
	_, _, err = h.await(wait, func(r *core.Record) bool { return r.State.Exits != exits || !r.State.Live() })
	if err != nil {
		return fault.Internal("cannot remove container %q: could not kill container: tried to kill container, but did not receive an exit event", "/"+h.record().Name)
	}
	return nil
}

// removeStopped runs on the actor.
func (s *Service) removeStopped(ctx context.Context, h *handle, o RemoveOptions) error {
	ctx = context.WithoutCancel(ctx)
	rec := h.record()
	st, effects, err := core.Step(rec.Spec(), rec.State, core.RemoveAsked{})
	if err != nil {
		if rec.State.Phase == core.Removing {
			return fault.Conflict("removal of container %s is already in progress", rec.ID)
		}
		return request.CannotRemove(rec)
	}
	next := *rec
	next.State = st
	h.publish(&next)
	for _, e := range effects {
		_ = s.perform(ctx, h, e)
	}
	return s.destroy(ctx, h, o.Volumes)
}

// debris is what the trash bucket keeps of a container until its files are gone.
type debris struct {
	Record  *core.Record
	Volumes bool
}

// destroy deletes the record and what others could meet again (name, volumes, image use), tells everybody, and then
// removes files on the actor's own time. On the actor.
func (s *Service) destroy(ctx context.Context, h *handle, withVolumes bool) error {
	rec := h.record()
	doc, err := json.Marshal(debris{Record: rec, Volumes: withVolumes})
	if err == nil {
		err = s.deps.Store.Put(ctx, trash, rec.ID, doc, state.Volatile)
	}
	if err == nil || errors.Is(err, unix.ENOSPC) { // on a full disk what is removed makes room; a crash leaves it to the sweep then
		err = s.deps.Store.Delete(ctx, bucket, rec.ID, state.Durable)
	}
	if err != nil {
		_ = s.apply(ctx, h, core.RemoveFailed{Error: err.Error()})
		return fmt.Errorf("remove container %s: %w", rec.ID, err)
	}
	if withVolumes && len(rec.Mounts) > 0 {
		s.takeDown(ctx, h, rec) // a volume can be removed only once nothing has it mounted
		down := *rec
		down.Run = nil
		rec = &down
	}
	s.mounts.Drop(ctx, rec.ID, rec.Mounts, withVolumes)
	if err := s.deps.Images.Drop(ctx, rec.ID); err != nil {
		s.log.Warn("drop image use", "container", rec.ID, "error", err)
	}
	s.index.Remove(rec.ID, rec.Name)
	s.execs.forget(rec.ID)
	s.emit(ctx, rec, events.ActionDestroy, nil)
	h.room.Dismiss()
	h.over = true
	close(h.gone)
	h.later(func(ctx context.Context) {
		ctx = context.WithoutCancel(ctx)
		s.takeDown(ctx, h, rec)
		s.discard(ctx, rec.ID)
	})
	return nil
}

// discard removes the files of a container without record. What fails is tried again at the next start.
func (s *Service) discard(ctx context.Context, id string) {
	s.launcher.FinishLogs(ctx, id)
	err := s.deps.Images.Remove(ctx, id)
	if err == nil {
		err = s.deps.Disk.Delete(id)
	}
	if err == nil {
		err = s.deps.Store.Delete(ctx, trash, id, state.Volatile)
	}
	if err != nil {
		s.log.Error("remove files of container", "container", id, "error", err)
	}
}

// Rename gives a container another name.
func (s *Service) Rename(ctx context.Context, ref, newName string) error {
	h, err := s.find(ref)
	if err != nil {
		return err
	}
	if newName == "" {
		return fault.Invalid("Neither old nor new names may be empty")
	}
	name, err := core.ParseName(newName)
	if err != nil {
		return fault.Invalid("Error when allocating new name: %w", err)
	}
	return h.do(ctx, func(ctx context.Context) error {
		old := h.record().Name
		if name == old {
			return fault.Invalid("Renaming a container with the same name as its current name")
		}
		if owner, ok := s.index.Reserve(name, h.id); !ok {
			return fault.Conflict("Error when allocating new name: %w", names.Taken(name, owner))
		}
		err := s.change(ctx, h, state.Durable, func(r *core.Record) { r.Name = name })
		if err != nil {
			s.index.Release(name, h.id)
			return err
		}
		s.index.Release(old, h.id)
		if _, err := s.deps.Launch.Networks.Rename(ctx, h.id, name, h.record().HostConfig.Links); err != nil {
			s.log.Warn("rename in networks", "container", h.id, "error", err)
		}
		s.tellParents(h)
		s.event(ctx, h, events.ActionRename, map[string]string{"oldName": "/" + old})
		return nil
	})
}

// Update changes limits, live ones too, and the restart policy.
func (s *Service) Update(ctx context.Context, ref string, u *container.UpdateConfig) (*container.UpdateResponse, error) {
	h, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	if err := container.ValidateRestartPolicy(u.RestartPolicy); err != nil {
		return nil, fault.Invalid("%v", err)
	}
	warnings, err := s.deps.Validator.ValidateUpdate(&u.Resources)
	if err != nil {
		return nil, err
	}
	err = h.do(ctx, func(ctx context.Context) error { return s.update(ctx, h, u) })
	if err != nil {
		return nil, err
	}
	s.event(ctx, h, events.ActionUpdate, nil)
	if warnings == nil {
		warnings = []string{}
	}
	return &container.UpdateResponse{Warnings: warnings}, nil
}

func (s *Service) update(ctx context.Context, h *handle, u *container.UpdateConfig) error {
	rec := h.record()
	refuse := func(err error) error {
		return fault.New(request.ClassOf(err), "Cannot update container %s: %w", rec.ID, err)
	}
	if rec.State.Phase == core.Removing || rec.State.Phase == core.Dead {
		return refuse(fault.Conflict("container is marked for removal and cannot be \"update\""))
	}
	hc := *rec.HostConfig
	if err := request.MergeResources(&hc.Resources, &u.Resources); err != nil {
		return refuse(err)
	}
	if u.RestartPolicy.Name != "" {
		if hc.AutoRemove && !u.RestartPolicy.IsNone() {
			return refuse(fault.Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container"))
		}
		hc.RestartPolicy = u.RestartPolicy
	}
	if rec.State.Live() {
		if err := s.launcher.Update(ctx, rec, &hc.Resources); err != nil {
			return refuse(err)
		}
	}
	return s.change(ctx, h, state.Durable, func(r *core.Record) { r.HostConfig = &hc })
}
