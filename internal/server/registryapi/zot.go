package registryapi

import (
	"context"
	"net/http"
	"runtime/debug"
	"time"

	"longshore/internal/core/distribution"
	"longshore/internal/service/auth"
)

// extension is an entry of the distribution specification's extensions API.
type extension struct {
	Name        string   `json:"name"`
	URL         string   `json:"url"`
	Description string   `json:"description"`
	Endpoints   []string `json:"endpoints"`
}

// discover lists the extensions that are here.
func (s *Server) discover(x *exchange) error {
	if err := s.auth.Enter(x.who); err != nil {
		return err
	}
	return x.json(http.StatusOK, map[string][]extension{"extensions": {{
		Name: "_zot", URL: "https://github.com/project-zot/zot/blob/main/pkg/extensions/_zot.md",
		Description: "zot registry extensions", Endpoints: []string{"/v2/_zot/ext/mgmt"},
	}}})
}

// stripped is what anybody may know of the configuration.
type stripped struct {
	DistSpecVersion string `json:"distSpecVersion"`
	Commit          string `json:"commit,omitempty"`
	ReleaseTag      string `json:"releaseTag,omitempty"`
	BinaryType      string `json:"binaryType"`
	HTTP            struct {
		Auth *strippedAuth `json:"auth,omitempty"`
	} `json:"http"`
}

type strippedAuth struct {
	HTPasswd *struct{} `json:"htpasswd,omitempty"`
	Bearer   *bearer   `json:"bearer,omitempty"`
	APIKey   bool      `json:"apikey,omitempty"`
}

type bearer struct {
	Realm   string `json:"realm"`
	Service string `json:"service"`
}

// distSpecVersion is the version of the distribution specification that is served.
const distSpecVersion = "1.1.1"

// mgmt tells how to log in; nobody needs a name for it.
func (s *Server) mgmt(x *exchange) error {
	out := stripped{
		DistSpecVersion: distSpecVersion, Commit: x.set.Release.Commit, ReleaseTag: x.set.Release.Version, BinaryType: "longshore-metrics-mgmt",
	}
	out.HTTP.Auth = describeAuth(s.auth.Methods(), x.realm)
	return x.json(http.StatusOK, out)
}

func describeAuth(m auth.Methods, realm func(*auth.BearerConfig) string) *strippedAuth {
	a := &strippedAuth{APIKey: m.APIKeys}
	if m.Passwords {
		a.HTPasswd = &struct{}{}
	}
	if m.Bearer != nil {
		a.Bearer = &bearer{realm(m.Bearer), m.Bearer.Service}
	}
	if *a == (strippedAuth{}) {
		return nil
	}
	return a
}

// health answers the probes: alive from the first request on, started and ready when boot says so and the store answers.
func (s *Server) health(x *exchange) error {
	x.header("Cache-Control", "no-store")
	if x.ref != "livez" && !s.ready.Load() || x.ref == "readyz" && !s.answers(x.r.Context()) {
		return x.json(http.StatusServiceUnavailable, map[string]string{"status": "not ready"})
	}
	return x.json(http.StatusOK, map[string]string{"status": "ok"})
}

// probeLimit is how long the index may take to answer a probe.
const probeLimit = 2 * time.Second

// answers asks the index for as little as there is.
func (s *Server) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	_, err := s.registry.Repositories(ctx, distribution.Page{N: 1}, nil)
	return err == nil
}

// serveMetrics writes Prometheus' text.
func (s *Server) serveMetrics(x *exchange) error {
	if err := s.auth.ReadMetrics(x.who); err != nil {
		return err
	}
	if s.metrics == nil {
		return errNotFound(x.r.URL.Path)
	}
	s.metrics.Refresh(x.r.Context(), s.repositoryBytes)
	s.metrics.ServeHTTP(x, x.r)
	return nil
}

// NewRelease reads what the linker and the tool chain left in the program.
func NewRelease(version string) Release {
	r := Release{Version: version}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				r.Commit = s.Value
			}
		}
	}
	return r
}
