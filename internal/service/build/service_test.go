package build

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/client"
	"github.com/moby/moby/api/types/events"

	"longshore/internal/core/build"
)

// fake is a builder that keeps what it was asked.
type fake struct {
	pruned  build.PruneOptions
	records []build.CacheRecord
	err     error
	events  []events.Message
}

func (f *fake) Solve(_ context.Context, r build.Request, progress chan<- *client.SolveStatus) (build.Result, error) {
	if progress != nil {
		close(progress)
	}
	return build.Result{ID: "sha256:x"}, f.err
}

func (f *fake) Cancel(context.Context, string) error { return f.err }

func (f *fake) Prune(_ context.Context, o build.PruneOptions) (build.PruneReport, error) {
	f.pruned = o
	return build.PruneReport{IDs: []string{"a"}, Space: 7}, f.err
}

func (f *fake) DiskUsage(context.Context) ([]build.CacheRecord, error) { return f.records, f.err }

func (f *fake) Publish(_ context.Context, m events.Message) { f.events = append(f.events, m) }

func TestSelection(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		filters map[string][]string
		keep    time.Duration
		want    []string
		invalid bool
	}{
		{filters: nil},
		{filters: map[string][]string{"until": {"48h"}}, keep: 48 * time.Hour},
		{filters: map[string][]string{"unused-for": {"10m"}, "type": {"regular"}}, keep: 10 * time.Minute, want: []string{`type=="regular"`}},
		{filters: map[string][]string{"until": {"2026-01-02T02:04:05Z"}}, keep: time.Hour},
		{filters: map[string][]string{"until": {"1767323045"}}, keep: 0},
		{filters: map[string][]string{"id": {"abc"}, "parent": {"def"}}, want: []string{`id~="abc",parent=="def"`}},
		{filters: map[string][]string{"type!": {"source.local"}}, want: []string{`type!="source.local"`}},
		{filters: map[string][]string{"inuse": {"true"}, "private": {}}, want: []string{"inuse,private"}},
		{filters: map[string][]string{"label": {"x"}}, invalid: true},
		{filters: map[string][]string{"until": {"yesterday"}}, invalid: true},
		{filters: map[string][]string{"until": {"1h", "2h"}}, invalid: true},
		{filters: map[string][]string{"type": {"a", "b"}}, invalid: true},
	} {
		keep, got, err := Selection(c.filters, now)
		if errdefs.IsInvalidArgument(err) != c.invalid {
			t.Errorf("%v: error %v", c.filters, err)
			continue
		}
		if keep != c.keep || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v: %v %q", c.filters, keep, got)
		}
	}
}

func TestPruneTells(t *testing.T) {
	f := &fake{}
	s := New(Deps{Builder: f, Events: f})
	r, err := s.Prune(t.Context(), PruneRequest{All: true, ReservedSpace: 1, MaxUsedSpace: 2, MinFreeSpace: 3, Filters: map[string][]string{"until": {"1h"}}})
	if err != nil || r.SpaceReclaimed != 7 || len(r.CachesDeleted) != 1 {
		t.Errorf("%+v %v", r, err)
	}
	if want := (build.PruneOptions{All: true, ReservedSpace: 1, MaxUsedSpace: 2, MinFreeSpace: 3, KeepDuration: time.Hour}); !reflect.DeepEqual(f.pruned, want) {
		t.Errorf("asked for %+v", f.pruned)
	}
	if len(f.events) != 1 || f.events[0].Type != events.BuilderEventType || f.events[0].Actor.Attributes["reclaimed"] != "7" {
		t.Errorf("events %+v", f.events)
	}
}

func TestUsage(t *testing.T) {
	f := &fake{records: []build.CacheRecord{{ID: "a", Size: 1}, {ID: "b", Size: 2, Shared: true}, {ID: "c", Size: 4, InUse: true}}}
	s := New(Deps{Builder: f, Events: f})
	u, err := s.Usage(t.Context(), true)
	if err != nil || u.TotalCount != 3 || u.ActiveCount != 1 || u.TotalSize != 5 || u.Reclaimable != 1 || len(u.Items) != 3 {
		t.Errorf("%+v %v", u, err)
	}
	if u, _ := s.Usage(t.Context(), false); u.Items != nil {
		t.Errorf("items without being asked: %+v", u.Items)
	}
	f.err = errors.New("broken")
	if _, err := s.Usage(t.Context(), false); !errors.Is(err, f.err) {
		t.Errorf("error %v", err)
	}
}
