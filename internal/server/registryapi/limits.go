package registryapi

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/time/rate"

	"longshore/internal/core/distribution"
)

// limits bound requests per second. A second's worth may come at once.
type limits struct {
	all     *rate.Limiter
	methods map[string]*rate.Limiter
}

func newLimits(o Options) limits {
	l := limits{methods: map[string]*rate.Limiter{}}
	if o.Rate > 0 {
		l.all = rate.NewLimiter(rate.Limit(o.Rate), o.Rate)
	}
	for m, n := range o.MethodRates {
		if n > 0 {
			l.methods[strings.ToUpper(m)] = rate.NewLimiter(rate.Limit(n), n)
		}
	}
	return l
}

func (l *limits) take(x *exchange) error {
	if l.all != nil && !l.all.Allow() {
		return distribution.TooMany("too many requests")
	}
	if m := l.methods[x.r.Method]; m != nil && !m.Allow() {
		return distribution.TooMany("too many %s requests", x.r.Method)
	}
	return nil
}

// origins are the web pages that may use the API.
type origins struct {
	all   bool
	names []string
}

func newOrigins(names []string) origins {
	o := origins{all: slices.Contains(names, "*")}
	for _, n := range names {
		if n = strings.TrimRight(strings.TrimSpace(n), "/"); n != "" && n != "*" {
			o.names = append(o.names, n)
		}
	}
	return o
}

// answer adds what a browser wants to know, and answers OPTIONS. Credentials are allowed to origins that are named, not
// to "*".
func (o *origins) answer(x *exchange) bool {
	origin := x.r.Header.Get("Origin")
	named := slices.Contains(o.names, origin)
	if origin != "" && (named || o.all) {
		h := x.Header()
		h.Set("Access-Control-Expose-Headers", "Docker-Content-Digest, Link, Location, OCI-Subject, OCI-Filters-Applied, OCI-Tag, Range, WWW-Authenticate")
		if named {
			h.Set("Access-Control-Allow-Origin", origin)
			h.Set("Access-Control-Allow-Credentials", "true")
			h.Add("Vary", "Origin")
		} else {
			h.Set("Access-Control-Allow-Origin", "*")
		}
	}
	if x.r.Method != http.MethodOptions {
		return false
	}
	if origin != "" && (named || o.all) {
		h := x.Header()
		h.Set("Access-Control-Allow-Methods", "HEAD, GET, POST, PUT, PATCH, DELETE, OPTIONS")
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Content-Range, Range, Accept, If-None-Match, X-ZOT-API-CLIENT")
		h.Set("Access-Control-Max-Age", "600")
	}
	x.WriteHeader(http.StatusNoContent)
	return true
}

// sameSite says that a request that would use a cookie comes from a page of ours or of an origin that is named.
func (o *origins) sameSite(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if slices.Contains(o.names, origin) {
		return true
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return true
	case "":
		if origin == "" {
			return true // no browser
		}
		u, err := url.Parse(origin)
		return err == nil && u.Host == r.Host
	}
	return false
}
