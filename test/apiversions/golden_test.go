package apiversions

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"

	"longshore/internal/server/engineapi/version"
	"longshore/internal/server/route"
)

// example is a request and its answer as a version's document shows them.
type example struct {
	Source      string            `json:"source"`
	Method      string            `json:"method"`
	Path        string            `json:"path"`
	Headers     map[string]string `json:"headers"`
	Body        json.RawMessage   `json:"body"`
	Status      int               `json:"status"`
	ContentType string            `json:"contentType"`
	Shown       json.RawMessage   `json:"shown"`
}

// canonical is what the newest handler gets for an example.
type canonical struct {
	Request string          `json:"request"`
	Key     string          `json:"key"`
	Query   string          `json:"query,omitempty"`
	Auth    string          `json:"auth,omitempty"`
	Body    json.RawMessage `json:"body,omitempty"`
	Refused string          `json:"refused,omitempty"`
}

// view is what a version's client gets to see of the newest answer, and how that differs from the document's example.
type view struct {
	Key string `json:"key"`
	// Missing are keys of the example that the answer does not have, or has with another type.
	Missing []string `json:"missing,omitempty"`
	// Unknown are keys of the answer that the example does not show.
	Unknown []string        `json:"unknown,omitempty"`
	Answer  json.RawMessage `json:"answer"`
}

func examples(t *testing.T, minor int) []example {
	t.Helper()
	doc, err := os.ReadFile(fmt.Sprintf("testdata/golden/v1.%d.json", minor))
	if err != nil {
		t.Fatal(err)
	}
	var list []example
	if err := json.Unmarshal(doc, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// oldVersions are those with documents of their own, 1.0 to 1.24.
const oldVersions = 25

var prefix = regexp.MustCompile(`^/v1\.\d+`)

// place finds an example's route.
func place(table *route.Table, e example, v route.Version) (*route.Request, route.Match, bool) {
	path := prefix.ReplaceAllString(strings.NewReplacer("{", "%7B", "}", "%7D", "(", "", ")", "").Replace(e.Path), "")
	hr := httptest.NewRequest(e.Method, strings.ReplaceAll(path, " ", "%20"), bytes.NewReader(e.Body))
	for k, val := range e.Headers {
		hr.Header.Set(k, val)
	}
	m, ok := table.Match(e.Method, hr.URL.EscapedPath(), v)
	return &route.Request{HTTP: hr, Vars: m.Vars, Query: hr.URL.Query()}, m, ok
}

// bodies are what handlers decode, to see that they can.
var bodies = map[string]func() any{
	"POST /containers/create":      func() any { return new(container.CreateRequest) },
	"POST /containers/{id}/start":  func() any { return new(container.HostConfig) },
	"POST /containers/{id}/exec":   func() any { return new(container.ExecCreateRequest) },
	"POST /exec/{id}/start":        func() any { return new(container.ExecStartRequest) },
	"POST /containers/{id}/update": func() any { return new(container.UpdateConfig) },
	"POST /commit":                 func() any { return new(container.Config) },
	"POST /networks/create":        func() any { return new(network.CreateRequest) },
	"POST /networks/{id}/connect":  func() any { return new(network.ConnectRequest) },
	"POST /volumes/create":         func() any { return new(volume.CreateRequest) },
}

// TestCanonicalRequests lifts every request that the documents of 1.0 to 1.24 show.
func TestCanonicalRequests(t *testing.T) {
	ladder, table := machinery(t)
	for minor := range oldVersions {
		v := route.Version(1000 + minor)
		var got []canonical
		for _, e := range examples(t, minor) {
			r, m, ok := place(table, e, v)
			if !ok && strings.HasPrefix(e.Path, "/containers/4fa6e0f0c678/resize") {
				continue // the document's slip: resize is a POST
			}
			if !ok {
				t.Errorf("1.%d has no route for %s %s", minor, e.Method, e.Path)
				continue
			}
			c := canonical{Request: e.Method + " " + e.Path, Key: m.Route.Key()}
			if step, _ := ladder.Step(m.Route.Key(), v); step != nil {
				if err := step.Lift(r); err != nil {
					c.Refused = err.Error()
				}
			}
			c.Query, c.Auth = r.Query.Encode(), r.HTTP.Header.Get("X-Registry-Auth")
			if len(e.Body) > 0 && c.Refused == "" {
				c.Body = payload(t, r)
				if make := bodies[c.Key]; make != nil {
					if err := json.Unmarshal(c.Body, make()); err != nil {
						t.Errorf("1.%d %s %s: %v in %s", minor, e.Method, e.Path, err, c.Body)
					}
				}
			}
			got = append(got, c)
		}
		golden(t, fmt.Sprintf("testdata/canonical/v1.%d.json", minor), got)
	}
}

func machinery(t testing.TB) (*version.Ladder, *route.Table) {
	t.Helper()
	ladder, err := version.New()
	if err != nil {
		t.Fatal(err)
	}
	table, err := route.NewTable(allRoutes())
	if err != nil {
		t.Fatal(err)
	}
	return ladder, table
}

func payload(t *testing.T, r *route.Request) json.RawMessage {
	t.Helper()
	var b bytes.Buffer
	if _, err := b.ReadFrom(r.Payload()); err != nil {
		t.Fatal(err)
	}
	if b.Len() == 0 {
		return nil
	}
	return b.Bytes()
}

// golden compares with a file, a line per item.
func golden[T any](t *testing.T, path string, items []T) {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("[\n")
	for i, it := range items {
		var line bytes.Buffer
		enc := json.NewEncoder(&line)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(it); err != nil {
			t.Fatal(err)
		}
		b.Write(bytes.TrimSpace(line.Bytes()))
		if i+1 < len(items) {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
	}
	b.WriteString("]\n")
	if *update {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b.Bytes(), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	wantLines, gotLines := strings.Split(string(want), "\n"), strings.Split(b.String(), "\n")
	for i := range max(len(wantLines), len(gotLines)) {
		if i >= len(wantLines) || i >= len(gotLines) || wantLines[i] != gotLines[i] {
			t.Errorf("%s differs in line %d; look at the difference after -update", path, i+1)
			return
		}
	}
}

// TestViews lowers what the newest version answers to each of 1.0 to 1.24 and holds it against the documents' examples.
func TestViews(t *testing.T) {
	ladder, table := machinery(t)
	for minor := range oldVersions {
		v := route.Version(1000 + minor)
		var got []view
		seen := map[string]bool{}
		for _, e := range examples(t, minor) {
			r, m, ok := place(table, e, v)
			if !ok || len(e.Shown) == 0 {
				continue
			}
			key := version.Key(m.Route.Key())
			newest, err := os.ReadFile("testdata/newest/" + fixtureName(key) + ".json")
			if err != nil || seen[key] || key == "GET /auth" {
				continue
			}
			if key == "GET /exec/{id}/json" && minor < 22 {
				newest = withContainer(t, newest)
			}
			seen[key] = true
			answer := lowered(t, ladder, key, v, r, newest)
			w := view{Key: key, Answer: answer}
			var shown, here any
			if json.Unmarshal(e.Shown, &shown) == nil && json.Unmarshal(answer, &here) == nil {
				compare("", shown, here, &w.Missing, &w.Unknown)
			}
			sort.Strings(w.Missing)
			sort.Strings(w.Unknown)
			got = append(got, w)
		}
		golden(t, fmt.Sprintf("testdata/views/v1.%d.json", minor), got)
	}
}

// withContainer is what the route of before 1.22 answers.
func withContainer(t *testing.T, exec []byte) []byte {
	t.Helper()
	c, err := os.ReadFile("testdata/newest/containers-id-json.json")
	if err != nil {
		t.Fatal(err)
	}
	return append(append(bytes.TrimSuffix(bytes.TrimSpace(exec), []byte("}")), `,"Container":`...), append(c, '}')...)
}

func fixtureName(key string) string {
	_, path, _ := strings.Cut(key, " ")
	return strings.Trim(strings.NewReplacer("/", "-", "{", "", "}", "").Replace(path), "-")
}

// lowered takes an answer down and shows what would be written.
func lowered(t *testing.T, ladder *version.Ladder, key string, v route.Version, r *route.Request, newest []byte) json.RawMessage {
	t.Helper()
	step, _ := ladder.Step(key, v)
	if step == nil {
		return compact(t, newest)
	}
	if key == "GET /events" || key == "POST /containers/{id}/wait" {
		resp, err := step.Lower(r, route.Lines{Run: func(_ context.Context, emit func(any) error) error {
			return emit(json.RawMessage(newest))
		}})
		if err != nil {
			t.Fatal(err)
		}
		var out json.RawMessage
		if err := resp.(route.Lines).Run(t.Context(), func(v any) error {
			out, err = json.Marshal(v)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return out
	}
	resp, err := step.Lower(r, route.JSON{Body: json.RawMessage(newest)})
	if err != nil {
		t.Fatal(err)
	}
	doc, ok := resp.(route.JSON)
	if !ok {
		return json.RawMessage(`null`)
	}
	b, err := json.Marshal(doc.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func compact(t *testing.T, doc []byte) json.RawMessage {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, doc); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// dynamic are objects whose keys are names, not fields.
var dynamic = []string{"Ports", "Volumes", "VolumesRW", "Labels", "ExposedPorts", "PortBindings", "Networks", "Containers", "Options", "Attributes",
	"Config.Env", "networks", "network", "Tcp", "Udp", "Sysctls", "Tmpfs", "IndexConfigs", "Data", "stats", "Runtimes", "LxcConf"}

func compare(at string, shown, here any, missing, unknown *[]string) {
	if i := strings.LastIndexByte(at, '.'); slices.Contains(dynamic, at[i+1:]) {
		if kind(shown) != kind(here) && shown != nil && here != nil {
			*missing = append(*missing, fmt.Sprintf("%s: %s, here %s", at, kind(shown), kind(here)))
		}
		return
	}
	switch s := shown.(type) {
	case nil:
	case map[string]any:
		h, ok := here.(map[string]any)
		if !ok {
			break
		}
		for k, v := range s {
			if hv, has := h[k]; has {
				compare(strings.TrimPrefix(at+"."+k, "."), v, hv, missing, unknown)
			} else {
				*missing = append(*missing, strings.TrimPrefix(at+"."+k, "."))
			}
		}
		for k := range h {
			if _, has := s[k]; !has {
				*unknown = append(*unknown, strings.TrimPrefix(at+"."+k, "."))
			}
		}
		return
	case []any:
		h, ok := here.([]any)
		if !ok {
			break
		}
		if len(s) > 0 && len(h) > 0 {
			compare(at+"[]", s[0], h[0], missing, unknown)
		}
		return
	}
	if kind(shown) != kind(here) && shown != nil && here != nil {
		*missing = append(*missing, fmt.Sprintf("%s: %s, here %s", at, kind(shown), kind(here)))
	}
}

func kind(v any) string {
	switch v.(type) {
	case map[string]any:
		return "object"
	case []any:
		return "list"
	case string:
		return "string"
	case bool:
		return "boolean"
	case float64:
		return "number"
	}
	return "null"
}
