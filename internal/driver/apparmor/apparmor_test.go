package apparmor

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestEnsure(t *testing.T) {
	kernel := map[string]bool{}
	installs := 0
	p := &Profiles{
		loaded: func(name string) (bool, error) { return kernel[name], nil },
		install: func(name string) error {
			installs++
			kernel[name] = true
			return nil
		},
	}
	for range 3 {
		if err := p.Ensure(Default); err != nil {
			t.Fatal(err)
		}
	}
	if installs != 1 {
		t.Errorf("loaded %d times, want once", installs)
	}
	delete(kernel, Default) // somebody unloads it
	if err := p.Ensure(Default); err != nil || installs != 2 {
		t.Errorf("%v, loaded %d times", err, installs)
	}
	for _, name := range []string{"", "unconfined", "mine"} {
		if err := p.Ensure(name); err != nil || installs != 2 {
			t.Errorf("%q is not ours to load: %v", name, err)
		}
	}
	p.install = func(string) error { return errors.New("no parser") }
	delete(kernel, Default)
	if err := p.Ensure(Default); err == nil || !strings.Contains(err.Error(), "the docker-default profile could not be loaded: no parser") {
		t.Error(err)
	}
}

// TestKernel loads the profile for real where the kernel takes profiles.
func TestKernel(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/security/apparmor/profiles"); err != nil {
		t.Skip("this kernel has no AppArmor")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: loads a profile")
	}
	if err := New().Ensure(Default); err != nil {
		t.Fatal(err)
	}
}
