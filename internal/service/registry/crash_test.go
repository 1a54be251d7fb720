package registry_test

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/distribution"
	"longshore/internal/core/manifest"
	"longshore/internal/service/registry"
)

// crashDir tells a child of this test where to push to.
const crashDir = "LONGSHORE_CRASH_DIR"

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		pushForever(dir)
		return
	}
	os.Exit(m.Run())
}

// TestKill: a registry that is killed at any instant has, when it comes back, every push that it acknowledged, whole, and
// no link without bytes. The child pushes with four clients, deletes and collects without a grace period.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[string]string{} // repo:tag -> manifest digest
	for round := range 6 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashDir+"="+dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.StdoutPipe()
		must(t, err)
		cmd.Stderr = os.Stderr
		must(t, cmd.Start())
		// Killed after a number of acknowledged pushes that is never the same.
		kill := 5 + rand.IntN(40)
		n := 0
		for lines := bufio.NewScanner(out); lines.Scan(); {
			name, d, ok := strings.Cut(lines.Text(), " ")
			if !ok {
				t.Fatalf("the child says %q", lines.Text())
			}
			acknowledged[name] = d
			if n++; n == kill {
				must(t, cmd.Process.Kill())
			}
		}
		_ = cmd.Wait()
		if n < kill {
			t.Fatalf("round %d: the child ended after %d pushes", round, n)
		}
		checkAfterCrash(t, dir, acknowledged)
	}
}

// checkAfterCrash opens what the killed process left and reads every acknowledged image through.
func checkAfterCrash(t *testing.T, dir string, acknowledged map[string]string) {
	t.Helper()
	r := openRig(t, dir, newClock())
	defer r.index.Close()
	for name, want := range acknowledged {
		repo, tag, _ := strings.Cut(name, ":")
		m, err := r.get(distribution.RepoName(repo), tag)
		if err != nil || m.Digest.String() != want {
			t.Fatalf("%s: %s, %v; acknowledged was %s", name, m.Digest, err, want)
		}
		doc, err := manifest.Parse(m.MediaType, m.Payload)
		must(t, err)
		for _, d := range doc.Blobs {
			data, err := r.read(distribution.RepoName(repo), d)
			if err != nil || digest.FromBytes(data) != d {
				t.Fatalf("%s: blob %s: %v", name, d, err)
			}
		}
	}
	wantNoDanglingLink(t, r.index, r.store)
}

// pushForever is the child.
func pushForever(dir string) {
	t := &childT{}
	r := openRig(t, dir, newClock())
	r.clock = nil
	s, err := registry.New(r.index, r.store, registry.Config{GC: registry.GCConfig{Delay: 200 * time.Millisecond}, UploadTTL: time.Second})
	must(t, err)
	r.Service = s
	var out sync.Mutex
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	for w := range 4 {
		go func() {
			repo := distribution.RepoName(fmt.Sprint("crash/r", w))
			for i := 0; ; i++ {
				tag := fmt.Sprintf("%s-%d", run, i)
				config, layer := []byte(fmt.Sprint(run, w, i)), bytes.Repeat([]byte{byte(i)}, 1000+i%3*200_000)
				r.push(repo, config)
				r.push(repo, layer)
				doc := image(nil, config, layer)
				_, err := r.put(repo, tag, ocispec.MediaTypeImageManifest, doc)
				if code(err) == distribution.CodeManifestBlobUnknown {
					continue // the push took longer than this test's grace period
				}
				must(t, err)
				out.Lock()
				fmt.Printf("%s:%s %s\n", repo, tag, sha(doc))
				out.Unlock()
				if i%5 == 4 { // something to collect
					gone := image(func(m *ocispec.Manifest) { m.Annotations = map[string]string{"gone": tag} }, config, layer)
					if _, err := r.put(repo, "gone-"+tag, ocispec.MediaTypeImageManifest, gone); err == nil {
						must(t, r.DeleteManifest(ctx, repo, ref(sha(gone).String())))
					}
				}
			}
		}()
	}
	for {
		if _, err := s.CollectGarbage(ctx, registry.GCOptions{}); err != nil {
			must(t, err)
		}
	}
}

// childT is a testing.TB outside of a test: an error ends the process.
type childT struct{ testing.TB }

func (*childT) Helper()        {}
func (*childT) Cleanup(func()) {}
func (*childT) Fatal(a ...any) {
	fmt.Fprintln(os.Stderr, a...)
	os.Exit(3)
}
func (t *childT) Fatalf(format string, a ...any) { t.Fatal(fmt.Sprintf(format, a...)) }
