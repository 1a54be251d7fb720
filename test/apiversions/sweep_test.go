package apiversions

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

// swarmGroups answer that there is no swarm; the plugins' that there are none.
var swarmGroups = []string{"swarm", "node", "service", "task", "secret", "config", "plugin"}

// remote are operations that ask a registry or a swarm, which is not there: any error of theirs will do.
var remote = []string{"/volumes/{name}", "/images/search", "/distribution/{name}/json", "/images/{name}/push", "/auth", "/images/{name}/insert"}

// TestFirstAndLastVersion asks for every endpoint at its first and at its last version.
func TestFirstAndLastVersion(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, "--debug", "--experimental")
	d.Busybox()
	d.OK("run", "-d", "--name", "web", "-v", "vol:/vol", "busybox", "sleep", "1000")
	exec := v(t, d, "").want(201, "POST", "/containers/web/exec", `{"AttachStdout":true,"Cmd":["sleep","1"]}`).object(t)["Id"].(string)
	for _, e := range endpoints(t) {
		if slices.Contains(swarmGroups, e.group) {
			continue
		}
		for _, version := range []string{e.since, e.until} {
			if strings.HasPrefix(e.path, "/debug/") && version != newest {
				version = later["/debug/"]
			}
			exercise(v(t, d, version), e, exec)
		}
	}
}

// exercise sends one request and judges the answer's head.
func exercise(c client, e endpoint, exec string) {
	c.t.Helper()
	s := c.open(e.method, target(e, exec), payloadOf(e), "Connection: close")
	defer s.conn.Close()
	ok := s.status < 500 || slices.Contains(remote, e.path)
	if s.status == 404 {
		_ = s.conn.SetDeadline(time.Now().Add(5 * time.Second))
		text, _ := io.ReadAll(s.body)
		ok = !strings.Contains(string(text), "page not found") || e.group == "checkpoint"
	}
	if !ok {
		c.t.Errorf("%s %s at %s: %d", e.method, e.path, c.version, s.status)
	}
}

// target fills the variables: with what is there for reads, with what is not for the rest.
func target(e endpoint, exec string) string {
	id, name := "nosuch", "nosuch"
	reads := e.method == "GET" || e.method == "HEAD"
	switch {
	case strings.HasPrefix(e.path, "/exec/"):
		id = exec
	case strings.HasPrefix(e.path, "/networks/") && reads:
		id = "bridge"
	case strings.HasPrefix(e.path, "/containers/") && (reads || strings.HasSuffix(e.path, "/attach")):
		id = "web"
	case strings.HasPrefix(e.path, "/volumes/") && reads:
		name = "vol"
	case strings.HasPrefix(e.path, "/images/") && reads:
		name = "busybox"
	case strings.HasPrefix(e.path, "/debug/pprof/{"):
		name = "goroutine"
	}
	if strings.HasSuffix(e.path, "/attach/ws") {
		id = "nosuch"
	}
	path := strings.NewReplacer("{id}", id, "{name}", name, "{checkpoint}", "cp", "{any}", "images/json").Replace(e.path)
	query := map[string]string{
		"/containers/{id}/archive": "path=/bin/sh", "/containers/{id}/stats": "stream=0", "/containers/{id}/logs": "stdout=1",
		"/containers/{id}/attach": "stdout=1&logs=1", "/commit": "container=nosuch", "/images/get": "names=busybox", "/images/search": "term=x",
		"/images/create": "fromSrc=-&repo=swept", "/images/{name}/tag": "repo=swept", "/containers/{id}/resize": "h=1&w=1", "/exec/{id}/resize": "h=1&w=1",
		"/containers/{id}/rename": "name=x", "/images/{name}/insert": "url=http://127.0.0.1:1/&path=/f", "/debug/pprof/profile": "seconds=1", "/debug/pprof/trace": "seconds=1",
	}[e.path]
	return path + "?" + query
}

func payloadOf(e endpoint) string {
	switch e.path {
	case "/containers/create":
		return `{"Image":"busybox","Cmd":["true"]}`
	case "/containers/{id}/copy":
		return `{"Resource":"/bin/sh"}`
	case "/images/getCache":
		return `{"Id":"busybox","Cmd":["true"]}`
	case "/networks/create":
		return `{"Name":"bridge"}`
	case "/networks/{id}/connect", "/networks/{id}/disconnect":
		return `{"Container":"web"}`
	}
	if e.method == "POST" && e.path != "/containers/{id}/start" && !strings.HasSuffix(e.path, "/prune") && !strings.HasSuffix(e.path, "/load") {
		return "{}"
	}
	return ""
}
