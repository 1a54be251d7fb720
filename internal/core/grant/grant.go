// Package grant says what a caller of the engine API who shows a token may do, and checks it on the structures that the
// engine executes.
package grant

import (
	"context"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"longshore/internal/core/fault"
)

// Grant is what one token allows. A caller without a token is not bound by any.
type Grant struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Operations are patterns of "kind/action" ("containers/list", "images/pull", "exec/start"); * stands for anything
	// without a slash, "**" alone for everything.
	Operations []string `json:"operations"`
	// Labels make a namespace: only objects that have all of them are seen, and what is made gets them.
	Labels map[string]string `json:"labels,omitempty"`
	// Binds are the directories of the host that may be mounted, with what is below them.
	Binds []string `json:"binds,omitempty"`
	// Privileged allows what reaches out of a container: host namespaces, devices, capabilities, privileged mode.
	Privileged bool `json:"privileged,omitempty"`
	// RedactEnv hides the values of environment variables in inspect.
	RedactEnv bool      `json:"redactEnv,omitempty"`
	Created   time.Time `json:"created"`
	// Expires is zero for a token without an end.
	Expires time.Time `json:"expires,omitzero"`
	// Hash is the SHA-256 of the secret, in hexadecimal digits.
	Hash string `json:"hash"`
}

// Validate checks a grant before it is stored.
func (g *Grant) Validate() error {
	if g.Name == "" || len(g.Name) > 100 || strings.ContainsAny(g.Name, "\n\r\t") {
		return fault.Invalid("a token needs a name of up to 100 characters")
	}
	if len(g.Operations) == 0 {
		return fault.Invalid("a token needs operations, such as containers/* or **")
	}
	for _, o := range g.Operations {
		if _, err := path.Match(o, ""); err != nil || o != "**" && o != "_ping" && strings.Count(o, "/") != 1 {
			return fault.Invalid("operation %q is not of the form kind/action, such as containers/list or images/*", o)
		}
	}
	for _, b := range g.Binds {
		if !path.IsAbs(b) || path.Clean(b) != b {
			return fault.Invalid("bind source %q must be a clean absolute path", b)
		}
	}
	for k := range g.Labels {
		if k == "" {
			return fault.Invalid("a label needs a name")
		}
	}
	return nil
}

// Expired tells whether the token's time is over.
func (g *Grant) Expired(now time.Time) bool { return !g.Expires.IsZero() && !now.Before(g.Expires) }

// Allows tells whether an operation is among those of the token. Everybody may ping.
func (g *Grant) Allows(operation string) bool {
	return operation == "_ping/get" || slices.ContainsFunc(g.Operations, func(p string) bool {
		ok, _ := path.Match(p, operation) // patterns were validated
		return p == "**" || ok
	})
}

// Sees tells whether an object with the labels is in the token's namespace.
func (g *Grant) Sees(labels map[string]string) bool {
	for k, v := range g.Labels {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	return true
}

// Label gives labels with those of the namespace. Asking for another value of one of these is an error.
func (g *Grant) Label(labels map[string]string) (map[string]string, error) {
	for k, v := range g.Labels {
		if have, ok := labels[k]; ok && have != v {
			return nil, denied("label %s must be %q", k, v)
		}
	}
	out := maps.Clone(labels)
	if out == nil && len(g.Labels) > 0 {
		out = map[string]string{}
	}
	maps.Copy(out, g.Labels)
	return out, nil
}

// Env gives environment variables as the caller may see them in inspect.
func Env(ctx context.Context, env []string) []string {
	if g := From(ctx); g == nil || !g.RedactEnv {
		return env
	}
	out := make([]string, len(env))
	for i, kv := range env {
		k, _, _ := strings.Cut(kv, "=")
		out[i] = k + "=<redacted>"
	}
	return out
}

// HidesEnv tells whether the caller may not see the values of environment variables.
func HidesEnv(ctx context.Context) bool {
	g := From(ctx)
	return g != nil && g.RedactEnv
}

func denied(format string, args ...any) error {
	return fault.Forbidden("token: "+format, args...)
}

// Operation names an operation by the key of its route: "POST /containers/{id}/start" is "containers/start".
func Operation(key string) string {
	method, pattern, _ := strings.Cut(key, " ")
	var words []string
	named := false // the last segment is a variable
	for s := range strings.SplitSeq(strings.Trim(pattern, "/"), "/") {
		if named = strings.HasPrefix(s, "{"); !named {
			words = append(words, s)
		}
	}
	if len(words) == 0 {
		return "any/" + strings.ToLower(method)
	}
	kind, action := words[0], strings.Join(words[1:], "-")
	verb := map[string]string{"GET": "get", "HEAD": "get", "POST": "do", "PUT": "put", "DELETE": "remove"}[method]
	switch {
	case key == "POST /images/create":
		action = "pull"
	case key == "GET /images/{name...}/get", key == "GET /images/get":
		action = "save"
	case action == "json" && pattern == "/"+kind+"/json":
		action = "list"
	case action == "json":
		action = "inspect"
	case action == "archive" && method == "PUT":
		action = "archive-put"
	case action == "checkpoints" && method != "GET":
		action = "checkpoints-" + verb
	case action == "" && named:
		action = map[string]string{"get": "inspect", "remove": "remove", "put": "update"}[verb]
	case action == "" && (kind == "networks" || kind == "volumes"):
		action = "list"
	case action == "":
		action = verb
	}
	return kind + "/" + action
}

type key struct{}

// Into puts a grant into a context; From takes it out, nil when the caller showed no token.
func Into(ctx context.Context, g *Grant) context.Context { return context.WithValue(ctx, key{}, g) }

// From gives the caller's grant, nil when there is none.
func From(ctx context.Context) *Grant {
	g, _ := ctx.Value(key{}).(*Grant)
	return g
}
