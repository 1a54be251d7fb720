// Package legacy has the engine API's operations that newer versions dropped or that old versions did in another way
// than a rewritten request can tell: they call the newest operations. Its routes go before those in the table, so that
// they win for their versions.
//
//	routes := slices.Concat(containers.Routes(svc), …)
//	routes = append(legacy.Routes(routes, svc), routes...)
package legacy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/moby/moby/api/types/container"

	"longshore/internal/core/fault"
	"longshore/internal/server/route"
)

// Containers changes containers as only old clients do.
type Containers interface {
	// Reconfigure changes the host configuration of a container that does not run; change may not edit what it points at.
	Reconfigure(ctx context.Context, ref string, change func(*container.HostConfig) error) error
}

// handlers call the newest operations by their route keys.
type handlers struct {
	newest     map[string]route.Handler
	containers Containers
	account    account
}

// Routes are the old operations; newest are the routes that they call.
func Routes(newest []route.Route, c Containers) []route.Route {
	h := &handlers{newest: map[string]route.Handler{}, containers: c}
	for _, r := range newest {
		h.newest[r.Key()] = r.Handle
	}
	return []route.Route{
		{Method: "GET", Pattern: "/auth", Since: "1.0", Until: "1.1", Handle: h.showAccount},
		{Method: "POST", Pattern: "/auth", Since: "1.0", Until: "1.1", Handle: h.login},
		{Method: "POST", Pattern: "/images/{name...}/push", Since: "1.0", Until: "1.1", Handle: h.push},
		{Method: "POST", Pattern: "/images/{name...}/insert", Since: "1.0", Until: "1.11", Handle: h.insert},
		{Method: "GET", Pattern: "/images/viz", Since: "1.0", Until: "1.6", Handle: h.viz},
		{Method: "POST", Pattern: "/images/getCache", Since: "1.0", Until: "1.4", Handle: h.getCache},
		{Method: "GET", Pattern: "/containers/ps", Since: "1.0", Until: "1.20", Handle: h.list},
		{Method: "POST", Pattern: "/containers/{id}/start", Since: "1.0", Until: "1.23", Handle: h.start},
		{Method: "GET", Pattern: "/exec/{id}/json", Since: "1.16", Until: "1.21", Handle: h.execInspect},
		{Method: "OPTIONS", Pattern: "/{any...}", Since: "1.2", Handle: options},
	}
}

// options answers preflights of browsers; without the daemon's permission there is nothing to tell them.
func options(context.Context, *route.Request) (route.Response, error) {
	return route.Empty{Status: http.StatusOK}, nil
}

// list is the first name of the container list.
func (h *handlers) list(ctx context.Context, r *route.Request) (route.Response, error) {
	return h.pass(ctx, "GET /containers/json", r)
}

// pass hands a request on.
func (h *handlers) pass(ctx context.Context, key string, r *route.Request) (route.Response, error) {
	op := h.newest[key]
	if op == nil {
		return nil, fault.NotFound("page not found")
	}
	return op(ctx, r)
}

// call is a request to a newest operation on behalf of an old one.
type call struct {
	key  string
	vars map[string]string
	q    url.Values
	body any // encoded as JSON unless an io.Reader; nil for none
}

// do performs a call.
func (h *handlers) do(ctx context.Context, c call) (route.Response, error) {
	method, _, _ := strings.Cut(c.key, " ")
	hr, err := http.NewRequestWithContext(ctx, method, "http://engine/", nil)
	if err != nil {
		return nil, err
	}
	if c.q == nil {
		c.q = url.Values{}
	}
	r := &route.Request{HTTP: hr, Vars: c.vars, Query: c.q}
	switch b := c.body.(type) {
	case nil:
	case io.Reader:
		r.Body = b
		hr.ContentLength = -1
	default:
		doc, err := json.Marshal(b)
		if err != nil {
			return nil, fmt.Errorf("%s: encode request: %w", c.key, err)
		}
		r.SetBody(doc)
		hr.Header.Set("Content-Type", "application/json")
	}
	return h.pass(ctx, c.key, r)
}

// ask performs a call whose answer is a document and decodes it.
func (h *handlers) ask(ctx context.Context, c call, into any) error {
	resp, err := h.do(ctx, c)
	if err != nil {
		return err
	}
	doc, ok := resp.(route.JSON)
	if !ok {
		return fault.Internal("%s answered no document", c.key)
	}
	b, err := json.Marshal(doc.Body)
	if err != nil {
		return fmt.Errorf("%s: encode answer: %w", c.key, err)
	}
	return json.NewDecoder(bytes.NewReader(b)).Decode(into)
}
