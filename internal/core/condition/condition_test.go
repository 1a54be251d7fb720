package condition

import (
	"testing"
	"time"
)

func facts() *Facts {
	return &Facts{
		Time: time.Date(2026, 11, 21, 13, 30, 0, 0, time.UTC), Method: "PUT", UserAgent: "crane/1", Action: "create",
		Repository: "prod/app", Reference: "v1", User: "alice", Groups: []string{"dev", "ops"}, ClientIP: "10.0.0.5",
		ForwardedFor: []string{"192.0.2.7", "10.0.0.5"}, TLSVersion: "1.3",
		Claims: map[string]any{"sub": "x", "n": float64(3), "roles": []any{"a"}},
	}
}

func TestEval(t *testing.T) {
	for text, want := range map[string]bool{
		`req.time < timestamp("2099-12-31T23:59:59Z")`:                                         true,
		`req.referenceType == "digest"`:                                                        false,
		`req.tag == 'v1' && req.digest == ""`:                                                  true,
		`req.client.ip == "10.0.0.5" && req.client.forwardedFor[0].startsWith("192.0.2.")`:     true,
		`"ops" in req.user.groups`:                                                             true,
		`req.user.groups.exists(g, g == "dev") && !req.user.groups.all(g, g == "dev")`:         true,
		`req.time.getHours() >= 9 && req.time.getHours() < 17 && req.time.getDayOfWeek() != 0`: true,
		`req.time - duration("1h") < timestamp("2026-11-21T12:31:00Z")`:                        true,
		`req.action in ["read", "create"]`:                                                     true,
		`req.method == "PUT" ? req.tls.enabled : false`:                                        true,
		`req.tls.version >= "1.2"`:                                                             true,
		`req.repository.matches("^prod/[a-z]+$")`:                                              true,
		`has(req.claims.sub) && !has(req.claims.nothing)`:                                      true,
		`req.claims.n == 3 && "a" in req.claims["roles"]`:                                      true,
		`size(req.user.groups) + 1 == 3 && req.userAgent.size() == 7`:                          true,
		`req.auth.anonymous || req.auth.admin`:                                                 false,
		`req.claims.nothing == 1 || true`:                                                      true,
		`!(1 + 2 * 3 == 7)`:                                                                    false,
		`-1 < 0 && 1.5 > 1`:                                                                    true,
	} {
		e, err := Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := e.Eval(facts()); err != nil || got != want {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, text := range []string{
		``, `(`, `req`, `req.`, `req.nothing`, `nothing`, `f(1)`, `1 +`, `"a`, `[1, 2`, `a.b`, `1 2`, `req.tag.frob()`,
		`size()`, `req.user`, `x ? y`, "\xff",
	} {
		if _, err := Compile(text); err == nil {
			t.Errorf("%q compiles", text)
		}
	}
	for _, text := range []string{`1`, `req.claims.nothing == 1`, `1 / 0 == 1`, `"a" < 1`, `!1`, `req.user.groups[7] == ""`} {
		e, err := Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if ok, err := e.Eval(facts()); err == nil || ok {
			t.Errorf("%s: %v", text, ok)
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add(`req.user.groups.exists(g, g == "dev") && req.time < timestamp("2099-12-31T23:59:59Z")`)
	f.Add(`((((1+2)*3 % 4 == -1 ? [1] : [2, 'x'])[0]) in [])`)
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Compile(text)
		if err != nil {
			return
		}
		if ok, err := e.Eval(facts()); ok && err != nil {
			t.Error("both an answer and an error")
		}
	})
}
