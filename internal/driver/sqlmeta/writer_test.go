package sqlmeta

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
)

// TestWriterSurvives changes that fail or panic: others get their turn, and nothing of the failed ones stays.
func TestWriterSurvives(t *testing.T) {
	ctx := context.Background()
	x, err := OpenSQLite(ctx, filepath.Join(t.TempDir(), "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	insert := func(t tx, name string) error {
		_, err := t.exec("INSERT INTO repositories (name, created) VALUES (?, 1)", name)
		return err
	}
	wrong := errors.New("wrong")
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			err := x.change(ctx, func(t tx) error {
				if err := insert(t, string(rune('a'+i%26))+"/"+string(rune('0'+i/26))); err != nil {
					return err
				}
				switch i % 10 {
				case 3:
					return wrong
				case 7:
					panic("oh")
				}
				return nil
			})
			if i%10 == 3 && err == nil || i%10 == 7 && err == nil {
				t.Errorf("change %d was committed", i)
			}
		})
	}
	wg.Wait()
	if err := x.change(ctx, func(t tx) error { return insert(t, "last") }); err != nil {
		t.Fatal(err)
	}
	for i := 3; i < 200; i += 10 {
		name := string(rune('a'+i%26)) + "/" + string(rune('0'+i/26))
		if _, err := repoID(x.read.in(ctx), "last"); err != nil {
			t.Fatal(err)
		}
		var id int64
		if err := x.read.in(ctx).row("SELECT id FROM repositories WHERE name = ?", []any{name}, &id); err == nil {
			t.Errorf("%s is there", name)
		}
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := x.change(gone, func(tx) error { panic("not to be run") }); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}
