package token

import (
	"slices"
	"strings"

	"longshore/internal/core/distribution"
	"longshore/internal/service/auth"
)

// maxScopes bounds what one token is asked for.
const maxScopes = 100

// maxActions bounds the actions of one scope.
const maxActions = 16

// ParseScopes reads scopes of the grammar of distribution's scope.md: several values, each a list with spaces between.
// What is asked for twice is joined. What is malformed asks for nothing: it is not the token server that tells errors
// of authorisation.
func ParseScopes(values []string) []auth.Grant {
	var out []auth.Grant
	for _, v := range values {
		for text := range strings.FieldsSeq(v) {
			g, ok := parseScope(text)
			if !ok {
				continue
			}
			i := slices.IndexFunc(out, func(have auth.Grant) bool { return have.Type == g.Type && have.Name == g.Name })
			switch {
			case i >= 0:
				out[i].Actions = union(out[i].Actions, g.Actions)
			case len(out) < maxScopes:
				out = append(out, g)
			}
		}
	}
	return out
}

// parseScope reads one scope. A class ("repository(plugin)") is deprecated and dropped.
func parseScope(text string) (auth.Grant, bool) {
	g, ok := auth.ParseScope(text)
	if !ok || len(g.Actions) == 0 || len(g.Actions) > maxActions {
		return auth.Grant{}, false
	}
	kind, class, classed := strings.Cut(g.Type, "(")
	if !word(kind) || classed && (!strings.HasSuffix(class, ")") || !word(class[:len(class)-1])) {
		return auth.Grant{}, false
	}
	g.Type = kind
	for _, a := range g.Actions {
		if a != "*" && strings.Trim(a, "abcdefghijklmnopqrstuvwxyz") != "" {
			return auth.Grant{}, false
		}
	}
	g.Actions = union(nil, g.Actions)
	switch kind {
	case "repository":
		_, err := distribution.ParseRepoName(g.Name)
		return g, err == nil
	case "registry":
		return g, word(g.Name)
	}
	return auth.Grant{}, false
}

// word is the grammar's resourcetypevalue.
func word(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

func union(have, more []string) []string {
	for _, a := range more {
		if !slices.Contains(have, a) {
			have = append(have, a)
		}
	}
	return have
}

// scopeText writes grants as oauth.md's answers do: one scope for each.
func scopeText(grants []auth.Grant) string {
	out := make([]string, len(grants))
	for i, g := range grants {
		out[i] = g.String()
	}
	return strings.Join(out, " ")
}
