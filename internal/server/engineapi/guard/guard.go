// Package guard stands between the routes of the engine API and their handlers and holds callers who show a token to what
// it grants. It works on requests that the version ladder has lifted: what it has checked it writes back, and that is
// what the handler reads.
package guard

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"longshore/internal/core/fault"
	"longshore/internal/core/grant"
	"longshore/internal/driver/auditlog"
	"longshore/internal/server/route"
)

// Tokens finds what a token allows. Implemented by driver/grantfile.
type Tokens interface {
	Find(token string) (*grant.Grant, error)
}

// Objects are what tokens are checked against. Errors are the services' own.
type Objects interface {
	Container(ctx context.Context, ref string) (id string, labels map[string]string, err error)
	Network(ctx context.Context, ref string) (id string, labels map[string]string, err error)
	Volume(ctx context.Context, name string) (labels map[string]string, err error)
	MakeVolume(ctx context.Context, name string, labels map[string]string) error
	Image(ctx context.Context, ref string) (labels map[string]string, err error)
	// ExecContainer is the container of an exec.
	ExecContainer(id string) (string, error)
	// Resolve follows the links of a path on the host.
	Resolve(path string) (string, error)
}

// Audit writes entries down. Implemented by driver/auditlog.
type Audit interface {
	Append(e auditlog.Entry) error
}

// Guard is safe for concurrent use.
type Guard struct {
	tokens  Tokens
	objects Objects
	audit   Audit
	require []string
	log     *slog.Logger
}

// New makes a guard. Callers over one of the networks of require ("tcp", "unix") must have a token; others need none, and
// are held to it when they show one.
func New(tokens Tokens, objects Objects, audit Audit, require []string, log *slog.Logger) *Guard {
	return &Guard{tokens, objects, audit, require, log}
}

// Wrap puts the guard before each route. Old routes, whose requests nobody lifts, are closed to callers with tokens.
func (g *Guard) Wrap(routes []route.Route, old bool) []route.Route {
	out := slices.Clone(routes)
	for i, r := range routes {
		c := call{g: g, key: r.Key(), operation: grant.Operation(r.Key()), old: old, handle: r.Handle}
		out[i].Handle = c.serve
	}
	return out
}

// call is one guarded operation.
type call struct {
	g              *Guard
	key, operation string
	old            bool
	handle         route.Handler
}

func (c call) serve(ctx context.Context, r *route.Request) (route.Response, error) {
	allowed, err := c.g.caller(ctx, r.HTTP)
	if err != nil {
		return nil, err
	}
	if allowed == nil {
		return c.handle(ctx, r)
	}
	if c.operation == "_ping/get" || grant.From(ctx) != nil { // nothing to write down; an operation that calls another
		return c.handle(ctx, r)
	}
	e := auditlog.Entry{Time: time.Now().UTC(), Token: allowed.ID, Name: allowed.Name, Remote: r.HTTP.RemoteAddr, Operation: c.operation}
	err = c.check(ctx, allowed, r)
	e.Object, e.Allowed = object(r), err == nil
	if err != nil {
		e.Error = err.Error()
	}
	if aerr := c.g.audit.Append(e); aerr != nil { // what cannot be written down is not done
		c.g.log.Error("audit log cannot be written", "error", aerr)
		return nil, fault.Unavailable("the audit log cannot be written")
	}
	if err != nil {
		return nil, err
	}
	return c.handle(grant.Into(ctx, allowed), r)
}

// caller gives the grant of who shows a token, nil for one who shows none and need not.
func (g *Guard) caller(ctx context.Context, r *http.Request) (*grant.Grant, error) {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return g.tokens.Find(strings.TrimSpace(token))
	}
	if len(g.require) == 0 {
		return nil, nil
	}
	network := "tcp"
	if a, ok := ctx.Value(http.LocalAddrContextKey).(net.Addr); ok {
		network = a.Network()
	}
	if slices.Contains(g.require, network) {
		return nil, fault.Unauthorized("this daemon asks for a token here: have one made with \"longshore token add\" and send it as \"Authorization: Bearer …\" (HttpHeaders in ~/.docker/config.json)")
	}
	return nil, nil
}

func (c call) check(ctx context.Context, allowed *grant.Grant, r *route.Request) error {
	if c.old {
		return fault.Forbidden("token: operations of API versions before 1.24 are not for callers with tokens")
	}
	if !allowed.Allows(c.operation) {
		return fault.Forbidden("token: %s is not among the operations of %q", c.operation, allowed.Name)
	}
	return (&scope{ctx: ctx, allowed: allowed, objects: c.g.objects, r: r}).check(c.key)
}

// object is what an audit entry names.
func object(r *route.Request) string {
	for _, v := range []string{r.Vars["id"], r.Vars["name"], r.Query.Get("container"), r.Query.Get("name"), r.Query.Get("fromImage"), r.Query.Get("t")} {
		if v != "" {
			return v
		}
	}
	return ""
}

// errNoSuch hides what is there but not for this caller.
func errNoSuch(kind, ref string) error { return fault.NotFound("No such %s: %s", kind, ref) }

var errNamespace = errors.New("token: not within a label namespace")
