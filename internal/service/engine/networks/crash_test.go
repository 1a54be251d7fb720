package networks

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	mobynet "github.com/moby/moby/api/types/network"

	"longshore/internal/core/network"
	"longshore/internal/core/state"
	"longshore/internal/driver/nftables"
)

// files is a state.Store whose documents a killed process leaves behind.
type files struct{ dir string }

func (f files) path(bucket, key string) string {
	return filepath.Join(f.dir, bucket, url.PathEscape(key))
}

func (f files) Put(_ context.Context, bucket, key string, doc []byte, _ state.Durability) error {
	if err := os.MkdirAll(filepath.Join(f.dir, bucket), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(f.dir, "new")
	if err != nil {
		return err
	}
	if _, err := tmp.Write(doc); err != nil {
		return err
	}
	_ = tmp.Close()
	return os.Rename(tmp.Name(), f.path(bucket, key))
}

func (f files) Get(_ context.Context, bucket, key string) ([]byte, error) {
	return os.ReadFile(f.path(bucket, key))
}

func (f files) Delete(_ context.Context, bucket, key string, _ state.Durability) error {
	if err := os.Remove(f.path(bucket, key)); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

func (f files) Each(_ context.Context, bucket string, each func(string, []byte) error) error {
	entries, err := os.ReadDir(filepath.Join(f.dir, bucket))
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	for _, e := range entries {
		key, err := url.PathUnescape(e.Name())
		if err != nil {
			return err
		}
		doc, err := os.ReadFile(f.path(bucket, key))
		if err != nil {
			return err
		}
		if err := each(key, doc); err != nil {
			return err
		}
	}
	return nil
}

// crashDaemon is a daemon that restores, then opens and closes sandboxes until it is killed. It prints a line "open ID"
// when a sandbox is told to its client, and "close ID" before it is closed.
func crashDaemon(dir string) error {
	s, err := New(Config{
		ExecRoot: dir, ResolvConf: "/dev/null", Warm: 2, ResolverCommand: []string{"/proc/self/exe", "resolver-process"},
	}, Deps{Store: files{dir + "/state"}, Events: &recorder{}, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Firewall: testFirewall(), RedirectDNS: nftables.RedirectDNS})
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := s.Restore(ctx, nil); err != nil {
		return err
	}
	if s.nets.byName("app") == nil {
		if _, err := s.Create(ctx, mobynet.CreateRequest{Name: "app"}); err != nil {
			return err
		}
	}
	failed := make(chan error, 5)
	go func() { failed <- s.Run(ctx) }()
	fmt.Println("ready")
	for worker := range 4 {
		go func() {
			for i := 0; ; i++ {
				r := network.Request{ContainerID: containerID(fmt.Sprint(os.Getpid(), worker, i)), Name: fmt.Sprintf("c%d-%d", worker, i), Mode: []string{"app", "bridge", "none"}[i%3]}
				r.Bindings = mobynet.PortMap{mobynet.MustParsePort("80/tcp"): bind("", "")}
				if _, err := s.Open(ctx, r); err != nil {
					failed <- err
					return
				}
				fmt.Println("open " + r.ContainerID)
				if rand.IntN(3) > 0 {
					fmt.Println("close " + r.ContainerID)
					if err := s.Close(ctx, r.ContainerID); err != nil {
						failed <- err
						return
					}
				}
			}
		}()
	}
	return <-failed
}

func TestKilledDaemon(t *testing.T) {
	w := newWorld(t)
	store := files{w.dir + "/state"}
	if err := os.MkdirAll(store.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for round := range 6 {
		open := map[string]bool{}
		cmd := exec.Command("/proc/self/exe", "crash-daemon", w.dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() {
			t.Fatal("the daemon did not start")
		}
		timer := time.AfterFunc(time.Duration(rand.IntN(400))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		for lines.Scan() {
			switch what, id, _ := strings.Cut(lines.Text(), " "); what {
			case "open":
				open[id] = true
			case "close":
				delete(open, id)
			}
		}
		timer.Stop()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
		w.checkAfterCrash(round, store, open)
	}
	s := w.afterCrash(store)
	if err := s.Restore(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), "app"); err != nil {
		t.Error(err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// afterCrash is the daemon that follows.
func (w *world) afterCrash(store files) *Service {
	s, err := New(Config{ExecRoot: w.dir, ResolvConf: "/dev/null", Warm: -1, ResolverCommand: []string{"/proc/self/exe", "resolver-process"}},
		Deps{Store: store, Events: &recorder{}, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Firewall: testFirewall(), RedirectDNS: nftables.RedirectDNS})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// checkAfterCrash adopts every other sandbox that clients were told of and were not closed; nothing else may stay.
func (w *world) checkAfterCrash(round int, store files, open map[string]bool) {
	t := w.t.(*testing.T)
	var running []string
	for id := range open {
		if len(running) <= len(open)/2 {
			running = append(running, id)
		}
	}
	s := w.afterCrash(store)
	ctx := context.Background()
	if err := s.Restore(ctx, running); err != nil {
		t.Fatal(err)
	}
	if n := len(s.boxes.all()); n != len(running) {
		t.Errorf("round %d: %d of %d sandboxes were adopted", round, n, len(running))
	}
	for _, b := range s.boxes.all() {
		for _, p := range b.rec.Published {
			if out := sh(t, "", "nft list map ip longshore published"); !strings.Contains(out, fmt.Sprintf("tcp . %d : %s . 80", p.HostPort, p.Target)) {
				t.Errorf("round %d: port %d of a live container is lost", round, p.HostPort)
			}
		}
		if err := s.Close(ctx, b.rec.Request.ContainerID); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "nothing is left", func() bool { return leaksOf(t, s) == "" })
	left := 0
	_ = store.Each(ctx, bucketSandboxes, func(string, []byte) error { left++; return nil })
	if left > 0 {
		t.Errorf("round %d: %d records stay", round, left)
	}
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	t.Logf("round %d: %d open, %d adopted", round, len(open), len(running))
}
