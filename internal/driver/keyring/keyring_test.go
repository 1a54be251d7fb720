package keyring

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"
)

type clock struct {
	mu sync.Mutex
	t  time.Time
}

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

const day = 24 * time.Hour

func open(t *testing.T, dir string, c *clock) *Ring {
	t.Helper()
	r, err := Open(dir, Config{Every: 30 * day, Overlap: time.Hour, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func signer(t *testing.T, r *Ring) *Key {
	t.Helper()
	k, err := r.Signer()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func believes(r *Ring, k *Key) bool {
	_, ok := r.PublicKey(k.ID)
	return ok
}

func TestKeysFollowEachOther(t *testing.T) {
	dir, c := filepath.Join(t.TempDir(), "keys"), &clock{t: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	a, b := open(t, dir, c), open(t, dir, c) // two instances
	first := signer(t, a)
	if !regexp.MustCompile(`^([A-Z2-7]{4}:){11}[A-Z2-7]{4}$`).MatchString(first.ID) {
		t.Errorf("kid %q", first.ID)
	}
	if signer(t, b).ID != first.ID || signer(t, open(t, dir, c)).ID != first.ID {
		t.Error("instances do not share the key")
	}
	cert, err := x509.ParseCertificate(first.Certificate)
	if err != nil || !first.Private.PublicKey.Equal(cert.PublicKey) || cert.NotAfter.Before(c.now().Add(31*day)) {
		t.Errorf("certificate: %v", err)
	}
	c.add(30 * day)
	if signer(t, a).ID != first.ID {
		t.Error("a key signs before others can have read it")
	}
	c.add(published)
	second := signer(t, a)
	if second.ID == first.ID || signer(t, b).ID != second.ID {
		t.Error("the keys are not followed by one new one")
	}
	if !believes(a, first) || !believes(b, first) || !believes(b, second) {
		t.Error("no overlap")
	}
	c.add(time.Hour)
	if believes(a, first) || believes(b, first) || !believes(a, second) {
		t.Error("the old key is believed for too long")
	}
	signer(t, a)
	if files, _ := filepath.Glob(filepath.Join(dir, "*.pem")); len(files) != 1 {
		t.Errorf("files: %v", files)
	}
}

func TestFilesAreTheOwners(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	open(t, dir, &clock{t: time.Now()})
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(files) == 0 {
		t.Fatal("no files")
	}
	for _, f := range append(files, dir) {
		info, err := os.Stat(f)
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v %v", f, info.Mode(), err)
		}
	}
}

func TestRotate(t *testing.T) {
	dir, c := t.TempDir(), &clock{t: time.Now()}
	a, b := open(t, dir, c), open(t, dir, c)
	first := signer(t, a)
	c.add(time.Hour)
	second, err := a.Rotate(false)
	if err != nil {
		t.Fatal(err)
	}
	if signer(t, b).ID != first.ID || !believes(b, second) {
		t.Error("the new key is not known before it signs")
	}
	c.add(published)
	if signer(t, b).ID != second.ID || !believes(b, first) {
		t.Error("the new key does not sign, or the old one is forgotten")
	}
	third, err := b.Rotate(true)
	if err != nil {
		t.Fatal(err)
	}
	c.add(reread)
	if believes(a, first) || believes(a, second) || signer(t, a).ID != third.ID {
		t.Error("a stolen key is believed")
	}
	if keys, err := a.Keys(); err != nil || len(keys) != 1 {
		t.Errorf("%v %v", keys, err)
	}
}

func TestInstancesThatStartTogether(t *testing.T) {
	dir, c := t.TempDir(), &clock{t: time.Now()}
	var wg sync.WaitGroup
	ids := make([]string, 8)
	for i := range ids {
		wg.Go(func() {
			if r, err := Open(dir, Config{Every: day, Now: c.now}); err == nil {
				if k, err := r.Signer(); err == nil {
					ids[i] = k.ID
				}
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Fatalf("%q", ids)
		}
	}
}

func TestBrokenKeysAreNotReplaced(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "1-x.pem"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Config{Every: day}); err == nil {
		t.Error("a broken key is taken")
	}
}
