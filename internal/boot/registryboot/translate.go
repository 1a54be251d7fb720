package registryboot

import (
	"strings"
	"time"

	"longshore/internal/boot/registryconfig"
	"longshore/internal/core/retention"
	"longshore/internal/server/registryapi"
	"longshore/internal/service/auth"
	"longshore/internal/service/registry"
)

// serviceConfig is the storage section in the service's words.
func (r *Registry) serviceConfig() registry.Config {
	cfg := r.cfg.Storage
	return registry.Config{
		Placements: r.shelves.placements, MaxRepos: cfg.MaxRepos, Shared: r.shelves.shared, Redirect: cfg.RedirectBlobURL,
		Sparse: !cfg.RequireLayers,
		GC:     gcConfig(cfg), Logger: r.log,
	}
}

// gcConfig: one collection serves all stores. It runs when any store wants it, and each store's retention holds for the
// repositories below its path.
func gcConfig(cfg registryconfig.Global) registry.GCConfig {
	gc := registry.GCConfig{
		Enabled: on(cfg.GC), Delay: cfg.GCDelay, Interval: cfg.GCInterval, Window: cfg.GCTimeWindow,
		Retention: retention.Config{DryRun: cfg.Retention.DryRun, Delay: *cfg.Retention.Delay},
	}
	for route, s := range cfg.SubPaths {
		prefix := strings.Trim(route, "/")
		gc.Enabled = gc.Enabled || on(s.GC)
		for _, p := range s.Retention.Policies {
			gc.Retention.Policies = append(gc.Retention.Policies, below(prefix, retentionPolicy(p)))
		}
		// What no policy of the store's own matches is kept, whatever the default store's say.
		gc.Retention.Policies = append(gc.Retention.Policies, retention.Policy{Repositories: []string{prefix + "/**", prefix}})
	}
	for _, p := range cfg.Retention.Policies {
		gc.Retention.Policies = append(gc.Retention.Policies, retentionPolicy(p))
	}
	return gc
}

func on(b *bool) bool { return b != nil && *b }

// below keeps a policy's patterns to the names under a prefix; patterns that cannot match any are dropped.
func below(prefix string, p retention.Policy) retention.Policy {
	var out []string
	for _, pattern := range p.Repositories {
		first, rest, more := strings.Cut(pattern, "/")
		switch {
		case pattern == "**":
			out = append(out, prefix, prefix+"/**")
		case first == "**":
			out = append(out, prefix+"/"+pattern)
		case first == prefix || pattern == "*":
			out = append(out, strings.Replace(pattern, first, prefix, 1))
		case first == "*" && more:
			out = append(out, prefix+"/"+rest)
		}
	}
	p.Repositories = out
	return p
}

func retentionPolicy(p registryconfig.Policy) retention.Policy {
	out := retention.Policy{Repositories: p.Repositories, DeleteReferrers: p.DeleteReferrers, DeleteUntagged: on(p.DeleteUntagged)}
	for _, k := range p.KeepTags {
		rule := retentionRule(k.KeepUntagged)
		rule.Patterns = k.Patterns
		out.KeepTags = append(out.KeepTags, rule)
	}
	// An empty keepUntagged keeps nothing, as if it were not there.
	if k := p.KeepUntagged; k != nil && *k != (registryconfig.KeepUntagged{}) {
		rule := retentionRule(*k)
		out.KeepUntagged = &rule
	}
	return out
}

func retentionRule(k registryconfig.KeepUntagged) retention.Rule {
	rule := retention.Rule{
		MostRecentlyPulledCount: k.MostRecentlyPulledCount, MostRecentlyPushedCount: k.MostRecentlyPushedCount,
	}
	if k.PulledWithin != nil {
		rule.PulledWithin = *k.PulledWithin
	}
	if k.PushedWithin != nil {
		rule.PushedWithin = *k.PushedWithin
	}
	return rule
}

// authConfig is the http.auth and http.accessControl sections in auth's words. Accounts and tokens of our own are as they
// were when the registry was built.
func (r *Registry) authConfig(h registryconfig.HTTP) auth.Config {
	out := auth.Config{AccessControl: accessControl(h.AccessControl), MTLSOn: needsCertificate(h), Now: r.options.Now}
	if a := r.cfg.HTTP.Auth; a != nil && a.Accounts != nil {
		out.Accounts = r.shelves.accounts
	}
	if r.own.ring != nil {
		t := r.cfg.HTTP.Auth.Token
		out.Bearer = &auth.BearerConfig{Realm: t.Realm, Service: t.Service, Issuer: t.Issuer, Own: r.own.ring}
	}
	a := h.Auth
	if a == nil {
		return out
	}
	out.HTPasswd, out.APIKeys = a.HTPasswd.Path, a.APIKey
	out.FailDelay = time.Duration(a.FailDelay) * time.Second
	out.HashKey, out.EncryptKey = a.HashKey, a.EncryptKey
	if b := a.Bearer; b != nil && r.own.ring == nil {
		out.Bearer = &auth.BearerConfig{Realm: b.Realm, Service: b.Service, Cert: b.Cert}
	}
	if m := a.MTLS; m != nil {
		out.MTLS = auth.MTLSConfig{
			Attributes: m.IdentityAttributes, URIPattern: m.URISANPattern,
			URIIndex: m.URISANIndex, DNSIndex: m.DNSSANIndex, EmailIndex: m.EmailSANIndex,
		}
	}
	return out
}

// needsCertificate says that there is an authority for client certificates, and so a way to have a name by one.
func needsCertificate(h registryconfig.HTTP) bool { return h.TLS != nil && h.TLS.CACert != "" }

func accessControl(a *registryconfig.AccessControl) *auth.AccessControl {
	if a == nil {
		return nil
	}
	out := &auth.AccessControl{
		Repositories: map[string]auth.PolicyGroup{}, Groups: map[string][]string{}, Admin: accessPolicy(a.AdminPolicy),
		MetricsUsers: a.Metrics.Users, MetricsAnonymous: len(a.Metrics.AnonymousPolicy) > 0,
	}
	for name, g := range a.Groups {
		if g != nil {
			out.Groups[name] = g.Users
		}
	}
	for pattern, g := range a.Repositories {
		group := auth.PolicyGroup{Default: actions(g.DefaultPolicy), Anonymous: actions(g.AnonymousPolicy)}
		for _, p := range g.Policies {
			group.Policies = append(group.Policies, accessPolicy(p))
		}
		out.Repositories[pattern] = group
	}
	return out
}

func accessPolicy(p registryconfig.AccessPolicy) auth.AccessPolicy {
	out := auth.AccessPolicy{Users: p.Users, Groups: p.Groups, Actions: actions(p.Actions)}
	for _, c := range p.Conditions {
		out.Conditions = append(out.Conditions, auth.Condition(c))
	}
	return out
}

func actions(names []string) []auth.Action {
	out := make([]auth.Action, len(names))
	for i, n := range names {
		out[i] = auth.Action(n)
	}
	return out
}

// apiOptions is the rest of the http section in the server's words.
func (r *Registry) apiOptions(cfg *registryconfig.Config) registryapi.Options {
	h := cfg.HTTP
	o := registryapi.Options{
		Logger: r.log, Audit: r.logs.audit, Handover: &r.desk, Metrics: r.metrics, MetricsPath: cfg.MetricsPath(), Realm: h.Realm,
		SecureCookies: h.TLS != nil || h.Auth != nil && on(h.Auth.SecureSession),
		Release:       registryapi.NewRelease(r.options.Version), MethodRates: map[string]int{}, Mounts: r.mounts,
	}
	if h.AllowOrigin != "" {
		o.AllowOrigins = strings.Split(h.AllowOrigin, ",")
	}
	if limit := h.Ratelimit; limit != nil {
		if limit.Rate != nil {
			o.Rate = *limit.Rate
		}
		for _, m := range limit.Methods {
			o.MethodRates[m.Method] = m.Rate
		}
	}
	return o
}
