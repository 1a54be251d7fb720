package authzplugin

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// serve answers as a plugin of that kind at a socket.
func serve(t *testing.T, socket, kind string, answer func(method string, c Call) (int, any)) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: handler(kind, answer)}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
}

func handler(kind string, answer func(method string, c Call) (int, any)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.Header.Get("Accept") != mediaType {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		status, doc := http.StatusOK, any(map[string][]string{"Implements": {kind}})
		if r.URL.Path != "/Plugin.Activate" {
			var c Call
			if json.NewDecoder(r.Body).Decode(&c) != nil {
				status = http.StatusTeapot
			} else {
				status, doc = answer(strings.TrimPrefix(r.URL.Path, "/AuthZPlugin."), c)
			}
		}
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(doc)
	})
}

func places(t *testing.T) Places {
	t.Helper()
	dir, err := os.MkdirTemp("", "authz") // short enough for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for _, d := range []string{"run/nested", "etc/deep"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return Places{Sockets: filepath.Join(dir, "run"), Specs: []string{filepath.Join(dir, "etc"), filepath.Join(dir, "usr")}}
}

func yes(string, Call) (int, any) { return 200, Verdict{Allow: true} }

func TestFind(t *testing.T) {
	p := places(t)
	serve(t, p.Sockets+"/plain.sock", "authz", yes)
	serve(t, p.Sockets+"/nested/nested.sock", "authz", yes)
	serve(t, p.Sockets+"/other.sock", "VolumeDriver", yes)
	secure := httptest.NewTLSServer(handler("authz", yes))
	defer secure.Close()
	address := strings.TrimPrefix(secure.URL, "https://")
	for name, text := range map[string]string{
		"spec.spec": "unix://" + p.Sockets + "/plain.sock\n", "deep/deep.json": `{"Name": "deep", "Addr": "https://` + address + `", "TLSConfig": {}}`,
		"odd.spec": "gopher://x", "torn.json": `{"Addr":`, "ca.json": `{"Addr": "tcp://` + address + `", "TLSConfig": {"CAFile": "/none"}}`,
	} {
		if err := os.WriteFile(filepath.Join(p.Specs[0], name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"plain", "nested", "spec", "deep"} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		plugin, err := Open(ctx, name, p)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if v, err := plugin.Request(ctx, &Call{}); err != nil || !v.Allow || plugin.Name() != name {
			t.Errorf("%s: %v %v", name, v, err)
		}
		cancel()
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for name, want := range map[string]string{
		"none": `plugin "none" not found`, "../run/plain": "not found", "odd": "unknown protocol", "torn": "unexpected end of JSON", "ca": "no such file",
	} {
		if _, err := Open(gone, name, p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(gone, "none", p); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("class: %v", err)
	}
	if _, err := Open(t.Context(), "other", p); err == nil || !strings.Contains(err.Error(), "does not implement the requested driver: authz") {
		t.Errorf("other: %v", err)
	}
}

// TestOpenWaits: a plugin that starts after the engine is found.
func TestOpenWaits(t *testing.T) {
	p := places(t)
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	go func() {
		_, err := Open(ctx, "late", p)
		done <- err
	}()
	serve(t, p.Sockets+"/late.sock", "authz", yes)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAnswers(t *testing.T) {
	p := places(t)
	serve(t, p.Sockets+"/x.sock", "authz", func(method string, c Call) (int, any) {
		switch c.RequestURI {
		case "/deny":
			return 200, Verdict{Msg: method + " " + string(c.RequestBody)}
		case "/err":
			return 200, Verdict{Allow: true, Err: "no policy"}
		case "/status":
			return 500, Verdict{Err: "broken"}
		case "/text":
			return 500, "broken"
		case "/long":
			return 200, strings.Repeat("x", maxAnswer)
		}
		return 200, "no verdict"
	})
	plugin, err := Open(t.Context(), "x", p)
	if err != nil {
		t.Fatal(err)
	}
	defer plugin.Close()
	if v, err := plugin.Request(t.Context(), &Call{RequestURI: "/deny", RequestBody: []byte("body")}); err != nil || v.Allow || v.Msg != "AuthZReq body" {
		t.Errorf("%+v %v", v, err)
	}
	if v, err := plugin.Response(t.Context(), &Call{RequestURI: "/deny"}); err != nil || v.Allow || v.Msg != "AuthZRes " {
		t.Errorf("%+v %v", v, err)
	}
	for uri, want := range map[string]string{"/err": "no policy", "/status": "broken", "/text": "broken", "/long": "longer than", "/": "no JSON"} {
		if v, err := plugin.Request(t.Context(), &Call{RequestURI: uri}); err == nil || v.Allow || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v %v", uri, v, err)
		}
	}
}
