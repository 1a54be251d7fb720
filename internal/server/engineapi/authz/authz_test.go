package authz

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"longshore/internal/driver/authzplugin"
)

// fake notes what it is told and answers as it is set.
type fake struct {
	name              string
	request, response authzplugin.Verdict
	err               error
	calls             []authzplugin.Call
}

func (f *fake) Name() string { return f.name }

func (f *fake) Request(_ context.Context, c *authzplugin.Call) (authzplugin.Verdict, error) {
	f.calls = append(f.calls, *c)
	return f.request, f.err
}

func (f *fake) Response(_ context.Context, c *authzplugin.Call) (authzplugin.Verdict, error) {
	f.calls = append(f.calls, *c)
	return f.response, f.err
}

func permissive(name string) *fake {
	return &fake{name: name, request: authzplugin.Verdict{Allow: true}, response: authzplugin.Verdict{Allow: true}}
}

func gate(plugins ...Plugin) *Gate {
	g := New(slog.New(slog.DiscardHandler))
	g.Set(plugins)
	return g
}

func post(path, body string, header ...string) *http.Request {
	r := httptest.NewRequest("POST", path, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func TestNobodyToAsk(t *testing.T) {
	if s, err := gate().Ask(httptest.NewRecorder(), post("/x", "")); s != nil || err != nil {
		t.Error(s, err)
	}
}

func TestBodies(t *testing.T) {
	long := strings.Repeat("x", maxBody)
	for what, x := range map[string]struct {
		r    *http.Request
		want string
	}{
		"json":             {post("/v1.41/containers/create", "{}", "Content-Type", "application/json; charset=utf-8"), "{}"},
		"text":             {post("/v1.41/containers/create", "{}", "Content-Type", "text/plain"), ""},
		"no type":          {post("/v1.41/containers/create", "{}"), ""},
		"a password":       {post("/v1.41/auth", "{}", "Content-Type", "application/json"), ""},
		"unversioned":      {post("/auth", "{}", "Content-Type", "application/json"), ""},
		"long":             {post("/x", long, "Content-Type", "application/json"), ""},
		"just short of it": {post("/x", long[1:], "Content-Type", "application/json"), long[1:]},
	} {
		for _, chunked := range []bool{false, true} {
			p := permissive("p")
			r := x.r.Clone(t.Context())
			whole, err := io.ReadAll(x.r.Body)
			if err != nil {
				t.Fatal(err)
			}
			x.r.Body = io.NopCloser(strings.NewReader(string(whole)))
			r.Body = io.NopCloser(strings.NewReader(string(whole)))
			if chunked {
				r.ContentLength = -1
			}
			if _, err := gate(p).Ask(httptest.NewRecorder(), r); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if got := string(p.calls[0].RequestBody); got != x.want {
				t.Errorf("%s, chunked %v: the plugin saw %d bytes, want %d", what, chunked, len(got), len(x.want))
			}
			if left, err := io.ReadAll(r.Body); err != nil || string(left) != string(whole) {
				t.Errorf("%s: the handler reads %d bytes of %d, %v", what, len(left), len(whole), err)
			}
		}
	}
}

func TestHeaders(t *testing.T) {
	p := permissive("p")
	r := post("/x", "", "Authorization", "Bearer s", "X-Registry-Auth", "s", "X-Registry-Config", "s", "X-Plain", "a")
	r.Header.Add("X-Plain", "b")
	if _, err := gate(p).Ask(httptest.NewRecorder(), r); err != nil {
		t.Fatal(err)
	}
	if h := p.calls[0].RequestHeaders; len(h) != 1 || h["X-Plain"] != "b" {
		t.Errorf("%v", h)
	}
}

func TestRefusals(t *testing.T) {
	first, second := permissive("first"), permissive("second")
	second.request = authzplugin.Verdict{Msg: "not today"}
	_, err := gate(first, second).Ask(httptest.NewRecorder(), post("/x", ""))
	if !errors.Is(err, errdefs.ErrPermissionDenied) || err.Error() != "authorization denied by plugin second: not today" {
		t.Error(err)
	}
	first.err = errors.New("connection refused")
	_, err = gate(first, second).Ask(httptest.NewRecorder(), post("/x", ""))
	if !errors.Is(err, errdefs.ErrInternal) || err.Error() != "plugin first failed with error: connection refused" {
		t.Error(err)
	}
}

// TestAnswer: what is held back can be denied; what is not cannot.
func TestAnswer(t *testing.T) {
	for what, x := range map[string]struct {
		serve  func(w http.ResponseWriter)
		deny   bool
		denied bool
		seen   string // body that the plugin sees
		want   string // body that the client gets
		status int
	}{
		"allowed": {func(w http.ResponseWriter) { answer(w, 201, "{}") }, false, false, "{}", "{}", 201},
		"denied":  {func(w http.ResponseWriter) { answer(w, 200, "{}") }, true, true, "{}", "", 200},
		"error":   {func(w http.ResponseWriter) { answer(w, 404, "{}") }, true, false, "{}", "{}", 404},
		"empty":   {func(w http.ResponseWriter) { w.WriteHeader(204) }, false, false, "", "", 204},
		"silent":  {func(http.ResponseWriter) {}, false, false, "", "", 200},
		"flushed": {func(w http.ResponseWriter) {
			answer(w, 200, "a")
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "b")
		}, true, false, "", "ab", 200},
		"long": {func(w http.ResponseWriter) { answer(w, 200, "a"); answer(w, 200, strings.Repeat("b", maxHeld)) }, true, false, "", "a" + strings.Repeat("b", maxHeld), 200},
	} {
		p := permissive("p")
		p.response.Allow = !x.deny
		w := httptest.NewRecorder()
		w.Header().Set("Server", "x")
		s, err := gate(p).Ask(w, post("/x", ""))
		if err != nil {
			t.Fatal(err)
		}
		x.serve(s)
		err = s.Finish()
		if errors.Is(err, errdefs.ErrPermissionDenied) != x.denied {
			t.Errorf("%s: %v", what, err)
		}
		if w.Body.String() != x.want || w.Code != x.status || w.Header().Get("Server") != "x" {
			t.Errorf("%s: the client got %d %.20q %v", what, w.Code, w.Body, w.Header())
		}
		if x.denied && w.Header().Get("Content-Type") != "" {
			t.Errorf("%s: headers of the denied answer went out", what)
		}
		if got := string(p.calls[1].ResponseBody); got != x.seen {
			t.Errorf("%s: the plugin saw %.20q", what, got)
		}
	}
}

func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}
