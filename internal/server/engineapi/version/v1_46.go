package version

import (
	"context"

	"longshore/internal/base/jsontree"
	"longshore/internal/server/route"
)

// v1_46 is what 1.46 changed against 1.45 (changelog, "v1.46 API changes"; daemon's events handler).
func v1_46() Rung {
	return Rung{Version: "1.46", Source: "version-history.md", Changes: []Change{
		{What: "options of tmpfs mounts", Routes: []string{create}, Lift: func(r *Request) error {
			return eachMount(r, func(m *jsontree.Value) error {
				m.Member("TmpfsOptions").Delete("Options")
				return nil
			})
		}},
		{What: "annotations of the container list", Routes: []string{list}, LowerEach: hideFields("HostConfig.Annotations")},
		{What: "image create events", Routes: []string{eventsRoute}, Reply: withoutImageCreate},
		{What: "platform of a push", Routes: []string{imagePush}, Lift: dropQuery("platform")},
		{What: "Containerd of info", Routes: []string{info}, Lower: hideFields("Containerd")},
	}}
}

// withoutImageCreate leaves out the events that 1.46 brought.
func withoutImageCreate(_ *route.Request, resp route.Response) (route.Response, error) {
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
			if v.Member("Type").String() == "image" && v.Member("Action").String() == "create" {
				return nil
			}
			return emit(route.Encoded(v.AppendTo(nil)))
		})
	}
	return l, nil
}
