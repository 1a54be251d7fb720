package grantfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/core/grant"
)

func TestTokens(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tokens")
	s := New(dir)
	if all, err := s.List(); err != nil || all != nil {
		t.Errorf("%v %v", all, err)
	}
	token, err := s.Add(grant.Grant{Name: "ci", Operations: []string{"containers/*"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Add(grant.Grant{Name: "ci", Operations: []string{"**"}}); !errdefs.IsConflict(err) {
		t.Errorf("a second one of the name: %v", err)
	}
	g, err := New(dir).Find(token)
	if err != nil || g.Name != "ci" {
		t.Fatalf("%+v %v", g, err)
	}
	files, _ := filepath.Glob(dir + "/*")
	for _, f := range files {
		b, _ := os.ReadFile(f)
		fi, _ := os.Stat(f)
		if strings.Contains(string(b), token[len("lst_"+g.ID+"_"):]) || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %s", f, fi.Mode(), b)
		}
	}
	for _, bad := range []string{"", "lst_", token[:len(token)-1], token + "x", "lst_" + g.ID + "_", "lst_../x_y", strings.Replace(token, g.ID, "000000000000", 1)} {
		if _, err := s.Find(bad); !errdefs.IsUnauthorized(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	old, err := s.Add(grant.Grant{Name: "old", Operations: []string{"**"}, Expires: time.Now().Add(-time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find(old); !errdefs.IsUnauthorized(err) {
		t.Errorf("expired: %v", err)
	}
	if err := s.Remove("ci"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find(token); !errdefs.IsUnauthorized(err) {
		t.Errorf("removed: %v", err)
	}
	if err := s.Remove("ci"); !errdefs.IsNotFound(err) {
		t.Errorf("removed twice: %v", err)
	}
}
