package version

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"longshore/internal/server/route"
)

func newLadder(t testing.TB) *Ladder {
	t.Helper()
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func request(method, target, body string) *route.Request {
	hr := httptest.NewRequest(method, target, strings.NewReader(body))
	hr.Header.Set("Content-Type", "application/json")
	return &route.Request{HTTP: hr, Query: hr.URL.Query()}
}

// lift sends a body of an old version up and decodes what the handler would see.
func lift(t testing.TB, l *Ladder, key, version, query, body string) (map[string]any, url.Values, error) {
	t.Helper()
	r := request(strings.Fields(key)[0], "/x?"+query, body)
	step, _ := l.Step(key, route.MustVersion(version))
	if step != nil {
		if err := step.Lift(r); err != nil {
			return nil, nil, err
		}
	}
	var out map[string]any
	if err := r.DecodeOptional(&out); err != nil {
		t.Fatal(err)
	}
	return out, r.Query, nil
}

// lower sends a newest answer down.
func lower(t testing.TB, l *Ladder, key, version, query, body string) string {
	t.Helper()
	r := request(strings.Fields(key)[0], "/x?"+query, "")
	step, _ := l.Step(key, route.MustVersion(version))
	if step == nil {
		return body
	}
	if err := step.Lift(r); err != nil {
		t.Fatal(err)
	}
	resp, err := step.Lower(r, route.JSON{Body: json.RawMessage(body)})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(resp.(route.JSON).Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestNewestIsUntouched(t *testing.T) {
	l := newLadder(t)
	step, d := l.Step("GET /containers/{id}/json", route.MustVersion("1.55"))
	if step != nil || d != (route.Dialect{}) {
		t.Error("the newest version must pass without a step")
	}
}

func TestGreedyKeys(t *testing.T) {
	l := newLadder(t)
	if step, _ := l.Step("GET /images/{name...}/json", route.MustVersion("1.43")); step == nil {
		t.Error("greedy patterns must find their rung")
	}
}

func TestMacAddressClimbs(t *testing.T) {
	l := newLadder(t)
	body, _, err := lift(t, l, create, "1.43", "", `{"Image":"x","MacAddress":"02:42:ac:11:00:09","HostConfig":{"NetworkMode":"net1"}}`)
	if err != nil {
		t.Fatal(err)
	}
	ep := body["NetworkingConfig"].(map[string]any)["EndpointsConfig"].(map[string]any)["net1"].(map[string]any)
	if ep["MacAddress"] != "02:42:ac:11:00:09" || body["MacAddress"] != nil {
		t.Errorf("got %v", body)
	}
}

// TestMACWarning: the versions that know both kinds of MAC addresses warn of the container-wide one.
func TestMACWarning(t *testing.T) {
	l := newLadder(t)
	for version, warned := range map[string]bool{"1.43": false, "1.44": true, "1.51": true} {
		for mac, has := range map[string]bool{"02:42:ac:11:00:09": true, "": false} {
			r := request("POST", "/x", `{"Image":"x","MacAddress":"`+mac+`"}`)
			step, _ := l.Step(create, route.MustVersion(version))
			if err := step.Lift(r); err != nil {
				t.Fatal(err)
			}
			resp, err := step.Lower(r, route.JSON{Body: map[string]any{"Id": "x", "Warnings": []string{"first"}}})
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(resp.(route.JSON).Body)
			if err != nil || strings.Contains(string(text), "now deprecated") != (warned && has) || !strings.Contains(string(text), "first") {
				t.Errorf("%s, MAC %q: %s %v", version, mac, text, err)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	l := newLadder(t)
	for _, c := range []struct{ version, body string }{
		{"1.43", `{"NetworkingConfig":{"EndpointsConfig":{"a":{},"b":{}}}}`},
		{"1.44", `{"HostConfig":{"Mounts":[{"Type":"volume","VolumeOptions":{"Subpath":"x"}}]}}`},
		{"1.47", `{"HostConfig":{"Mounts":[{"Type":"image"}]}}`},
	} {
		if _, _, err := lift(t, l, create, c.version, "", c.body); err == nil {
			t.Errorf("%s must refuse %s", c.version, c.body)
		}
	}
}

func TestDiskUsageForms(t *testing.T) {
	l := newLadder(t)
	newest := `{"ImageUsage":{"TotalSize":5,"Items":[{"Id":"a","Size":5,"RepoTags":[],"RepoDigests":[]}]},"VolumeUsage":{}}`
	for version, want := range map[string]string{
		"1.53": newest,
		"1.52": `{"ImageUsage":{"TotalSize":5},"VolumeUsage":{},"Images":[{"Id":"a","Size":5,"RepoTags":[],"RepoDigests":[]}],"LayersSize":5,"Volumes":[]}`,
		"1.44": `{"Images":[{"Id":"a","Size":5,"RepoTags":[],"RepoDigests":[]}],"LayersSize":5,"Volumes":[],"Containers":null,"BuildCache":null}`,
	} {
		if got := lower(t, l, df, version, "", newest); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", version, got, want)
		}
	}
}

func TestEventLines(t *testing.T) {
	l := newLadder(t)
	step, _ := l.Step(eventsRoute, route.MustVersion("1.45"))
	lines := route.Lines{Run: func(_ context.Context, emit func(any) error) error {
		for _, e := range []string{`{"Type":"image","Action":"create","Actor":{"ID":"i"}}`, `{"Type":"container","Action":"start","Actor":{"ID":"c","Attributes":{"image":"busybox"}}}`} {
			if err := emit(json.RawMessage(e)); err != nil {
				return err
			}
		}
		return nil
	}}
	resp, err := step.Lower(request("GET", "/events", ""), lines)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := resp.(route.Lines).Run(t.Context(), func(v any) error {
		b, err := json.Marshal(v)
		got = append(got, string(b))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || !strings.Contains(got[0], `"status":"start","id":"c","from":"busybox"`) {
		t.Errorf("got %q", got)
	}
}

// FuzzLift: no body makes the ladder panic, whatever the version.
func FuzzLift(f *testing.F) {
	l := newLadder(f)
	f.Add(uint16(41), `{"HostConfig":{"Mounts":[{"Type":"bind"}]},"NetworkingConfig":{"EndpointsConfig":{"a":null}}}`)
	f.Add(uint16(3), `[1]`)
	f.Add(uint16(20), `{"HostConfig":"x","Config":[],"NetworkSettings":{"Networks":[]}}`)
	f.Fuzz(func(t *testing.T, minor uint16, body string) {
		v := route.Version(1000 + int(minor%56))
		for key := range l.steps {
			step, _ := l.Step(key, v)
			if step == nil {
				continue
			}
			r := request(http.MethodPost, "/x", body)
			if step.Lift(r) != nil || !json.Valid([]byte(body)) {
				continue
			}
			if _, err := step.Lower(r, route.JSON{Body: json.RawMessage(body)}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
