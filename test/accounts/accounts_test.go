// Package accounts replays the documented requests of the accounts API, of OAuth2 and of the token server against whole
// registries, and lets docker, skopeo and a browser use them.
package accounts

import (
	"encoding/json"
	"io/fs"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"longshore/internal/boot/registryboot"
	"longshore/internal/boot/registryboot/registrytest"
)

// clock is a clock that the test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func (c *clock) option(o *registryboot.Options) { o.Now = c.now }

// into reads a JSON answer.
func into[T any](t *testing.T, a registrytest.Answer, status int) (v T) {
	t.Helper()
	if a.StatusCode != status {
		t.Fatalf("%s %s: %s, want %d: %s", a.Request.Method, a.Request.URL, a.Status, status, a.Text)
	}
	if err := json.Unmarshal([]byte(a.Text), &v); err != nil {
		t.Fatalf("%s %s: %v: %s", a.Request.Method, a.Request.URL, err, a.Text)
	}
	return v
}

// status checks an answer's.
func status(t *testing.T, a registrytest.Answer, want int) {
	t.Helper()
	if a.StatusCode != want {
		t.Errorf("%s %s: %s, want %d: %s", a.Request.Method, a.Request.URL, a.Status, want, a.Text)
	}
}

func bearer(token string) func(*http.Request) {
	return registrytest.Header("Authorization", "Bearer "+token)
}

func form(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }

// replace makes a configuration of a pattern.
func replace(config string, pairs ...string) string {
	return strings.NewReplacer(pairs...).Replace(config)
}

func big1() *big.Int { return big.NewInt(1) }

// filesWith lists the files that hold one of several texts.
func filesWith(t *testing.T, dir string, texts []string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, text := range texts {
			if strings.Contains(string(data), text) {
				out = append(out, path+": "+text)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
