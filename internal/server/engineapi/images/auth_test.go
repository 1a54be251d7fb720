package images

import (
	"encoding/base64"
	"net/http/httptest"
	"testing"

	"github.com/moby/moby/api/types/registry"

	"longshore/internal/server/route"
)

// FuzzCredentials reads X-Registry-Auth headers: what makes no sense counts as none.
func FuzzCredentials(f *testing.F) {
	for _, s := range []string{"", "e30", "e30=", "!!", base64.URLEncoding.EncodeToString([]byte(`{"username":"a","password":"b"}`)), base64.StdEncoding.EncodeToString([]byte(`{"auth":"??>"}`))} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set(registry.AuthHeader, s)
		if a := credentials(&route.Request{HTTP: r}); a != nil && *a == (registry.AuthConfig{}) {
			t.Fatal("empty credentials")
		}
	})
}

func TestCredentials(t *testing.T) {
	for s, want := range map[string]string{
		base64.URLEncoding.EncodeToString([]byte(`{"username":"a","password":"b"}`)):     "a",
		base64.RawURLEncoding.EncodeToString([]byte(`{"username":"ab","password":"b"}`)): "ab",
		"":    "",
		"{}":  "",
		"e30": "",
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set(registry.AuthHeader, s)
		got := ""
		if a := credentials(&route.Request{HTTP: r}); a != nil {
			got = a.Username
		}
		if got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}
