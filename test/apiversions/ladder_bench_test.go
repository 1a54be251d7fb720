package apiversions

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/moby/moby/api/types/container"

	"longshore/internal/server/route"
)

// BenchmarkInspect measures what the ladder adds to an inspect: encoding at the newest version is the base line, the
// others encode and lower.
func BenchmarkInspect(b *testing.B) {
	doc, err := os.ReadFile("testdata/newest/containers-id-json.json")
	if err != nil {
		b.Fatal(err)
	}
	var c container.InspectResponse
	if err := json.Unmarshal(doc, &c); err != nil {
		b.Fatal(err)
	}
	ladder, _ := machinery(b)
	r := &route.Request{HTTP: httptest.NewRequest("GET", "/containers/x/json", nil)}
	for _, version := range []string{newest, "1.41", "1.24", "1.12", "1.0"} {
		b.Run(version, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				step, _ := ladder.Step("GET /containers/{id}/json", route.MustVersion(version))
				if step == nil {
					if _, err := json.Marshal(&c); err != nil {
						b.Fatal(err)
					}
					continue
				}
				if _, err := step.Lower(r, route.JSON{Body: &c}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkList is the list of a thousand containers.
func BenchmarkList(b *testing.B) {
	doc, err := os.ReadFile("testdata/newest/containers-json.json")
	if err != nil {
		b.Fatal(err)
	}
	var some []*container.Summary
	if err := json.Unmarshal(doc, &some); err != nil || len(some) == 0 {
		b.Fatal(err, len(some))
	}
	list := make([]*container.Summary, 1000)
	for i := range list {
		list[i] = some[i%len(some)]
	}
	ladder, _ := machinery(b)
	r := &route.Request{HTTP: httptest.NewRequest("GET", "/containers/json", nil)}
	for _, version := range []string{newest, "1.41", "1.0"} {
		b.Run(version, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				step, _ := ladder.Step("GET /containers/json", route.MustVersion(version))
				if step == nil {
					if _, err := json.Marshal(list); err != nil {
						b.Fatal(err)
					}
					continue
				}
				if _, err := step.Lower(r, route.JSON{Body: list}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
