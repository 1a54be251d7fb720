package registryconfig

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// checker tells problems by key, with the line where the key stands.
type checker struct {
	d    *decoder
	root *node
}

func (c *checker) at(key string) *node {
	n, line := c.root, 0
	for _, part := range strings.Split(key, "\x00") {
		if n == nil {
			break
		}
		if n = n.child(part); n != nil {
			line = n.line
		}
	}
	return &node{path: strings.ReplaceAll(key, "\x00", "."), line: line}
}

// key makes the path that fail and warn take; parts may hold dots.
func key(parts ...string) string { return strings.Join(parts, "\x00") }

func (c *checker) fail(key, format string, a ...any) { c.d.fail(c.at(key), format, a...) }
func (c *checker) warn(key, format string, a ...any) { c.d.warn(c.at(key), format, a...) }

// check tells what cannot be and remarks on what has no effect.
func (c *Config) check(k *checker) {
	if c.DistSpecVersion != DistSpecVersion {
		k.warn("distSpecVersion", "%q is not what is served: %q", c.DistSpecVersion, DistSpecVersion)
	}
	c.Storage.check(k)
	c.HTTP.check(k)
	if a := c.HTTP.Auth; a != nil && a.Token != nil && a.Token.KeysDirectory == "" && (c.Storage.CacheDriver.Postgres() || c.Storage.RootDirectory == "") {
		k.fail(key("http", "auth", "token", "keysDirectory"), "is missing: instances that share an index share the keys' folder too")
	}
	c.Log.check(k)
	if c.Scheduler != nil {
		k.warn("scheduler", "has no effect: background work needs no workers")
	}
	if e := c.Extensions; e != nil {
		if e.Mgmt != nil {
			k.warn(key("extensions", "mgmt"), "has no effect: always on")
		}
		if e.APIKey != nil {
			k.warn(key("extensions", "apikey"), "has no effect: use http.auth.apikey")
		}
		if e.V1 != nil {
			for _, host := range e.V1.Endpoints {
				if host == "" || strings.ContainsAny(host, "/, \"\r\n") {
					k.fail(key("extensions", "v1", "endpoints"), "%q is no host, with or without a port", host)
				}
			}
		}
		if p := c.MetricsPath(); p != "" && !strings.HasPrefix(p, "/") {
			k.fail(key("extensions", "metrics", "prometheus", "path"), "must begin with /")
		}
	}
}

func (l *Log) check(k *checker) {
	levels := []string{"trace", "debug", "info", "warn", "error", "fatal", "panic"}
	if !slices.Contains(levels, strings.ToLower(l.Level)) {
		k.fail(key("log", "level"), "%q is none of %s", l.Level, strings.Join(levels, ", "))
	}
}

func (g *Global) check(k *checker) {
	g.Storage.check(k, "storage")
	if g.MaxRepos < 0 {
		k.fail(key("storage", "maxRepos"), "must not be negative")
	}
	if g.FastRestart {
		k.warn(key("storage", "fastRestart"), "has no effect: a start never walks the storage")
	}
	roots := map[string]string{}
	for _, route := range sorted(g.SubPaths) {
		s, at := g.SubPaths[route], key("storage", "subPaths", route)
		if s == nil {
			k.fail(at, "must be an object")
			continue
		}
		if !strings.HasPrefix(route, "/") || strings.Trim(route, "/") == "" || strings.Contains(strings.Trim(route, "/"), "/") {
			k.fail(at, "must be / and the first part of the repositories' names")
		}
		s.check(k, "storage", "subPaths", route)
		root := s.root()
		if root == g.root() {
			k.fail(key("storage", "subPaths", route, "rootDirectory"), "must differ from storage.rootDirectory")
		}
		if first, ok := roots[root]; ok && !s.sameAs(g.SubPaths[first]) {
			k.fail(key("storage", "subPaths", route), "must have the same settings as %s, which has the same root directory", first)
		}
		roots[root] = route
	}
}

func (s *Storage) root() string {
	if s.StorageDriver != nil {
		return "s3:" + s.StorageDriver.RegionEndpoint + "/" + s.StorageDriver.Bucket + "/" + s.StorageDriver.RootDirectory
	}
	return s.RootDirectory
}

func (s *Storage) sameAs(o *Storage) bool {
	on := func(b *bool) bool { return b != nil && *b }
	return on(s.GC) == on(o.GC) && s.GCDelay == o.GCDelay && s.GCInterval == o.GCInterval
}

func (s *Storage) check(k *checker, at ...string) {
	in := func(name ...string) string { return key(append(slices.Clone(at), name...)...) }
	if s.RootDirectory == "" && !s.remote() {
		k.fail(in("rootDirectory"), "is missing")
	}
	if s.Dedupe != nil && !*s.Dedupe {
		k.warn(in("dedupe"), "has no effect: a blob is always stored once")
	}
	if s.Commit != nil && !*s.Commit {
		k.warn(in("commit"), "has no effect: what was acknowledged is always on disk")
	}
	if s.GCDelay < 0 {
		k.fail(in("gcDelay"), "must not be negative")
	}
	if s.GCInterval < 0 {
		k.fail(in("gcInterval"), "must not be negative")
	}
	if _, err := ParseTimeWindow(s.GCTimeWindow); err != nil {
		k.fail(in("gcTimeWindow"), "%v", err)
	}
	s.checkDriver(k, in)
	s.checkIndex(k, in)
	s.Retention.check(k, in)
}

// remote says that neither blobs nor the index need a folder.
func (s *Storage) remote() bool {
	return s.StorageDriver != nil && s.CacheDriver != nil && s.CacheDriver.Postgres()
}

// Postgres says that the index lives in PostgreSQL.
func (i *Index) Postgres() bool {
	return i != nil && (strings.EqualFold(i.Name, "postgres") || strings.EqualFold(i.Name, "postgresql"))
}

// s3Ignored are parameters of distribution's s3 driver that change nothing here.
var s3Ignored = []string{"v4auth", "multipartcopychunksize", "multipartcopymaxconcurrency",
	"multipartcopythresholdsize", "useragent", "usedualstack", "loglevel"}

func (s *Storage) checkDriver(k *checker, in func(...string) string) {
	d := s.StorageDriver
	if d == nil {
		if s.RedirectBlobURL {
			k.warn(in("redirectBlobURL"), "has no effect without a storageDriver")
		}
		return
	}
	switch strings.ToLower(d.Name) {
	case "s3":
	case "gcs", "azure":
		k.fail(in("storageDriver", "name"), "%q is not supported yet", d.Name)
		return
	default:
		k.fail(in("storageDriver", "name"), "%q is no storage driver", d.Name)
		return
	}
	if d.Bucket == "" {
		k.fail(in("storageDriver", "bucket"), "is missing")
	}
	if d.Region == "" && d.RegionEndpoint == "" {
		k.fail(in("storageDriver"), "needs region or regionendpoint")
	}
	for _, o := range d.Other {
		if slices.Contains(s3Ignored, strings.ToLower(o)) {
			k.warn(in("storageDriver", o), "has no effect")
		} else if slices.Contains([]string{"encrypt", "keyid", "storageclass", "objectacl", "accelerate"}, strings.ToLower(o)) {
			k.fail(in("storageDriver", o), "not supported yet")
		} else {
			k.fail(in("storageDriver", o), "unknown key")
		}
	}
}

func (s *Storage) checkIndex(k *checker, in func(...string) string) {
	i := s.CacheDriver
	if i == nil {
		return
	}
	switch strings.ToLower(i.Name) {
	case "postgres", "postgresql":
		if i.URL == "" {
			k.fail(in("cacheDriver", "url"), "is missing")
		}
	case "", "local", "boltdb", "cache", "sqlite":
	case "redis", "dynamodb":
		if s.RemoteCache != nil && !*s.RemoteCache {
			k.warn(in("cacheDriver"), "has no effect while remoteCache is false")
			return
		}
		k.fail(in("cacheDriver", "name"), "%q is not supported: the index lives in SQLite or PostgreSQL", i.Name)
		return
	default:
		k.fail(in("cacheDriver", "name"), "%q is no cache driver", i.Name)
		return
	}
	for _, o := range i.Other {
		k.fail(in("cacheDriver", o), "unknown key")
	}
}

func (r *Retention) check(k *checker, in func(...string) string) {
	if *r.Delay < 0 {
		k.fail(in("retention", "delay"), "must not be negative")
	}
	for i, p := range r.Policies {
		at := in("retention", "policies")
		if len(p.Repositories) == 0 {
			k.fail(at, "policy %d names no repositories", i+1)
		}
		for _, t := range p.KeepTags {
			for _, pattern := range t.Patterns {
				if _, err := regexp.Compile(pattern); err != nil {
					k.fail(at, "policy %d: pattern %q: %v", i+1, pattern, err)
				}
			}
			t.KeepUntagged.check(k, at, i)
		}
		if p.KeepUntagged != nil {
			p.KeepUntagged.check(k, at, i)
		}
	}
}

func (r *KeepUntagged) check(k *checker, at string, i int) {
	if r.MostRecentlyPulledCount < 0 || r.MostRecentlyPushedCount < 0 {
		k.fail(at, "policy %d: counts must not be negative", i+1)
	}
	for _, d := range []*time.Duration{r.PulledWithin, r.PushedWithin} {
		if d != nil && *d < 0 {
			k.fail(at, "policy %d: durations must not be negative", i+1)
		}
	}
}

// TimeWindow is a daily span of time in UTC, in minutes; From == To is always.
type TimeWindow struct{ From, To int }

// ParseTimeWindow reads "HH:MM-HH:MM"; empty is always.
func ParseTimeWindow(s string) (TimeWindow, error) {
	if s == "" {
		return TimeWindow{}, nil
	}
	from, to, _ := strings.Cut(s, "-")
	a, err := minutes(from)
	if err == nil {
		var b int
		if b, err = minutes(to); err == nil && a == b {
			err = fmt.Errorf("%q is empty", s)
		}
		return TimeWindow{a, b}, err
	}
	return TimeWindow{}, err
}

func minutes(s string) (int, error) {
	h, m, _ := strings.Cut(strings.TrimSpace(s), ":")
	hh, err1 := strconv.Atoi(h)
	mm, err2 := strconv.Atoi(m)
	if err1 != nil || err2 != nil || len(h) != 2 || len(m) != 2 || hh > 23 || mm > 59 || hh < 0 || mm < 0 {
		return 0, fmt.Errorf("%q is no time of day: must be HH:MM-HH:MM", s)
	}
	return hh*60 + mm, nil
}

// Contains says whether a moment lies in the window.
func (w TimeWindow) Contains(t time.Time) bool {
	if w.From == w.To {
		return true
	}
	t = t.UTC()
	m := t.Hour()*60 + t.Minute()
	if w.From < w.To {
		return m >= w.From && m < w.To
	}
	return m >= w.From || m < w.To
}

func sorted[T any](m map[string]T) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
