package buildkit_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	api "github.com/moby/moby/api/types/build"

	"longshore/internal/core/fault"
	"longshore/internal/server/engineapi"
	"longshore/internal/server/engineapi/buildkit"
	service "longshore/internal/service/build"
)

// fake answers what it was asked.
type fake struct{ pruned service.PruneRequest }

func (f *fake) Cancel(_ context.Context, id string) error {
	if id != "known" {
		return fault.NotFound("no such build: %s", id)
	}
	return nil
}

func (f *fake) Prune(_ context.Context, r service.PruneRequest) (api.CachePruneReport, error) {
	f.pruned = r
	return api.CachePruneReport{CachesDeleted: []string{"a"}, SpaceReclaimed: 3}, nil
}

func (f *fake) Session(_ context.Context, conn net.Conn, meta map[string][]string) error {
	_, err := fmt.Fprintf(conn, "session %s", http.Header(meta).Get("X-Docker-Expose-Session-Uuid"))
	return err
}

func (f *fake) Control(_ context.Context, conn net.Conn) error {
	if _, err := io.WriteString(conn, "control"); err != nil {
		return err
	}
	return errors.New("gone")
}

func TestRoutes(t *testing.T) {
	f := &fake{}
	h, err := engineapi.New(engineapi.Config{Newest: "1.55", Oldest: "1.0"}, buildkit.Routes(f), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	defer srv.Close()
	for _, c := range []struct {
		path    string
		headers map[string]string
		status  int
		body    string
	}{
		{"/build/cancel?id=known", nil, 200, ""},
		{"/build/cancel?id=other", nil, 404, "no such build: other"},
		{"/build/cancel", nil, 400, "build ID not provided"},
		{"/build/prune?all=1&reserved-space=5&max-used-space=6&min-free-space=7", nil, 200, `"SpaceReclaimed":3`},
		{"/build/prune?reserved-space=x", nil, 400, "expects an integer"},
		{"/build/prune?filters=x", nil, 400, "invalid filter"},
		{"/session", nil, 400, "no upgrade proto in request"},
		{"/grpc", map[string]string{"Upgrade": "websocket", "Connection": "Upgrade"}, 400, "protocol websocket not supported"},
		{"/session", map[string]string{"Upgrade": "h2c", "Connection": "Upgrade"}, 400, "session ID is required"},
		{"/session", map[string]string{"Upgrade": "h2c", "Connection": "Upgrade", "X-Docker-Expose-Session-Uuid": "me"}, 101, "session me"},
		{"/grpc", map[string]string{"Upgrade": "h2c", "Connection": "Upgrade"}, 101, "control"},
	} {
		status, body := post(t, srv, c.path, c.headers)
		if status != c.status || !strings.Contains(body, c.body) {
			t.Errorf("%s: %d %s", c.path, status, body)
		}
	}
}

func TestPruneParameters(t *testing.T) {
	f := &fake{}
	h, err := engineapi.New(engineapi.Config{Newest: "1.55", Oldest: "1.0"}, buildkit.Routes(f), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	defer srv.Close()
	if status, body := post(t, srv, "/build/prune?all=1&reserved-space=5&max-used-space=6&min-free-space=7", nil); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	if got, want := f.pruned, (service.PruneRequest{All: true, ReservedSpace: 5, MaxUsedSpace: 6, MinFreeSpace: 7}); !reflect.DeepEqual(got, want) {
		t.Errorf("asked for %+v", got)
	}
}

// post gives the status and all that follows, of hijacked connections too.
func post(t *testing.T, srv *httptest.Server, path string, headers map[string]string) (int, string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	req, err := http.NewRequest(http.MethodPost, srv.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	if err := req.Write(conn); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		t.Fatal(err)
	}
	var body []byte
	if resp.StatusCode == http.StatusSwitchingProtocols {
		body, err = io.ReadAll(r)
	} else {
		body, err = io.ReadAll(resp.Body)
	}
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}
