package apiversions

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"longshore/test/harness"
)

// others have tests of their own: the builder's routes.
var others = []string{"build", "session"}

// unable are endpoints that fail in every version on an engine like this, and what they say then.
var unable = map[string]string{
	"GET /images/search":                               "", // no index is reached
	"PUT /volumes/{name}":                              "swarm",
	"POST /containers/{id}/checkpoints":                "", // CRIU is not installed
	"DELETE /containers/{id}/checkpoints/{checkpoint}": "",
	"GET /containers/{id}/checkpoints":                 "",
}

// workshop makes the objects that the endpoints work on.
type workshop struct {
	t      *testing.T
	d      *harness.Daemon
	newest client
	host   string // of a registry
	files  string // URL of a file
	image  []byte // an image's archive
	serial int
}

func newWorkshop(t *testing.T, d *harness.Daemon) *workshop {
	w := &workshop{t: t, d: d, newest: v(t, d, "")}
	hub := &httptest.Server{Listener: d.Listen(), Config: &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}}
	hub.Start()
	t.Cleanup(hub.Close)
	w.host = strings.TrimPrefix(hub.URL, "http://")
	files := &httptest.Server{Listener: d.Listen(), Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "file") })}}
	files.Start()
	t.Cleanup(files.Close)
	w.files = files.URL + "/f"
	d.OK("tag", "busybox", w.host+"/pair:1")
	d.OK("push", "-q", w.host+"/pair:1")
	w.image = []byte(w.newest.want(200, "GET", "/images/busybox/get", "").body)
	return w
}

func (w *workshop) name(kind string) string {
	w.serial++
	return fmt.Sprintf("%s%d", kind, w.serial)
}

// container is a new one; running unless script is empty.
func (w *workshop) container(script string) string {
	id, _ := w.newest.want(201, "POST", "/containers/create", fmt.Sprintf(`{"Image":"busybox","Tty":true,"Cmd":["sh","-c",%q]}`, script)).object(w.t)["Id"].(string)
	if script != "" {
		w.newest.want(204, "POST", "/containers/"+id+"/start", "")
	}
	return id
}

const idle = "exec sleep 1000"

func (w *workshop) exec(started bool) string {
	id, _ := w.newest.want(201, "POST", "/containers/web/exec", `{"Tty":true,"AttachStdout":true,"Cmd":["sleep","1000"]}`).object(w.t)["Id"].(string)
	if started {
		w.newest.want(200, "POST", "/exec/"+id+"/start", `{"Detach":true,"Tty":true}`)
	}
	return id
}

func (w *workshop) network(with string) string {
	name := w.name("net")
	w.d.OK("network", "create", name)
	if with != "" {
		w.d.OK("network", "connect", name, with)
	}
	return name
}

func (w *workshop) tagged() string {
	name := w.name("img")
	w.newest.want(201, "POST", "/images/busybox/tag?repo="+name, "")
	return name
}

// request makes what an endpoint needs and answers path, body and headers that must succeed.
func (w *workshop) request(e endpoint) (path, body string, headers []string) {
	octets := []string{"Content-Type: application/x-tar"}
	switch key := e.method + " " + e.path; key {
	case "DELETE /containers/{id}", "POST /containers/{id}/start":
		return w.fill(e, w.container("")), "", nil
	case "POST /containers/{id}/wait":
		return w.fill(e, w.container("true")), "", nil
	case "POST /containers/{id}/kill", "POST /containers/{id}/pause":
		return w.fill(e, w.container(idle)), "", nil
	case "POST /containers/{id}/restart", "POST /containers/{id}/stop":
		return w.fill(e, w.container(idle)) + "?t=0", "", nil
	case "POST /containers/{id}/unpause":
		id := w.container(idle)
		w.d.OK("pause", id)
		return w.fill(e, id), "", nil
	case "POST /containers/{id}/rename":
		return w.fill(e, w.container("")) + "?name=" + w.name("renamed"), "", nil
	case "POST /containers/{id}/resize":
		return w.fill(e, w.container(idle)) + "?h=10&w=20", "", nil
	case "POST /exec/{id}/start":
		return w.fill(e, w.exec(false)), `{"Detach":true,"Tty":true}`, nil
	case "GET /exec/{id}/json":
		return w.fill(e, w.exec(true)), "", nil
	case "POST /exec/{id}/resize":
		return w.fill(e, w.exec(true)) + "?h=10&w=20", "", nil
	case "POST /containers/{id}/exec":
		return w.fill(e, "web"), `{"Cmd":["true"]}`, nil
	case "POST /containers/{id}/copy":
		return w.fill(e, "web"), payloadOf(e), nil
	case "POST /images/getCache":
		return e.path, w.cached(), nil
	case "POST /containers/{id}/update":
		return w.fill(e, "web"), `{"CpuShares":512}`, nil
	case "PUT /containers/{id}/archive":
		return w.fill(e, "web") + "?path=/", layer(w.t), octets
	case "GET /containers/{id}/attach/ws":
		return w.fill(e, "web") + "?logs=1&stdout=1", "", []string{"Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}
	case "POST /commit":
		return "/commit?repo=" + w.name("commit") + "&container=web", "", nil
	case "DELETE /images/{name}", "POST /images/{name}/tag":
		return w.fill(e, w.tagged()) + "?force=1&repo=" + w.name("tag"), "", nil
	case "POST /images/{name}/push":
		return "/images/" + w.host + "/pair/push?tag=1", "{}", []string{"X-Registry-Auth: e30="}
	case "POST /images/{name}/insert":
		return "/images/busybox/insert?path=/f&url=" + url.QueryEscape(w.files), "", nil
	case "POST /images/create":
		return "/images/create?fromSrc=-&repo=" + w.name("imp"), layer(w.t), octets
	case "POST /images/load":
		return e.path, string(w.image), octets
	case "POST /auth":
		return e.path, `{"username":"jane","password":"secret","email":"j@example.org","serveraddress":"` + w.host + `"}`, nil
	case "GET /distribution/{name}/json":
		return "/distribution/" + w.host + "/pair:1/json", "", nil
	case "DELETE /networks/{id}":
		return w.fill(e, w.network("")), "", nil
	case "POST /networks/create":
		return e.path, `{"Name":"` + w.name("made") + `"}`, nil
	case "POST /networks/{id}/connect":
		return w.fill(e, w.network("")), `{"Container":"web"}`, nil
	case "POST /networks/{id}/disconnect":
		return w.fill(e, w.network("web")), `{"Container":"web"}`, nil
	case "POST /volumes/create":
		return e.path, `{"Name":"` + w.name("vol") + `"}`, nil
	case "DELETE /volumes/{name}":
		name := w.name("vol")
		w.d.OK("volume", "create", name)
		return w.fill(e, name), "", nil
	case "GET /events":
		return "/events?since=1&until=2", "", nil
	}
	// The rest reads, prunes, or has its request in the sweep's tables.
	return target(e, ""), payloadOf(e), nil
}

// cached makes an image out of a container of the base image, and asks for it by that container's configuration.
func (w *workshop) cached() string {
	name := w.name("cached")
	id, _ := w.newest.want(201, "POST", "/containers/create", `{"Image":"busybox","Cmd":["`+name+`"]}`).object(w.t)["Id"].(string)
	w.newest.want(201, "POST", "/commit?container="+id+"&repo="+name, "{}")
	return `{"Id":"busybox","Cmd":["` + name + `"]}`
}

func (w *workshop) fill(e endpoint, what string) string {
	return strings.NewReplacer("{id}", what, "{name}", what).Replace(e.path)
}

// TestEveryPairSucceeds: every endpoint does its work at its first and at its last version, and none is left out.
func TestEveryPairSucceeds(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, "--debug")
	d.Busybox()
	d.OK("run", "-d", "--name", "web", "-v", "vol:/vol", "busybox", "sh", "-c", "echo out; exec sleep 1000")
	w := newWorkshop(t, d)
	did, rows := 0, 0
	for _, e := range endpoints(t) {
		if slices.Contains(others, e.group) || slices.Contains(swarmGroups, e.group) {
			continue
		}
		rows++
		for _, version := range slices.Compact([]string{e.since, e.until}) {
			at := version
			if strings.HasPrefix(e.path, "/debug/") && version != newest {
				at = later["/debug/"]
			}
			did++
			w.succeed(v(t, d, at), e)
		}
	}
	w.pullProgress()
	if did < 2*rows-2 { // of which some are of one version only
		t.Errorf("%d pairs of %d endpoints", did, rows)
	}
	t.Logf("%d pairs of %d endpoints", did, rows)
}

// pullProgress: plain text in 1.0, objects from 1.1, in objects of their own from 1.8.
func (w *workshop) pullProgress() {
	for _, c := range []struct {
		version      string
		json, detail bool
	}{{"1.0", false, false}, {"1.1", true, false}, {"1.7", true, false}, {"1.8", true, true}, {newest, true, true}} {
		for _, path := range []string{"/images/create?fromImage=" + w.host + "/pair&tag=1", "/images/" + w.host + "/pair/push?tag=1"} {
			body := ""
			if strings.Contains(path, "/push") {
				body = "{}"
			}
			a := v(w.t, w.d, c.version).want(200, "POST", path, body, "X-Registry-Auth: e30=")
			if strings.HasPrefix(a.body, "{") != c.json || strings.Contains(a.body, "progressDetail") && !c.detail {
				w.t.Errorf("%s %s: %q", c.version, path, a.body)
			}
		}
	}
}

func (w *workshop) succeed(c client, e endpoint) {
	w.t.Helper()
	path, body, headers := w.request(e)
	connection := "Connection: close"
	if strings.HasSuffix(e.path, "/attach/ws") {
		connection = "Connection: Upgrade"
	}
	s := c.open(e.method, path, body, append(headers, connection)...)
	defer s.conn.Close()
	words, cannot := unable[e.method+" "+e.path]
	if s.status < 400 && !cannot {
		return
	}
	_ = s.conn.SetDeadline(time.Now().Add(10 * time.Second))
	var text bytes.Buffer
	_, _ = text.ReadFrom(s.body)
	missing := strings.Contains(text.String(), "page not found") && e.group != "checkpoint" // experimental ones are not there
	if cannot && !missing && (s.status < 400 || strings.Contains(text.String(), words)) {
		return
	}
	w.t.Errorf("%s %s at %s: %d %s", e.method, path, c.version, s.status, text.String())
}
