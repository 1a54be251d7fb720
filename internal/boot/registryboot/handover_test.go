package registryboot_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"longshore/internal/boot/registryboot"
	"longshore/internal/core/handover"
)

// TestTickets: a file passes only with a ticket of this process, once, and a stranger's header changes nothing.
func TestTickets(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, err := registryboot.New(ctx, registryboot.Embedded(filepath.Join(dir, "root"), "0"),
		registryboot.Options{Listener: l, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	defer func() {
		cancel()
		<-ended
	}()
	n := r.Neighbour()
	if !n.At(l.Addr().String()) {
		t.Errorf("it is not at %s", l.Addr())
	}
	ask := func(want int, method, path, ticket string) {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, method, "http://"+l.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(handover.Header, ticket)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != want {
			t.Errorf("%s %s with %q: %d, want %d", method, path, ticket, resp.StatusCode, want)
		}
	}
	file := filepath.Join(dir, "blob")
	if err := os.WriteFile(file, []byte("a layer"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := digest.FromString("a layer")
	const uploads = "/v2/app/blobs/uploads/"
	blob := "/v2/app/blobs/" + d.String()
	ask(202, "POST", uploads, "forged")
	ask(202, "POST", uploads, n.Expect(d))
	ask(404, "HEAD", blob, n.Expect(d))
	offer := n.Offer(d, file)
	ask(201, "POST", uploads, offer)
	ask(202, "POST", uploads, offer)
	if _, taken := n.Collect(offer); !taken {
		t.Error("the offer was not accepted")
	}
	expect := n.Expect(d)
	ask(404, "HEAD", "/v2/other/blobs/"+d.String(), expect) // a digest alone is no right
	if _, got := n.Collect(expect); got {
		t.Error("another repository's blob was delivered")
	}
	expect = n.Expect(d)
	ask(200, "HEAD", blob, expect)
	path, got := n.Collect(expect)
	if !got {
		t.Fatal("nothing was delivered")
	}
	a, errA := os.Stat(path)
	b, errB := os.Stat(file)
	if errA != nil || errB != nil || !os.SameFile(a, b) {
		t.Errorf("%s is not the file: %v %v", path, errA, errB)
	}
	gone := n.Offer(d, filepath.Join(dir, "missing"))
	ask(404, "POST", "/v2/third/blobs/uploads/", gone)
}
