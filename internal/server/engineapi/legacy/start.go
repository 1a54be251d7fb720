package legacy

import (
	"context"
	"encoding/json"
	"io"

	"github.com/moby/moby/api/types/container"

	"longshore/internal/base/jsontree"
	"longshore/internal/core/fault"
	"longshore/internal/server/route"
)

// start takes a host configuration in its body, as 1.3 to 1.23 did. What the body leaves out or gives as empty stays as
// the container was created.
func (h *handlers) start(ctx context.Context, r *route.Request) (route.Response, error) {
	asked, err := hostConfig(r)
	if err != nil {
		return nil, err
	}
	r.SetBody(nil)
	if asked != nil {
		change := func(hc *container.HostConfig) error { return overlay(hc, asked) }
		if err := h.containers.Reconfigure(ctx, r.Var("id"), change); err != nil {
			return nil, err
		}
	}
	return h.pass(ctx, "POST /containers/{id}/start", r)
}

// hostConfig reads the settings that the body gives a value; nil for none.
func hostConfig(r *route.Request) (*jsontree.Value, error) {
	src := r.Payload()
	if src == nil {
		return nil, nil
	}
	doc, err := io.ReadAll(io.LimitReader(src, route.MaxBody+1))
	if err != nil {
		return nil, fault.Invalid("read request body: %v", err)
	}
	if len(doc) > route.MaxBody {
		return nil, fault.Invalid("request body is larger than %d bytes", route.MaxBody)
	}
	if len(doc) == 0 {
		return nil, nil
	}
	v, err := jsontree.Parse(doc)
	if err != nil {
		return nil, fault.Invalid("invalid JSON: %v", err)
	}
	for _, k := range append([]string(nil), v.Keys()...) {
		if v.Member(k).Empty() {
			v.Delete(k)
		}
	}
	if v.Len() == 0 {
		return nil, nil
	}
	return v, nil
}

// overlay lays settings over a host configuration, touching nothing that it points at.
func overlay(hc *container.HostConfig, asked *jsontree.Value) error {
	doc, err := json.Marshal(hc)
	if err != nil {
		return err
	}
	var next container.HostConfig
	if err := json.Unmarshal(doc, &next); err != nil {
		return err
	}
	if asked.Has("Memory") {
		next.MemorySwap = 0 // it was settled for the memory of before
	}
	if err := asked.Decode(&next); err != nil {
		return fault.Invalid("invalid JSON: %v", err)
	}
	*hc = next
	return nil
}
