package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/service/engine/images/transfer"
)

// TestEverythingAtOnce loads, tags, lists, prepares and removes while garbage is collected all the time.
func TestEverythingAtOnce(t *testing.T) {
	r := newRig(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	var collector sync.WaitGroup
	collector.Go(func() {
		for ctx.Err() == nil {
			if err := r.store.GarbageCollect(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	layer := busyboxLayer(t)
	var wait sync.WaitGroup
	for w := range 4 {
		wait.Go(func() {
			for i := range 4 {
				name := fmt.Sprintf("w%d:%d", w, i)
				a := savedArchive(t, []string{name}, map[string]string{"n": name}, layer, tarOf(t, file{name: "etc/n", body: []byte(name)}))
				if err := r.Load(ctx, bytes.NewReader(a), nil, func(any) error { return nil }); err != nil {
					t.Errorf("load %s: %v", name, err)
					return
				}
				if err := r.once(ctx, name); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
			}
		})
	}
	wait.Wait()
	cancel()
	collector.Wait()
	if n := len(r.cat.All()); n != 0 {
		t.Errorf("%d images are left", n)
	}
	if err := r.store.GarbageCollect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := blobs(t, r.root); n != 0 {
		t.Errorf("%d blobs are left", n)
	}
}

// once uses an image and removes it.
func (r *rig) once(ctx context.Context, name string) error {
	img, err := r.Resolve(ctx, name, nil)
	if err != nil {
		return err
	}
	key := strings.ReplaceAll(name, ":", "-")
	if err := r.Prepare(ctx, key, img); err != nil {
		return err
	}
	if err := r.Tag(ctx, name, name+"x", ""); err != nil {
		return err
	}
	if _, err := r.List(ctx, ListOptions{SharedSize: true}); err != nil {
		return err
	}
	if _, err := r.Changes(ctx, key); err != nil {
		return err
	}
	if err := r.Service.Remove(ctx, key); err != nil {
		return err
	}
	if _, err := r.RemoveImage(ctx, name, RemoveOptions{}); err != nil {
		return err
	}
	_, err = r.RemoveImage(ctx, name+"x", RemoveOptions{})
	return err
}

// TestPullGivenUp cancels a pull in the middle: nothing is left, and the next one works.
func TestPullGivenUp(t *testing.T) {
	a, b := newRig(t, Config{}), newRig(t, Config{})
	p := newPeer(t, nil)
	ref := pushed(t, a, p.host, nil)
	gate := make(chan struct{})
	reached := make(chan struct{}, 16)
	p.intercept(func(_ http.ResponseWriter, req *http.Request) bool {
		if req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/") {
			reached <- struct{}{}
			select {
			case <-gate:
			case <-req.Context().Done():
			}
		}
		return false
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-reached
		cancel()
	}()
	err := b.Pull(ctx, PullOptions{Image: ref}, func(any) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled pull: %v", err)
	}
	if len(b.cat.All()) != 0 {
		t.Error("a cancelled pull left an image")
	}
	leases, err := b.store.Leases().List(t.Context())
	if err != nil || len(leases) != 0 {
		t.Errorf("%d leases are left: %v", len(leases), err)
	}
	if st, err := b.store.Content().ListStatuses(t.Context()); err != nil || len(st) != 0 {
		t.Errorf("%d ingests are left: %v", len(st), err)
	}
	close(gate)
	if err := b.Pull(t.Context(), PullOptions{Image: ref}, func(any) error { return nil }); err != nil {
		t.Error(err)
	}
}

// TestFlights checks that late comers see all progress, that one who leaves does not stop the others, and that the last
// one does.
func TestFlights(t *testing.T) {
	var f transfer.Flights
	started, goOn := make(chan struct{}), make(chan struct{})
	work := func(ctx context.Context, emit transfer.Emit) error {
		_ = emit("first")
		close(started)
		select {
		case <-goOn:
			return emit("last")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	leaving, leave := context.WithCancel(t.Context())
	var wait, left sync.WaitGroup
	left.Go(func() {
		if err := f.Do(leaving, "k", func(any) error { return nil }, work); !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
	})
	<-started
	joined := make(chan struct{}, 8)
	wait.Go(func() {
		var got []string
		err := f.Do(t.Context(), "k", func(v any) error {
			got = append(got, fmt.Sprint(v))
			joined <- struct{}{}
			return nil
		}, nil)
		if err != nil || strings.Join(got, " ") != "first last" {
			t.Errorf("late comer got %v, %v", got, err)
		}
	})
	<-joined
	leave()
	left.Wait()
	close(goOn)
	wait.Wait()

	stopped := make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := f.Do(ctx, "k", func(any) error { return nil }, func(ctx context.Context, _ transfer.Emit) error {
		<-ctx.Done()
		close(stopped)
		return ctx.Err()
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	<-stopped
}

func TestSearchFilters(t *testing.T) {
	r := newRig(t, Config{})
	for k, v := range map[string]string{"stars": "many", "is-official": "perhaps", "nope": "1"} {
		if _, err := r.Search(t.Context(), SearchOptions{Term: "x", Filters: map[string][]string{k: {v}}}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s=%s: %v", k, v, err)
		}
	}
}
