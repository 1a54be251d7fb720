// Package apparmor sees to it that docker's default AppArmor profile is in the kernel before a container runs by it.
package apparmor

import (
	"fmt"
	"sync"

	"github.com/moby/profiles/apparmor"
)

// Default is the name of docker's profile.
const Default = "docker-default"

// Profiles loads the default profile where it is missing. Safe for concurrent use.
type Profiles struct {
	mu      sync.Mutex
	loaded  func(name string) (bool, error)
	install func(name string) error
}

// New works on the running kernel, by apparmor_parser of the host.
func New() *Profiles {
	return &Profiles{loaded: apparmor.IsLoaded, install: apparmor.InstallDefault}
}

// Ensure loads a profile if it is docker's own and not in the kernel, for example because somebody unloaded it since the
// last container. Other profiles are the host's: one that is missing is told by the OCI runtime.
func (p *Profiles) Ensure(name string) error {
	if name != Default {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	there, err := p.loaded(name)
	if err == nil && there {
		return nil
	}
	if err := p.install(name); err != nil {
		return fmt.Errorf("AppArmor enabled on system but the %s profile could not be loaded: %w", name, err)
	}
	return nil
}
