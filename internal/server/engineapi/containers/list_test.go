package containers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/opencontainers/go-digest"

	core "longshore/internal/core/container"
	"longshore/internal/server/engineapi/version"
	"longshore/internal/server/route"
	"longshore/internal/service/engine/containers/listing"
)

const listRoute = "GET /containers/json"

var began = time.Unix(1_800_000_000, 0).UTC()

func record(i int) *core.Record {
	rec := &core.Record{
		ID: fmt.Sprintf("%d%s", i, strings.Repeat("a", 63)), Name: fmt.Sprintf("c%d", i), Created: began,
		Config: &container.Config{Image: "busybox", Cmd: []string{"sh", "-c", "<a> & \"b\""}, Labels: map[string]string{"k": "Up 3 \"Status\":\"x\""}}, HostConfig: &container.HostConfig{NetworkMode: "default"},
		Image: core.Image{ID: digest.FromString("base")}, State: core.State{Phase: core.Running, StartedAt: began},
		Networks: map[string]*network.EndpointSettings{"bridge": {NetworkID: "abcdef", DNSNames: []string{"n"}, GwPriority: 3}},
		Mounts:   []core.Mount{{MountPoint: container.MountPoint{Name: "data", Destination: "/var/lib"}}},
	}
	rec.Config.ExposedPorts = network.PortSet{network.MustParsePort("80/tcp"): {}, network.MustParsePort("9/udp"): {}}
	rec.Run = &core.Run{Ports: network.PortMap{network.MustParsePort("80/tcp"): {{HostIP: netip.MustParseAddr("0.0.0.0"), HostPort: "8080"}}}}
	switch i % 5 {
	case 1:
		rec.State.Phase = core.Removing // which versions below 1.25 call something else
	case 2:
		rec.State.Health = &container.Health{Status: container.Healthy}
	case 3:
		rec.State, rec.Config.Labels = core.State{Phase: core.Created}, nil
	case 4:
		rec.HostConfig.Annotations = map[string]string{"a": "b"}
	}
	return rec
}

func itemOf(rec *core.Record, now time.Time) *listing.Item {
	return &listing.Item{Shown: &listing.Shown{Record: rec}, Image: "busybox", Status: rec.State.Sentence(now)}
}

func listOf(items ...*listing.Item) route.JSON {
	l := route.List{}
	for _, i := range items {
		l.Elements = append(l.Elements, &element{item: i, mark: "a mark"})
	}
	return route.JSON{Body: l}
}

// plain encodes the summaries of items at a version, with nothing kept.
func plain(t *testing.T, ladder *version.Ladder, v route.Version, items []*listing.Item) string {
	t.Helper()
	sums := make([]*container.Summary, len(items))
	for i, item := range items {
		sums[i] = item.Summary()
	}
	return encoded(t, ladder, v, route.JSON{Body: sums})
}

func encoded(t *testing.T, ladder *version.Ladder, v route.Version, answer route.JSON) string {
	t.Helper()
	if step, d := ladder.Step(listRoute, v); step != nil {
		resp, err := step.Lower(&route.Request{HTTP: httptest.NewRequest("GET", "/containers/json", nil), Dialect: d}, answer)
		if err != nil {
			t.Fatal(err)
		}
		answer = resp.(route.JSON)
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(answer.Body); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

// What is kept is what every version is told, however time goes on, and whatever else changes.
func TestKeptTextsAreTheLadders(t *testing.T) {
	ladder, err := version.New()
	if err != nil {
		t.Fatal(err)
	}
	var items []*listing.Item
	for i := range 10 {
		items = append(items, itemOf(record(i), began.Add(time.Second)))
	}
	for minor := route.Version(0); minor <= 55; minor++ {
		v := 1000 + minor
		for n := range 6 { // twice a new thing, then the same again
			for i, item := range items {
				item.Status = item.Record.State.Sentence(began.Add(time.Duration(n/2+1) * time.Hour))
				item.Aliases = [][]string{nil, {"/web/db"}, {"/web/db", "/app/db"}}[n/2]
				item.Image = []string{"busybox", item.Record.Image.ID.String(), "busybox"}[n/2]
				if i == 3 {
					item.Status = "odd \"\\\n\x01é" // no container is; but the text stays JSON
				}
			}
			if got, want := encoded(t, ladder, v, listOf(items...)), plain(t, ladder, v, items); got != want {
				t.Fatalf("at 1.%d, time %d:\n%s\nwant\n%s", minor, n, got, want)
			}
		}
	}
	for _, item := range items {
		if kept := (&element{item: item}).kept(); len(kept) != keptTexts {
			t.Errorf("%d texts are kept, want %d", len(kept), keptTexts)
		}
	}
}

// A client below some version may have no such element at all; and one whose text holds the mark somewhere else is encoded anew.
func TestOmittedAndMarked(t *testing.T) {
	item := itemOf(record(2), began.Add(time.Minute))
	item.Record.Config.Labels["l"] = "a mark"
	for range 2 {
		text, err := (&element{item: item, mark: "a mark"}).AppendText(nil, nil)
		if err != nil || !json.Valid(text) || !bytes.Contains(text, []byte(`"Status":"Up About a minute (healthy)"`)) || !bytes.Contains(text, []byte(`"l":"a mark"`)) {
			t.Fatalf("%s %v", text, err)
		}
	}
	none := &route.Edit{Text: func(any) ([]byte, error) { return nil, nil }}
	list := listOf(itemOf(record(0), began), itemOf(record(1), began)).Body.(route.List)
	list.Edit = none
	for range 2 {
		if text, err := list.AppendTo(nil); err != nil || string(text) != "[]" {
			t.Errorf("%s %v", text, err)
		}
	}
}

// Many lists of several versions are made of one snapshot at the same time.
func TestKeptTextsAtOnce(t *testing.T) {
	ladder, err := version.New()
	if err != nil {
		t.Fatal(err)
	}
	items := []*listing.Item{itemOf(record(0), began), itemOf(record(2), began)}
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for i := range 200 {
				v := route.Version(1000 + (n*7+i)%56)
				mine := make([]*listing.Item, len(items))
				for k, item := range items {
					own := *item
					own.Status = fmt.Sprintf("Up %d seconds", i)
					mine[k] = &own
				}
				if got, want := encoded(t, ladder, v, listOf(mine...)), plain(t, ladder, v, mine); got != want {
					t.Errorf("at %d:\n%s\nwant\n%s", v, got, want)
					return
				}
			}
		})
	}
	all.Wait()
}
