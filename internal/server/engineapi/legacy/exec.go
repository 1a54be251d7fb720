package legacy

import (
	"context"

	"longshore/internal/base/jsontree"
	"longshore/internal/server/route"
)

// execInspect shows the whole container beside the exec, as 1.16 to 1.21 did; the ladder lowers it.
func (h *handlers) execInspect(ctx context.Context, r *route.Request) (route.Response, error) {
	resp, err := h.pass(ctx, "GET /exec/{id}/json", r)
	doc, ok := resp.(route.JSON)
	if err != nil || !ok {
		return resp, err
	}
	v, err := jsontree.Of(doc.Body)
	if err != nil {
		return nil, err
	}
	c, err := h.do(ctx, call{key: "GET /containers/{id}/json", vars: map[string]string{"id": v.Member("ContainerID").String()}})
	if err != nil {
		return nil, err
	}
	if shown, ok := c.(route.JSON); ok {
		v.Set("Container", shown.Body)
	}
	doc.Body = v
	return doc, nil
}
