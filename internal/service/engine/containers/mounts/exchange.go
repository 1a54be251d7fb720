package mounts

import (
	"context"
	"slices"

	core "longshore/internal/core/container"
)

// Exchange takes the volumes of next for a container that holds those of old; anonymous volumes keep their place. The
// container must hold them when it answers: accept says so, and an error of it, or of taking, leaves those of old.
func (r *Resolver) Exchange(ctx context.Context, id string, old, next []core.Mount, accept func() error) error {
	for i, m := range next {
		if j := find(old, m); j >= 0 && m.Anonymous {
			next[i] = old[j]
		}
	}
	err := r.Hold(ctx, id, next)
	if err == nil {
		if err = accept(); err != nil {
			r.giveBack(ctx, id, next, old)
			return err
		}
		r.giveBack(ctx, id, old, next)
		return nil
	}
	_ = r.Hold(ctx, id, old)
	return err
}

// giveBack releases the volumes of old that next does not name.
func (r *Resolver) giveBack(ctx context.Context, id string, old, next []core.Mount) {
	r.Drop(ctx, id, slices.DeleteFunc(slices.Clone(old), func(m core.Mount) bool { return find(next, m) >= 0 }), true)
}

// find looks for the mount of the same kind at the same place.
func find(list []core.Mount, m core.Mount) int {
	return slices.IndexFunc(list, func(o core.Mount) bool {
		return o.Destination == m.Destination && o.Type == m.Type && o.Anonymous == m.Anonymous && (m.Anonymous || o.Name == m.Name)
	})
}
