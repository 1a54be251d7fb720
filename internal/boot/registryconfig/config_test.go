package registryconfig

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const full = `{
	"distSpecVersion": "1.1.1",
	"storage": {
		"rootDirectory": "/var/lib/registry", "dedupe": true, "gc": true, "gcDelay": "2h", "gcInterval": 3600000000000,
		"gcTimeWindow": "22:00-06:00", "maxRepos": 10, "commit": true,
		"retention": {"dryRun": true, "delay": "24h", "policies": [
			{"repositories": ["infra/*"], "deleteUntagged": false, "KeepTags": [{"patterns": ["v2.*"], "pulledWithin": "168h"}]},
			{"repositories": ["**"], "keepUntagged": {"mostRecentlyPushedCount": 10}}]},
		"subPaths": {"/a": {"rootDirectory": "/a", "gc": "true", "storageDriver": {"name": "s3", "bucket": "b",
			"regionendpoint": "localhost:1", "secure": false}}},
		"cacheDriver": {"name": "postgres", "url": "postgres://localhost/x"}
	},
	"http": {
		"address": "0.0.0.0", "port": 5000, "realm": "zot", "allowOrigin": "https://a.example",
		"tls": {"cert": "c", "key": "k", "cacert": "ca"},
		"auth": {"htpasswd": {"path": "/h"}, "apikey": true, "failDelay": 5,
			"mtls": {"identityAttributes": ["URI", "CommonName"], "uriSanPattern": "spiffe://x/(.*)"}},
		"accessControl": {
			"groups": {"g": {"users": ["a", "b"]}},
			"repositories": {
				"v1.0/**": {"policies": [{"users": ["a"], "groups": ["g"], "actions": ["read", "create"]}],
					"defaultPolicy": ["read"], "anonymousPolicy": ["read"]}},
			"adminPolicy": {"users": ["root"], "actions": ["read", "create", "update", "delete"]},
			"metrics": {"users": ["prometheus"]}},
		"ratelimit": {"rate": 10, "methods": [{"method": "GET", "rate": 5}]},
		"compat": ["docker2s2"], "readTimeout": "2m"
	},
	"log": {"level": "debug", "output": "/dev/null", "audit": "/tmp/audit"},
	"extensions": {"metrics": {}, "search": {"enable": false, "cve": {"updateInterval": "2h"}}}
}`

func TestFullConfiguration(t *testing.T) {
	c, warnings, err := Parse("full.json", []byte(full))
	if err != nil || len(warnings) != 0 {
		t.Fatal(warnings, err)
	}
	s := c.Storage
	if s.GCDelay != 2*time.Hour || s.GCInterval != time.Hour || s.MaxRepos != 10 || !s.CacheDriver.Postgres() {
		t.Errorf("storage: %+v", s)
	}
	p := s.Retention.Policies
	if *p[0].DeleteUntagged || !*p[1].DeleteUntagged || *p[0].KeepTags[0].PulledWithin != 168*time.Hour ||
		p[1].KeepUntagged.MostRecentlyPushedCount != 10 {
		t.Errorf("retention: %+v", p)
	}
	a := s.SubPaths["/a"]
	if !*a.GC || a.GCDelay != DefaultGCDelay || !*a.StorageDriver.ForcePathStyle || *a.StorageDriver.Secure {
		t.Errorf("sub-path: %+v", a)
	}
	if c.HTTP.Port != "5000" || c.MetricsPath() != "/metrics" || c.HTTP.ReadTimeout != 2*time.Minute {
		t.Errorf("http: %+v", c.HTTP)
	}
	if got := c.HTTP.AccessControl.Repositories["v1.0/**"].Policies[0].Groups; len(got) != 1 || got[0] != "g" {
		t.Errorf("policy groups: %v", got)
	}
}

func TestYAMLMeansTheSame(t *testing.T) {
	c, _, err := Parse("c.yaml", []byte(`
storage: {rootDirectory: /r, gcDelay: 3h}
http:
  port: 5001
  auth:
    htpasswd: {path: /h}
log:
  level: warn
`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Storage.RootDirectory != "/r" || c.Storage.GCDelay != 3*time.Hour || c.HTTP.Port != "5001" ||
		c.HTTP.Auth.HTPasswd.Path != "/h" || c.Log.Level != "warn" {
		t.Errorf("%+v", c)
	}
}

func TestMistakesAreNamed(t *testing.T) {
	with := func(part string) string { return `{"storage": {"rootDirectory": "/r"}, ` + part + `}` }
	for name, c := range map[string]struct{ doc, want string }{
		"unknown key":        {with(`"http": {"adress": "x"}`), "http.adress (line 1): unknown key"},
		"unknown at the top": {with(`"htttp": {}`), "htttp (line 1): unknown key"},
		"two mistakes":       {with(`"http": {"port": "x", "compat": ["y"]}`), `"y" is not known`},
		"duplicate key":      {`{"storage": {"gc": true, "gc": false}}`, "storage.gc: key given twice"},
		"cut off":            {`{"storage": {`, "unexpected EOF"},
		"trailing text":      {`{} {}`, "unexpected text"},
		"empty":              {`{}`, "holds no keys"},
		"no root":            {`{"http": {"port": "1"}}`, "storage.rootDirectory: is missing"},
		"wrong type":         {with(`"http": []`), "http (line 1): must be an object"},
		"bad duration":       {`{"storage": {"rootDirectory": "/r", "gcDelay": "soon"}}`, "storage.gcDelay (line 1): must be a duration"},
		"bad window":         {`{"storage": {"rootDirectory": "/r", "gcTimeWindow": "1-2"}}`, "is no time of day"},
		"sync":               {with(`"extensions": {"sync": {"registries": []}}`), "extensions.sync (line 1): not supported yet"},
		"misspelt sync":      {with(`"extensions": {"sync": {"registries": [{"onDemnd": true}]}}`), "extensions.sync.registries[0].onDemnd (line 1): unknown key"},
		"cluster":            {with(`"cluster": {"members": []}`), "cluster (line 1): not supported yet"},
		"ldap":               {with(`"http": {"auth": {"ldap": {"address": "x"}}}`), "http.auth.ldap (line 1): not supported yet"},
		"driver":             {`{"storage": {"rootDirectory": "/r", "storageDriver": {"name": "gcs", "bucket": "x"}}}`, `"gcs" is not supported yet`},
		"driver key":         {`{"storage": {"rootDirectory": "/r", "storageDriver": {"name": "s3", "bucket": "x", "buket": "y"}}}`, "storage.storageDriver.buket (line 1): unknown key"},
		"redis":              {`{"storage": {"rootDirectory": "/r", "cacheDriver": {"name": "redis", "url": "redis://x"}}}`, `"redis" is not supported`},
		"action":             {with(`"http": {"accessControl": {"repositories": {"**": {"anonymousPolicy": ["reed"]}}}}`), `"reed" is no action`},
		"nobody":             {with(`"http": {"accessControl": {"repositories": {"**": {"defaultPolicy": ["read"]}}}}`), "needs http.auth"},
		"sub-path root":      {`{"storage": {"rootDirectory": "/r", "subPaths": {"/a": {"rootDirectory": "/r"}}}}`, "must differ from"},
		"sub-path name":      {`{"storage": {"rootDirectory": "/r", "subPaths": {"a/b": {"rootDirectory": "/q"}}}}`, "must be / and the first part"},
		"pattern":            {`{"storage": {"rootDirectory": "/r", "retention": {"policies": [{"repositories": ["a"], "keepTags": [{"patterns": ["("]}]}]}}}`, "error parsing regexp"},
		"mtls without ca":    {with(`"http": {"auth": {"mtls": {}}}`), "needs http.tls.cacert"},
		"log level":          {with(`"log": {"level": "loud"}`), `"loud" is none of`},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Parse("c.json", []byte(c.doc))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
}

func TestMistakesAreAllTold(t *testing.T) {
	_, _, err := Parse("c.json", []byte("{\n\"a\": 1,\n\"b\": 2\n}"))
	var e *Error
	if !errors.As(err, &e) || len(e.Problems) != 2 || e.Problems[0].Line != 2 || e.Problems[1].Line != 3 {
		t.Errorf("%v", err)
	}
}

func TestRemarks(t *testing.T) {
	_, warnings, err := Parse("c.json", []byte(`{"distSpecVersion": "1.0.0", "scheduler": {"numWorkers": 3},
		"storage": {"rootDirectory": "/r", "dedupe": false, "remoteCache": false, "cacheDriver": {"name": "redis"}},
		"extensions": {"mgmt": {"enable": true}}}`))
	if err != nil || len(warnings) != 5 {
		t.Errorf("%v %v", warnings, err)
	}
}

func TestSessionKeys(t *testing.T) {
	dir := t.TempDir()
	keys, conf := filepath.Join(dir, "keys.json"), filepath.Join(dir, "c.json")
	write := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(conf, `{"storage": {"rootDirectory": "/r"}, "http": {"auth": {"sessionKeysFile": "`+keys+`"}}}`)
	write(keys, `{"hashKey": "my-very-secret", "encryptKey": "another-secret"}`)
	if _, _, err := Load(conf); err == nil || !strings.Contains(err.Error(), "16, 24 or 32") {
		t.Errorf("short key: %v", err)
	}
	write(keys, `{"hashKey": "my-very-secret", "encryptKey": "0123456789abcdef"}`)
	c, _, err := Load(conf)
	if err != nil || string(c.HTTP.Auth.HashKey) != "my-very-secret" || len(c.HTTP.Auth.EncryptKey) != 16 {
		t.Errorf("%v", err)
	}
}

func TestTimeWindow(t *testing.T) {
	at := func(h, m int) time.Time { return time.Date(2026, 1, 1, h, m, 0, 0, time.UTC) }
	night, err := ParseTimeWindow("22:00-06:00")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		t    time.Time
		want bool
	}{{at(22, 0), true}, {at(5, 59), true}, {at(6, 0), false}, {at(21, 59), false}, {at(0, 0), true}} {
		if night.Contains(c.t) != c.want {
			t.Errorf("%v: %v", c.t, !c.want)
		}
	}
	if !(TimeWindow{}).Contains(at(3, 3)) {
		t.Error("the empty window is always")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("c.json", []byte(full))
	f.Add("c.yaml", []byte("storage: {rootDirectory: /r}\nhttp: &a {port: 5}\nlog: {level: info}\n"))
	f.Add("c", []byte(`a: &x [*x]`))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		c, _, err := Parse(name, data)
		if (c == nil) == (err == nil) {
			t.Errorf("configuration %v, error %v", c, err)
		}
	})
}
