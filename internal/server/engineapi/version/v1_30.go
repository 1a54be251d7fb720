package version

import (
	"context"

	"longshore/internal/base/jsontree"
	"longshore/internal/server/route"
)

// v1_30 is what 1.30 changed against 1.29 (changelog, "v1.30 API changes"; daemon source of 17.06).
func v1_30() Rung {
	return Rung{
		Version: "1.30", Source: "version-history.md",
		Dialect: func(d *route.Dialect) { d.LateWaitHeaders = true },
		Changes: []Change{
			{What: "aux message with the built image's ID", Routes: []string{buildRoute}, Reply: withoutAux},
			{What: "copyUIDGID", Routes: []string{"PUT /containers/{id}/archive"}, Lift: dropQuery("copyUIDGID")},
			{What: "condition of wait; headers only with its result", Routes: []string{waitRoute}, Lift: dropQuery("condition"), Reply: lateHeaders},
			{What: "Log plugins of info", Routes: []string{info}, Lower: hideFields("Plugins.Log")},
		},
	}
}

// withoutAux leaves out aux messages.
func withoutAux(_ *route.Request, resp route.Response) (route.Response, error) {
	l, ok := resp.(route.Lines)
	if !ok {
		return resp, nil
	}
	run := l.Run
	l.Run = func(ctx context.Context, emit func(any) error) error {
		return run(ctx, func(obj any) error {
			v, err := jsontree.Of(obj)
			if err != nil {
				return err
			}
			if v.Has("aux") {
				return nil
			}
			return emit(v)
		})
	}
	return l, nil
}

// lateHeaders sends the headers with the first object, not before.
func lateHeaders(_ *route.Request, resp route.Response) (route.Response, error) {
	if l, ok := resp.(route.Lines); ok {
		l.Early = false
		return l, nil
	}
	return resp, nil
}
