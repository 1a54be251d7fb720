// Package condition computes the conditions of zot's access policies: boolean expressions over a request in the part of
// the Common Expression Language that such conditions need.
//
//	e, err := condition.Compile(`req.time < timestamp("2099-12-31T23:59:59Z") && req.referenceType == "digest"`)
//	ok, err := e.Eval(&facts)
//
// There are literals, lists, == != < <= > >= in, && || ! ?:, + - * / %, fields
// and indexes, size, timestamp, duration, string, int, has, startsWith, endsWith, contains, matches, the parts of a
// timestamp (getHours and its kind, in UTC), and the macros exists and all. As in CEL, && and || do not fail when one
// side decides alone. Names that do not exist are refused by Compile.
package condition

import (
	"fmt"
	"strings"
	"time"
)

// Facts is a request as conditions see it, under the name req.
type Facts struct {
	Time              time.Time
	Method, UserAgent string
	Action            string
	Repository        string
	// Reference is a tag or a digest, empty when the request has none.
	Reference string
	User      string
	Groups    []string
	Admin     bool
	// ClientIP is the peer's address; ForwardedFor is what it claims, and untrusted.
	ClientIP     string
	ForwardedFor []string
	// TLSVersion is "1.3" and the like, empty without TLS.
	TLSVersion string
	Claims     map[string]any
}

// fields are the paths below req.
var fields = map[string]func(*Facts) any{
	"time":                func(f *Facts) any { return f.Time },
	"method":              func(f *Facts) any { return f.Method },
	"userAgent":           func(f *Facts) any { return f.UserAgent },
	"action":              func(f *Facts) any { return f.Action },
	"repository":          func(f *Facts) any { return f.Repository },
	"reference":           func(f *Facts) any { return f.Reference },
	"referenceType":       func(f *Facts) any { return f.referenceType() },
	"tag":                 func(f *Facts) any { return f.when("tag") },
	"digest":              func(f *Facts) any { return f.when("digest") },
	"user.username":       func(f *Facts) any { return f.User },
	"user.groups":         func(f *Facts) any { return list(f.Groups) },
	"auth.anonymous":      func(f *Facts) any { return f.User == "" },
	"auth.admin":          func(f *Facts) any { return f.Admin },
	"client.ip":           func(f *Facts) any { return f.ClientIP },
	"client.forwardedFor": func(f *Facts) any { return list(f.ForwardedFor) },
	"tls.enabled":         func(f *Facts) any { return f.TLSVersion != "" },
	"tls.version":         func(f *Facts) any { return f.TLSVersion },
	"claims":              func(f *Facts) any { return f.claims() },
}

func (f *Facts) referenceType() string {
	switch {
	case f.Reference == "":
		return ""
	case strings.Contains(f.Reference, ":"):
		return "digest"
	}
	return "tag"
}

func (f *Facts) when(kind string) string {
	if f.referenceType() == kind {
		return f.Reference
	}
	return ""
}

func (f *Facts) claims() map[string]any {
	if f.Claims == nil {
		return map[string]any{}
	}
	return f.Claims
}

func list(s []string) []any {
	out := make([]any, len(s))
	for i, v := range s {
		out[i] = v
	}
	return out
}

// maxExpression bounds an expression in bytes.
const maxExpression = 8 << 10

// Expr is a compiled expression, safe for concurrent use.
type Expr struct{ eval eval }

// Compile reads an expression.
func Compile(text string) (*Expr, error) {
	if len(text) > maxExpression {
		return nil, fmt.Errorf("longer than %d bytes", maxExpression)
	}
	tokens, err := lex(text)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	e, err := p.expr()
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != end {
		return nil, fmt.Errorf("unexpected %q", t.text)
	}
	return &Expr{e}, nil
}

// Eval computes the expression. An expression that is not a boolean, or that fails, is an error.
func (e *Expr) Eval(f *Facts) (bool, error) {
	v, err := e.eval(&env{facts: f})
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("the condition is no boolean")
	}
	return b, nil
}
