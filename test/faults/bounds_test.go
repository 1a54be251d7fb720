package faults

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"longshore/internal/server/engineapi/archive"
	"longshore/internal/server/engineapi/build"
	"longshore/internal/server/engineapi/buildkit"
	"longshore/internal/server/engineapi/containers"
	"longshore/internal/server/engineapi/images"
	"longshore/internal/server/engineapi/legacy"
	"longshore/internal/server/engineapi/networks"
	"longshore/internal/server/engineapi/system"
	"longshore/internal/server/engineapi/volumes"
	"longshore/internal/server/route"
	"longshore/test/harness"
)

// Kinds of bodies.
const (
	none     = "none"     // is not read
	document = "document" // one document
	maybe    = "maybe"    // one document, or nothing
	packed   = "archive"  // a tar
	wire     = "wire"     // the connection is taken over
)

// bodies says for every route that takes requests with bodies what it does with them.
var bodies = map[string]string{
	"POST /volumes/create": document, "POST /volumes/prune": none, "PUT /volumes/{name...}": none,
	"POST /networks/create": document, "POST /networks/prune": none, "POST /networks/{id}/connect": document, "POST /networks/{id}/disconnect": document,
	"POST /containers/create": document, "POST /containers/prune": none, "POST /containers/{id}/attach": wire, "POST /containers/{id}/start": maybe,
	"POST /containers/{id}/stop": none, "POST /containers/{id}/restart": none, "POST /containers/{id}/kill": none, "POST /containers/{id}/pause": none,
	"POST /containers/{id}/unpause": none, "POST /containers/{id}/wait": none, "POST /containers/{id}/resize": none, "POST /containers/{id}/rename": none,
	"POST /containers/{id}/update": document, "POST /containers/{id}/exec": document, "POST /exec/{id}/start": document, "POST /exec/{id}/resize": none,
	"POST /containers/{id}/checkpoints": document, "POST /images/create": packed, "POST /images/load": packed, "POST /images/prune": none,
	"POST /images/{name...}/push": none, "POST /images/{name...}/tag": none, "POST /commit": maybe, "POST /session": wire, "POST /grpc": wire,
	"POST /build/prune": none, "POST /build/cancel": none, "POST /build": packed, "POST /auth": document,
	"PUT /containers/{id}/archive": packed, "POST /containers/{id}/copy": document, "POST /images/{name...}/insert": none, "POST /images/getCache": none,
}

func routes() []route.Route {
	all := slices.Concat(containers.Routes(nil, false), images.Routes(nil, nil), networks.Routes(nil, nil), volumes.Routes(nil),
		archive.Routes(nil), build.Routes(nil), buildkit.Routes(nil), system.Routes(nil))
	return append(legacy.Routes(all, nil), all...)
}

// absent routes refuse whatever they are asked: this engine has no swarm and no plugins.
func absent(pattern string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(pattern, "/"), "/")
	return slices.Contains([]string{"swarm", "plugins", "nodes", "services", "secrets", "configs"}, first)
}

// state is what no refused request may change.
func state(t *testing.T, d *harness.Daemon) string {
	t.Helper()
	var b strings.Builder
	for _, args := range [][]string{
		{"ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}"}, {"volume", "ls", "-q"}, {"network", "ls", "--no-trunc"},
		{"images", "-a", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"}, {"inspect", "-f", "{{json .HostConfig}} {{json .Config}} {{json .NetworkSettings.Networks}}", "box"},
	} {
		b.WriteString(d.OK(args...) + "\n")
	}
	return b.String()
}

// TestBodies: what is too large, too deep or no JSON is refused with words by every route in every version, and changes nothing.
func TestBodies(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	d.OK("run", "-d", "--name", "box", "busybox", "sleep", "100000")
	d.OK("create", "--name", "idle", "busybox", "true")
	a := call(t, d, "POST", "/containers/box/exec", "application/json", `{"Cmd":["true"]}`)
	exec := a.message[strings.Index(a.message, `:"`)+2:]
	exec = exec[:strings.IndexByte(exec, '"')]
	before := state(t, d)
	rss := memory(t, d, "VmRSS")
	large := `{"Labels":{"l":"` + strings.Repeat("x", 5<<20) + `"}}`
	cases := map[string]string{
		"too large":     large,
		"many fields":   `{"Labels":{` + strings.Repeat(`"a":"b",`, 1<<20) + `"c":"d"}}`,
		"too deep":      `{"Labels":` + strings.Repeat(`{"a":`, 1<<18) + "1" + strings.Repeat("}", 1<<18) + "}",
		"an open end":   `{"Labels":{"a":"b"`,
		"no JSON":       "\x00\xff\xfe garbage",
		"another shape": `["a",1,null]`,
	}
	for _, r := range routes() {
		kind, known := bodies[r.Key()]
		if (r.Method == "POST" || r.Method == "PUT") && !known && !absent(r.Pattern) {
			t.Errorf("%s is not in this table", r.Key())
		}
		if kind != document && kind != maybe {
			continue
		}
		versions := []string{"1.55", "1.24", "1.4"}
		if harness.Soaking() {
			versions = []string{"1.55", "1.52", "1.44", "1.41", "1.30", "1.25", "1.24", "1.22", "1.18", "1.15", "1.10", "1.4"}
		}
		for _, version := range versions {
			v := route.MustVersion(version)
			var since, until route.Version
			if r.Since != "" {
				since = route.MustVersion(r.Since)
			}
			if r.Until != "" {
				until = route.MustVersion(r.Until)
			}
			if !v.In(since, until) || (r.Key() == "POST /containers/{id}/start" && r.Until == "") {
				continue // today's start takes no body
			}
			path := strings.NewReplacer("/exec/{id}", "/exec/"+exec, "{id}", "idle", "{name...}", "box").Replace(r.Pattern)
			for what, body := range cases {
				if r.Key() == "POST /networks/{id}/connect" || r.Key() == "POST /networks/{id}/disconnect" {
					path = strings.Replace(r.Pattern, "{id}", "bridge", 1)
				}
				a := call(t, d, r.Method, "/v"+version+path, "application/json", body)
				if a.status < 400 || (a.status > 499 && a.status != 501) || strings.TrimSpace(a.message) == "" { // 501: what is experimental
					t.Errorf("%s at %s, %s: %d %.200s", r.Key(), version, what, a.status, a.message)
				}
			}
		}
	}
	if now := state(t, d); now != before {
		t.Errorf("refused requests changed something:\n%s\nbefore:\n%s", now, before)
	}
	if grown := memory(t, d, "VmRSS") - rss; grown > 128<<20 {
		t.Errorf("refused requests cost %d MB", grown>>20)
	}
}

// TestArchiveBodies: bodies that are no archives, or archives that lie, are refused.
func TestArchiveBodies(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	d.OK("create", "--name", "box", "busybox", "true")
	before := state(t, d)
	whole := archiveOf(t, "file", 64<<10)
	zeros := make([]byte, 1<<20)
	for _, path := range []string{"/images/load", "/images/create?fromSrc=-", "/build", "/containers/box/archive?path=/"} {
		method := "POST"
		if strings.HasPrefix(path, "/containers") {
			method = "PUT"
		}
		for what, body := range map[string][]byte{
			"noise": bytes.Repeat([]byte("noise \x01\x02"), 10000), "cut short": whole[:1000], "a header of gzip": {0x1f, 0x8b, 8, 0, 0}, "a header of xz": []byte("\xfd7zXZ\x00\x00\x04"),
			"a damaged middle": append(append(append([]byte{}, whole[:512]...), zeros[:100]...), whole[700:]...),
		} {
			a := call(t, d, method, path, "application/x-tar", string(body))
			if a.status >= 500 || (a.status < 400 && !strings.Contains(a.message, "rror")) {
				t.Errorf("%s, %s: %d %.300s", path, what, a.status, a.message)
			}
		}
	}
	if now := state(t, d); now != before {
		t.Errorf("refused requests changed something:\n%s\nbefore:\n%s", now, before)
	}
}

// TestHeadersAndNames: header blocks, authentications, names, queries and paths of any length and content.
func TestHeadersAndNames(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	d.OK("create", "--name", "box", "busybox", "true")
	before := state(t, d)
	long := strings.Repeat("a", 300<<10)
	refused := func(what string, a answer) {
		t.Helper()
		if a.status < 400 || a.status > 499 || strings.TrimSpace(a.message) == "" {
			t.Errorf("%s: %d %.200s", what, a.status, a.message)
		}
		if len(a.message) > len(long)+1000 {
			t.Errorf("%s: the words have %d bytes", what, len(a.message))
		}
	}
	request := func(method, path string, header http.Header) answer {
		t.Helper()
		req, err := http.NewRequestWithContext(context.Background(), method, "http://d"+path, nil)
		must(t, err)
		req.Header = header
		return send(t, d, req)
	}
	refused("2 MB of headers", request("GET", "/version", http.Header{"X-Long": {strings.Repeat("x", 2<<20)}}))
	for _, auth := range []string{long, "!!!", "bnVsbCB7fX0=", "eyJ1c2VybmFtZSI6"} {
		refused("authentication of a push", request("POST", "/images/localhost:1/none/push", http.Header{"X-Registry-Auth": {auth}}))
	}
	names := []string{long, "a/b", "../x", "..", "a\x00b", "a\nb", "a b", "\x1b[31m", "ä", ".a", "-a", "a\\b", "/a/b", "//"}
	for _, name := range names {
		q := url.QueryEscape(name)
		refused(fmt.Sprintf("create of container %.20q", name), call(t, d, "POST", "/containers/create?name="+q, "application/json", `{"Image":"busybox"}`))
		refused(fmt.Sprintf("rename to %.20q", name), call(t, d, "POST", "/containers/box/rename?name="+q, "", ""))
		refused(fmt.Sprintf("create of volume %.20q", name), call(t, d, "POST", "/volumes/create", "application/json", fmt.Sprintf(`{"Name":%s}`, quoted(name))))
		refused(fmt.Sprintf("bind of volume %.20q", name), call(t, d, "POST", "/containers/create", "application/json",
			fmt.Sprintf(`{"Image":"busybox","HostConfig":{"Mounts":[{"Type":"volume","Source":%s,"Target":"/x"}]}}`, quoted(name))))
		for _, path := range []string{"/containers/%s/json", "/containers/%s/logs?stdout=1", "/volumes/%s", "/networks/%s", "/images/%s/json", "/exec/%s/json", "/containers/%s/archive?path=/"} {
			refused(fmt.Sprintf("GET "+path, fmt.Sprintf("%.20q", name)), call(t, d, "GET", fmt.Sprintf(path, url.PathEscape(name)), "", ""))
		}
		for _, path := range []string{"/containers/%s", "/volumes/%s", "/networks/%s", "/images/%s"} {
			refused(fmt.Sprintf("DELETE "+path, fmt.Sprintf("%.20q", name)), call(t, d, "DELETE", fmt.Sprintf(path, url.PathEscape(name)), "", ""))
		}
		refused(fmt.Sprintf("tag %.20q", name), call(t, d, "POST", "/images/busybox/tag?repo="+url.QueryEscape("a//"+name), "", ""))
		refused(fmt.Sprintf("commit as %.20q", name), call(t, d, "POST", "/commit?container=box&repo="+url.QueryEscape("a//"+name), "", ""))
		refused(fmt.Sprintf("build as %.20q", name), call(t, d, "POST", "/build?t="+url.QueryEscape("a//"+name), "application/x-tar", buildContext(t, "FROM busybox\n")))
		refused(fmt.Sprintf("platform %.20q", name), call(t, d, "POST", "/containers/create?platform="+url.QueryEscape("////"+name), "application/json", `{"Image":"busybox"}`))
	}
	refused("a network's name", call(t, d, "POST", "/networks/create", "application/json", `{"Name":"`+long+`"}`))
	refused("filters", call(t, d, "GET", "/containers/json?filters="+long, "", ""))
	refused("since", call(t, d, "GET", "/events?since="+long, "", ""))
	refused("a number", call(t, d, "GET", "/containers/json?limit="+strings.Repeat("9", 1000), "", ""))
	refused("tail", call(t, d, "POST", "/containers/box/resize?h="+strings.Repeat("9", 1000)+"&w=1", "", ""))
	refused("a path", call(t, d, "GET", "/"+long, "", ""))
	refused("a version", call(t, d, "GET", "/v1."+strings.Repeat("9", 1000)+"/version", "", ""))
	refused("a signal", call(t, d, "POST", "/containers/box/kill?signal="+long, "", ""))
	refused("a checkpoint", call(t, d, "POST", "/containers/box/exec", "application/json", `{"Cmd":["true"],"WorkingDir":"`+long+`"}`))
	if now := state(t, d); now != before {
		t.Errorf("refused requests changed something:\n%s\nbefore:\n%s", now, before)
	}
	if found, _ := filepath.Glob(filepath.Join(d.DataRoot(), "volumes", "*")); len(found) > 0 {
		t.Errorf("files of refused volumes: %v", found)
	}
	if _, err := os.Stat(filepath.Join(d.DataRoot(), "x")); err == nil {
		t.Error("a file beside the volumes")
	}
}

// quoted is a string of JSON.
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		fmt.Fprintf(&b, "%s", map[bool]string{true: fmt.Sprintf("\\u%04x", r), false: string(r)}[r < 0x20 || r == '"' || r == '\\'])
	}
	b.WriteByte('"')
	return b.String()
}
