package engineconfig

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

func TestBuilder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "daemon.json")
	doc := `{"builder":{"gc":{"enabled":true,"defaultKeepStorage":"20GB","policy":[
		{"keepStorage":"10MB","filter":["unused-for=2200h","type=source.local"]},{"all":true,"maxUsedSpace":512,"keepDuration":"48h","filter":{"type":{"regular":true}}}]},
		"entitlements":{"network-host":false,"device":true}}}`
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Parse([]string{"--config-file", file})
	if err != nil {
		t.Fatal(err)
	}
	gc := c.Builder.GC
	if gc.Enabled == nil || !*gc.Enabled || gc.KeepStorage != 20<<30 {
		t.Errorf("gc: %+v", gc)
	}
	want := []BuilderPolicy{
		{KeepStorage: 10 << 20, Filter: PolicyFilters{"unused-for": {"2200h"}, "type": {"source.local"}}},
		{All: true, MaxUsedSpace: 512, KeepDuration: Age(48 * time.Hour), Filter: PolicyFilters{"type": {"regular"}}},
	}
	if !reflect.DeepEqual(gc.Policy, want) {
		t.Errorf("policy: %+v", gc.Policy)
	}
	if got := c.Builder.Entitlements.Allowed(); !reflect.DeepEqual(got, []string{"device"}) {
		t.Errorf("entitlements: %q", got)
	}
	for _, bad := range []string{`{"builder":{"gc":{"defaultKeepStorage":"much"}}}`, `{"builder":{"gc":{"policy":[{"filter":["x"]}]}}}`, `{"builder":{"gc":{"policy":[{"keepDuration":"x"}]}}}`} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Parse([]string{"--config-file", file}); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}
