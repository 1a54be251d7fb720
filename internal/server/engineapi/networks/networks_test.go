package networks

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/network"

	"longshore/internal/core/fault"
	"longshore/internal/server/httperr"
	"longshore/internal/server/route"
)

// recorded is a service that keeps what it was asked.
type recorded struct{ calls []any }

func (r *recorded) add(v ...any) { r.calls = append(r.calls, v...) }

func (r *recorded) List(_ context.Context, f map[string][]string) ([]network.Inspect, error) {
	r.add("list", f)
	return []network.Inspect{{Network: network.Network{Name: "n"}, Containers: map[string]network.EndpointResource{"c": {}}}}, nil
}

func (r *recorded) Inspect(_ context.Context, term, scope string) (network.Inspect, error) {
	r.add("inspect", term, scope)
	if term == "nope" {
		return network.Inspect{}, fault.NotFound("network %s not found", term)
	}
	return network.Inspect{Network: network.Network{Name: term}}, nil
}

func (r *recorded) Name(term string) (string, error) {
	if term == "nope" {
		return "", fault.NotFound("network %s not found", term)
	}
	return term, nil
}

func (r *recorded) Create(_ context.Context, c network.CreateRequest) (network.CreateResponse, error) {
	r.add("create", c.Name, c.Internal)
	return network.CreateResponse{ID: "1"}, nil
}

func (r *recorded) Remove(_ context.Context, term string) error { r.add("remove", term); return nil }

func (r *recorded) Prune(_ context.Context, f map[string][]string) (network.PruneReport, error) {
	r.add("prune", f)
	return network.PruneReport{NetworksDeleted: []string{"n"}}, nil
}

func (r *recorded) ConnectContainer(_ context.Context, net, container string, e *network.EndpointSettings) error {
	r.add("connect", net, container, e.Aliases)
	return nil
}

func (r *recorded) DisconnectContainer(_ context.Context, net, container string, force bool) error {
	r.add("disconnect", net, container, force)
	return nil
}

func TestHandlers(t *testing.T) {
	filters := map[string][]string{"name": {"x"}}
	for _, c := range []struct {
		method, url, body string
		status            int
		answer            string
		calls             []any
	}{
		{"GET", `/networks?filters={"name":["x"]}`, "", 200, `[{"Name":"n"`, []any{"list", filters}},
		{"GET", `/networks?filters={"name":{"x":true}}`, "", 200, `[{"Name":"n"`, []any{"list", filters}},
		{"GET", `/networks?filters=x`, "", 400, "invalid filter", nil},
		{"GET", "/networks/n?verbose=1&scope=local", "", 200, `"Containers":null`, []any{"inspect", "n", "local"}},
		{"GET", "/networks/n?verbose=x", "", 400, "invalid value for verbose: x", nil},
		{"GET", "/networks/nope", "", 404, "network nope not found", []any{"inspect", "nope", ""}},
		{"POST", "/networks/create", `{"Name":"a","Internal":true}`, 201, `{"Id":"1","Warning":""}`, []any{"create", "a", true}},
		{"POST", "/networks/create", `{"Name":1}`, 400, "invalid JSON", nil},
		{"POST", "/networks/create", `{"IPAM":{"Config":[{"Subnet":"x"}]}}`, 400, "invalid JSON", nil},
		{"POST", "/networks/create", "", 400, "EOF", nil},
		{"DELETE", "/networks/n", "", 204, "", []any{"remove", "n"}},
		{"POST", "/networks/prune", "", 200, `{"NetworksDeleted":["n"]}`, []any{"prune", map[string][]string(nil)}},
		{"POST", "/networks/n/connect", `{"Container":"c","EndpointConfig":{"Aliases":["x"]}}`, 200, "", []any{"connect", "n", "c", []string{"x"}}},
		{"POST", "/networks/n/disconnect", `{"Container":"c","Force":true}`, 200, "", []any{"disconnect", "n", "c", true}},
	} {
		r := &recorded{}
		status, answer := do(t, r, c.method, c.url, c.body)
		if status != c.status || !strings.Contains(answer, c.answer) || !reflect.DeepEqual(plain(r.calls), plain(c.calls)) {
			t.Errorf("%s %s: %d %s %v", c.method, c.url, status, answer, r.calls)
		}
		if c.method == "GET" && c.status == 200 && strings.HasPrefix(answer, "[") && strings.Contains(answer, "Containers") {
			t.Errorf("a list shows containers: %s", answer)
		}
	}
}

func plain(v []any) string { b, _ := json.Marshal(v); return string(b) }

// do answers a request as the server does: status and body, or the error's.
func do(t *testing.T, r *recorded, method, url, body string) (int, string) {
	t.Helper()
	table, err := route.NewTable(Routes(r, r))
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequest(method, strings.NewReplacer("{", "%7B", "}", "%7D", `"`, "%22", "[", "%5B", "]", "%5D").Replace(url), strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	v, err := route.ParseVersion("1.55")
	if err != nil {
		t.Fatal(err)
	}
	m, ok := table.Match(method, req.URL.EscapedPath(), v)
	if !ok {
		t.Fatalf("%s: no route", url)
	}
	out, err := m.Route.Handle(t.Context(), &route.Request{HTTP: req, Vars: m.Vars, Query: req.URL.Query()})
	if err != nil {
		return httperr.Status(err), err.Error()
	}
	switch out := out.(type) {
	case route.JSON:
		b, err := json.Marshal(out.Body)
		if err != nil {
			t.Fatal(err)
		}
		return max(out.Status, http.StatusOK), string(b)
	case route.Empty:
		if out.Status == 0 {
			return http.StatusNoContent, ""
		}
		return out.Status, ""
	}
	t.Fatalf("%T", out)
	return 0, ""
}
