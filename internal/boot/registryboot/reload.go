package registryboot

import (
	"context"
	"reflect"
	"time"

	"longshore/internal/boot/registryconfig"
)

// watchEvery is how often files are looked at.
const watchEvery = time.Second

// watch reads the configuration and the certificates again when their files change. A configuration that is wrong is told
// and leaves the old one in force.
func (r *Registry) watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	seen := stampOf(r.options.ConfigPath)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if r.certs != nil {
			if changed, err := r.certs.refresh(); err != nil {
				r.log.Warn("certificates are not reloaded", "error", err)
			} else if changed {
				r.log.Info("certificates are reloaded")
			}
		}
		if now := stampOf(r.options.ConfigPath); now != seen && r.options.ConfigPath != "" {
			seen = now
			r.reload()
		}
	}
}

// reload puts in force what may change while the registry runs: accounts and access control, limits, origins, realm, the
// log level, collection and retention. The rest waits for a restart, and that is said.
func (r *Registry) reload() {
	cfg, warnings, err := registryconfig.Load(r.options.ConfigPath)
	if err != nil {
		r.log.Error("configuration is not reloaded", "error", err)
		return
	}
	for _, w := range warnings {
		r.log.Warn("configuration", "remark", w.String())
	}
	if err := r.auth.Reload(r.authConfig(cfg.HTTP)); err != nil {
		r.log.Error("configuration is not reloaded", "error", err)
		return
	}
	if err := r.service.Reschedule(gcConfig(cfg.Storage)); err != nil {
		r.log.Error("storage is not reloaded", "error", err)
	}
	r.logs.level.Set(level(cfg.Log.Level))
	r.api.Reload(r.apiOptions(cfg))
	if r.old.gate != nil {
		r.old.gate.Reload(r.oldOptions(cfg))
	}
	for _, key := range fixed(r.cfg, cfg) {
		r.log.Warn("configuration", "remark", key+": takes a restart")
	}
	keep(r.cfg, cfg)
	r.cfg = cfg
	r.log.Info("configuration is reloaded")
}

// fixed lists the keys that differ and that only a restart puts in force.
func fixed(old, now *registryconfig.Config) []string {
	var out []string
	differ := func(key string, a, b any) {
		if !reflect.DeepEqual(a, b) {
			out = append(out, key)
		}
	}
	differ("storage", lasting(old.Storage), lasting(now.Storage))
	differ("http.address", old.HTTP.Address, now.HTTP.Address)
	differ("http.port", old.HTTP.Port, now.HTTP.Port)
	differ("http.tls", old.HTTP.TLS, now.HTTP.TLS)
	differ("http.readTimeout", old.HTTP.ReadTimeout, now.HTTP.ReadTimeout)
	differ("http.writeTimeout", old.HTTP.WriteTimeout, now.HTTP.WriteTimeout)
	before, after := ownPeople(old), ownPeople(now)
	differ("http.auth.accounts", before.Accounts, after.Accounts)
	differ("http.auth.token", before.Token, after.Token)
	differ("log.output", old.Log.Output, now.Log.Output)
	differ("log.audit", old.Log.Audit, now.Log.Audit)
	differ("extensions.v1.enable", oldAsked(old), oldAsked(now))
	differ("extensions.metrics.enable", old.MetricsPath() == "", now.MetricsPath() == "")
	return out
}

// lasting is a storage section without what may change while the registry runs.
func lasting(g registryconfig.Global) registryconfig.Global {
	forget := func(s registryconfig.Storage) registryconfig.Storage {
		s.GC, s.GCDelay, s.GCInterval, s.GCTimeWindow, s.Retention = nil, 0, 0, "", registryconfig.Retention{}
		s.Dedupe, s.Commit = nil, nil
		return s
	}
	g.Storage = forget(g.Storage)
	paths := map[string]*registryconfig.Storage{}
	for route, s := range g.SubPaths {
		f := forget(*s)
		paths[route] = &f
	}
	g.SubPaths = paths
	return g
}

// ownPeople is what a configuration says about accounts and tokens of our own.
func ownPeople(c *registryconfig.Config) registryconfig.Auth {
	if c.HTTP.Auth == nil {
		return registryconfig.Auth{}
	}
	return registryconfig.Auth{Accounts: c.HTTP.Auth.Accounts, Token: c.HTTP.Auth.Token}
}

// keep carries over what a restart only changes, and what is asked for again and again.
func keep(old, now *registryconfig.Config) {
	own := ownPeople(old)
	if now.HTTP.Auth == nil {
		if own.Accounts == nil && own.Token == nil {
			return
		}
		now.HTTP.Auth = &registryconfig.Auth{}
	}
	now.HTTP.Auth.Accounts, now.HTTP.Auth.Token = own.Accounts, own.Token
}
