package networks

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"longshore/internal/core/firewall"
	"longshore/internal/core/state"
	"longshore/internal/driver/netns"
	"longshore/internal/driver/nftables"
	"longshore/internal/driver/portproxy"
	"longshore/internal/driver/resolver"
)

// The tests change links and rules, so the whole test binary runs again in network and mount namespaces of its own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "resolver-process" {
		if err := resolver.Run(context.Background(), portproxy.New()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 2 && os.Args[1] == "crash-daemon" {
		fmt.Fprintln(os.Stderr, crashDaemon(os.Args[2]))
		os.Exit(1)
	}
	if os.Geteuid() != 0 || os.Getenv("LONGSHORE_TEST_NETNS") != "" {
		if os.Geteuid() == 0 {
			must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
			must(exec.Command("ip", "link", "set", "lo", "up").Run())
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), "LONGSHORE_TEST_NETNS=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
}

// memory is a state.Store that survives a "restart" within a test.
type memory struct {
	mu   sync.Mutex
	docs map[string][]byte
}

func newMemory() *memory { return &memory{docs: map[string][]byte{}} }

func (m *memory) Put(_ context.Context, bucket, key string, doc []byte, _ state.Durability) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.docs[bucket+"/"+key] = slices.Clone(doc)
	return nil
}

func (m *memory) Get(_ context.Context, bucket, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	doc, ok := m.docs[bucket+"/"+key]
	if !ok {
		return nil, errdefs.ErrNotFound
	}
	return doc, nil
}

func (m *memory) Delete(_ context.Context, bucket, key string, _ state.Durability) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.docs, bucket+"/"+key)
	return nil
}

func (m *memory) Each(_ context.Context, bucket string, f func(string, []byte) error) error {
	m.mu.Lock()
	var keys []string
	docs := map[string][]byte{}
	for k, d := range m.docs {
		if key, ok := strings.CutPrefix(k, bucket+"/"); ok {
			keys = append(keys, key)
			docs[key] = d
		}
	}
	m.mu.Unlock()
	slices.Sort(keys)
	for _, k := range keys {
		if err := f(k, docs[k]); err != nil {
			return err
		}
	}
	return nil
}

// recorder is an event.Publisher that keeps what it is told.
type recorder struct {
	mu  sync.Mutex
	all []string
}

func (r *recorder) Publish(_ context.Context, m events.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := string(m.Action) + " " + m.Actor.Attributes["name"]
	if c := m.Actor.Attributes["container"]; c != "" {
		line += " " + c
	}
	r.all = append(r.all, line)
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.all
	r.all = nil
	return out
}

// world is a daemon's surroundings: its store and directory outlive it.
type world struct {
	t      testing.TB
	dir    string
	store  *memory
	events *recorder
}

func newWorld(t testing.TB) *world {
	root(t)
	dir, err := os.MkdirTemp("/tmp", "lsnet")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, store: newMemory(), events: &recorder{}}
	must(os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver 127.0.0.1\n"), 0o644))
	t.Cleanup(w.clean)
	return w
}

// clean ends what a test left; tests that check for leaks do it before.
func (w *world) clean() {
	s := w.daemon(func(*Config) {})
	ctx := context.Background()
	if err := s.Restore(ctx, nil); err != nil {
		w.t.Error(err)
	}
	for _, n := range s.nets.all() {
		if n.rec.Bridge != "" {
			if err := s.lower(n); err != nil {
				w.t.Error(err)
			}
		}
	}
	if err := s.firewall.(*nftables.Firewall).Remove(); err != nil {
		w.t.Error(err)
	}
	if err := s.Shutdown(ctx); err != nil {
		w.t.Error(err)
	}
	if err := os.RemoveAll(w.dir); err != nil {
		w.t.Error(err)
	}
}

func (w *world) daemon(change func(*Config)) *Service {
	w.t.Helper()
	cfg := Config{
		ExecRoot: w.dir, ResolvConf: filepath.Join(w.dir, "resolv.conf"), Warm: 2,
		ResolverCommand: []string{"/proc/self/exe", "resolver-process"},
	}
	change(&cfg)
	s, err := New(cfg, Deps{Store: w.store, Events: w.events, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Firewall: testFirewall(), RedirectDNS: nftables.RedirectDNS})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func testFirewall() *nftables.Firewall {
	return nftables.New(firewall.Config{}, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

// start is a daemon after Restore.
func (w *world) start(running ...string) *Service {
	w.t.Helper()
	s := w.daemon(func(*Config) {})
	if err := s.Restore(context.Background(), running); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// eventually polls until f is true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("did not happen: %s", what)
}

// sh runs a shell command, inside of a namespace when one is given, and answers its output.
func sh(t testing.TB, ns, command string) string {
	t.Helper()
	args := []string{"sh", "-c", command}
	if ns != "" {
		args = append([]string{"nsenter", "--net=" + ns}, args...)
	}
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// leftNamespaces lists the namespaces that exist, prepared ones included.
func (s *Service) leftNamespaces() ([]string, error) { return netns.List(s.netnsDir()) }
