package legacy

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"

	"longshore/internal/core/fault"
	"longshore/internal/server/route"
)

// engine records what the old operations ask of the newest.
type engine struct {
	calls    []string
	auth     string
	host     container.HostConfig
	startLen int64
}

func (e *engine) Reconfigure(_ context.Context, ref string, change func(*container.HostConfig) error) error {
	if ref == "running" {
		return fault.ErrNotModified
	}
	return change(&e.host)
}

func (e *engine) route(key string, answer any) route.Route {
	method, pattern, _ := strings.Cut(key, " ")
	return route.Route{Method: method, Pattern: pattern, Handle: func(_ context.Context, r *route.Request) (route.Response, error) {
		e.calls = append(e.calls, key)
		e.auth, e.startLen = r.HTTP.Header.Get("X-Registry-Auth"), r.HTTP.ContentLength
		if err, ok := answer.(error); ok {
			return nil, err
		}
		return route.JSON{Body: answer}, nil
	}}
}

func newTable(t *testing.T, e *engine) *route.Table {
	t.Helper()
	newest := []route.Route{
		e.route("POST /auth", map[string]string{"Status": "Login Succeeded"}),
		e.route("POST /images/{name...}/push", nil),
		e.route("POST /containers/{id}/start", nil),
		e.route("GET /images/json", []image.Summary{
			{ID: "sha256:00112233445566", ParentID: "", RepoTags: []string{"a:b"}},
			{ID: "sha256:77112233445566", ParentID: "sha256:00112233445566"},
		}),
		e.route("GET /images/{name...}/json", map[string]any{"Id": "sha256:00112233445566", "Config": map[string]any{"Env": []string{"A=b"}}}),
		e.route("GET /images/{name...}/history", []image.HistoryResponseItem{{CreatedBy: "make all"}}),
		e.route("GET /exec/{id}/json", map[string]string{"ID": "e", "ContainerID": "c"}),
		e.route("GET /containers/{id}/json", errors.New("gone")),
	}
	table, err := route.NewTable(Routes(newest, e))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func ask(t *testing.T, table *route.Table, version, method, path, body string) (route.Response, error) {
	t.Helper()
	hr := httptest.NewRequest(method, path, strings.NewReader(body))
	hr.Header.Set("Content-Type", "application/json")
	m, ok := table.Match(method, hr.URL.EscapedPath(), route.MustVersion(version))
	if !ok {
		t.Fatalf("%s %s is not there at %s", method, path, version)
	}
	return m.Route.Handle(t.Context(), &route.Request{HTTP: hr, Vars: m.Vars, Query: hr.URL.Query()})
}

// TestAccount: the login of 1.0 and 1.1 is kept, shown without its password, and used by pushes.
func TestAccount(t *testing.T) {
	e := &engine{}
	table := newTable(t, e)
	if _, err := ask(t, table, "1.0", "POST", "/auth", `{"username":"hannibal","password":"xxxx","email":"hannibal@a-team.com"}`); err != nil {
		t.Fatal(err)
	}
	resp, err := ask(t, table, "1.1", "GET", "/auth", "")
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := json.Marshal(resp.(route.JSON).Body); string(b) != `{"username":"hannibal","email":"hannibal@a-team.com"}` {
		t.Errorf("shows %s", b)
	}
	if _, err := ask(t, table, "1.1", "POST", "/images/x/y/push", ""); err != nil {
		t.Fatal(err)
	}
	if b, _ := base64.URLEncoding.DecodeString(e.auth); !strings.Contains(string(b), `"password":"xxxx"`) {
		t.Errorf("push went with %s", b)
	}
}

func TestStart(t *testing.T) {
	e := &engine{host: container.HostConfig{Privileged: true, Resources: container.Resources{Memory: 1, MemorySwap: 2}}}
	table := newTable(t, e)
	body := `{"Binds":["/a:/b"],"LxcConf":{"lxc.utsname":"docker"},"Privileged":false,"Memory":8,"Dns":null}`
	if _, err := ask(t, table, "1.20", "POST", "/containers/c/start", body); err != nil {
		t.Fatal(err)
	}
	if len(e.host.Binds) != 1 || !e.host.Privileged || e.host.Memory != 8 || e.host.MemorySwap != 0 {
		t.Errorf("host configuration: %+v", e.host)
	}
	if e.startLen != 0 || len(e.calls) != 1 {
		t.Errorf("start got %d bytes, calls %v", e.startLen, e.calls)
	}
	for _, bad := range []string{`{`, `{"Binds":5}`} {
		if _, err := ask(t, table, "1.20", "POST", "/containers/c/start", bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := ask(t, table, "1.20", "POST", "/containers/running/start", body); !errors.Is(err, fault.ErrNotModified) {
		t.Errorf("a running container: %v", err)
	}
	for _, empty := range []string{"", "{}", "null", `{"Binds":[]}`} {
		if _, err := ask(t, table, "1.20", "POST", "/containers/running/start", empty); err != nil {
			t.Errorf("%q: %v", empty, err)
		}
	}
}

func TestViz(t *testing.T) {
	resp, err := ask(t, newTable(t, &engine{}), "1.6", "GET", "/images/viz", "")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := resp.(route.Raw).Run(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	want := "digraph docker {\n base -> \"001122334455\" [style=invis]\n \"001122334455\" -> \"771122334455\"\n" +
		" \"001122334455\" [label=\"001122334455\\na:b\",shape=box,fillcolor=\"paleturquoise\",style=\"filled,rounded\"];\n base [style=invisible]\n}\n"
	if b.String() != want {
		t.Errorf("got %s", b.String())
	}
}

func TestGetCache(t *testing.T) {
	table := newTable(t, &engine{})
	resp, err := ask(t, table, "1.4", "POST", "/images/getCache", `{"Id":"base","Cmd":["make","all"],"Env":["A=b"]}`)
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.(route.JSON).Body.(cachedImage).ID; got != "sha256:77112233445566" {
		t.Errorf("found %s", got)
	}
	for _, other := range []string{`{"Id":"base","Cmd":["make"]}`, `{"Id":"base","Cmd":["make","all"],"Env":["C=d"]}`} {
		if _, err := ask(t, table, "1.4", "POST", "/images/getCache", other); !errdefs.IsNotFound(err) {
			t.Errorf("%s: %v", other, err)
		}
	}
}

func TestExecOfAContainerThatIsGone(t *testing.T) {
	if _, err := ask(t, newTable(t, &engine{}), "1.21", "GET", "/exec/e/json", ""); err == nil {
		t.Error("no error")
	}
}

func TestInsertWantsAURLAndAPath(t *testing.T) {
	table := newTable(t, &engine{})
	for _, q := range []string{"", "url=x", "path=/x"} {
		if _, err := ask(t, table, "1.11", "POST", "/images/x/insert?"+q, ""); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", q, err)
		}
	}
	resp, err := ask(t, table, "1.11", "POST", "/images/x/insert?"+url.Values{"url": {"http://127.0.0.1:1/f"}, "path": {"/f"}}.Encode(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.(route.Lines).Run(t.Context(), func(any) error { return nil }); err == nil {
		t.Error("a server that is not there: no error")
	}
}

// FuzzStart: no body panics or reaches the newest start.
func FuzzStart(f *testing.F) {
	f.Add(`{"Binds":["/a:/b"],"PortBindings":{"80/tcp":[{"HostPort":"1"}]}}`)
	f.Add(`[1]`)
	f.Fuzz(func(t *testing.T, body string) {
		e := &engine{}
		if _, err := ask(t, newTable(t, e), "1.10", "POST", "/containers/c/start", body); err == nil && e.startLen != 0 {
			t.Errorf("start got %d bytes", e.startLen)
		}
	})
}
