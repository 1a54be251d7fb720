package version

import (
	"context"

	"longshore/internal/base/jsontree"
	"longshore/internal/server/route"
)

// v1_36 is what 1.36 changed against 1.35 (changelog, "v1.36 API changes").
func v1_36() Rung {
	return Rung{Version: "1.36", Source: "version-history.md", Changes: []Change{{
		What: "exec_die events", Routes: []string{eventsRoute},
		Reply: withoutEvents(func(e *jsontree.Value) bool { return e.Member("Action").String() == "exec_die" }),
	}}}
}

// withoutEvents makes a Reply that leaves out events which the version did not send.
func withoutEvents(unknown func(e *jsontree.Value) bool) func(*route.Request, route.Response) (route.Response, error) {
	return func(_ *route.Request, resp route.Response) (route.Response, error) {
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
				if unknown(v) {
					return nil
				}
				return emit(v)
			})
		}
		return l, nil
	}
}
