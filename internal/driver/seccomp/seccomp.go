// Package seccomp turns a seccomp profile into what an OCI runtime wants of it: linux.seccomp for most of them, or a
// filter compiled here, once per profile and capability set, that crun takes ready-made from an annotation. Compiling is
// what costs a runtime most of its start-up time (≈ 10 ms with docker's default profile).
//
//	l := seccomp.New()
//	err := l.Load(spec, "", true) // docker's default profile for the capabilities of spec.Process, as an annotation
package seccomp

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	profiles "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"longshore/internal/core/fault"
)

// Annotation is where crun looks for a compiled filter (base64). It wins over linux.seccomp, which is left out: crun
// would otherwise still parse it.
const Annotation = "run.oci.seccomp_bpf_data"

// cacheSize bounds how many compiled profiles are kept; a host has a handful of (profile, capabilities) pairs.
const cacheSize = 64

// Loader resolves profiles. It is safe for concurrent use.
type Loader struct {
	mu    sync.Mutex
	cache map[key]*entry // guarded by mu
}

type key struct{ profile, caps string }

// entry is immutable once made.
type entry struct {
	once sync.Once
	// rules are shared by all specs and must not be changed; filter is empty when the profile cannot be compiled.
	rules  *specs.LinuxSeccomp
	filter string
	err    error
}

// New makes a Loader with an empty cache.
func New() *Loader { return &Loader{cache: make(map[key]*entry)} }

// Load puts the profile into the spec, filtered for the capabilities of s.Process. profile is its JSON text or "" for
// docker's default. With bpf the spec gets the annotation instead of linux.seccomp, where the profile allows it (a
// profile with a notification listener or flags is left to the runtime).
func (l *Loader) Load(s *specs.Spec, profile string, bpf bool) error {
	e := l.entry(profile, s.Process.Capabilities)
	e.once.Do(func() { e.fill(profile, s) })
	switch {
	case e.err != nil:
		return e.err
	case bpf && e.filter != "":
		if s.Annotations == nil {
			s.Annotations = make(map[string]string, 1)
		}
		s.Annotations[Annotation] = e.filter
	default:
		s.Linux.Seccomp = e.rules
	}
	return nil
}

func (l *Loader) entry(profile string, caps *specs.LinuxCapabilities) *entry {
	k := key{profile: profile}
	if caps != nil {
		sorted := slices.Sorted(slices.Values(caps.Bounding))
		k.caps = strings.Join(sorted, ",")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.cache[k]
	if e == nil {
		for old := range l.cache {
			if len(l.cache) < cacheSize {
				break
			}
			delete(l.cache, old)
		}
		e = new(entry)
		l.cache[k] = e
	}
	return e
}

// fill resolves and compiles. The profile library looks at the spec's capabilities, the machine and the kernel.
func (e *entry) fill(profile string, s *specs.Spec) {
	var err error
	if profile == "" {
		e.rules, err = profiles.GetDefaultProfile(s)
	} else {
		e.rules, err = profiles.LoadProfile(profile, s)
	}
	if err != nil {
		e.err = fault.Invalid("%w", err)
		return
	}
	filter, err := Compile(e.rules)
	switch {
	case err == nil:
		e.filter = base64.StdEncoding.EncodeToString(filter)
	case !errors.Is(err, ErrUnsupported):
		e.err = fault.Invalid("%w", err)
	}
}

// Compile makes a filter in the kernel's binary form (struct sock_filter, 8 bytes each) for this machine's native
// convention and those that the profile lists. ErrUnsupported where only the runtime can do it.
func Compile(p *specs.LinuxSeccomp) ([]byte, error) {
	code, err := compile(p, archs())
	if err != nil {
		return nil, err
	}
	return encode(code), nil
}

func compile(p *specs.LinuxSeccomp, machine []*arch) ([]ins, error) {
	if len(machine) == 0 || len(p.Flags) > 0 || p.ListenerPath != "" {
		return nil, fmt.Errorf("%w: machine, flags or listener", ErrUnsupported)
	}
	var policies []*policy
	for i, a := range machine {
		if i > 0 && !slices.Contains(p.Architectures, a.name) {
			continue
		}
		pol, err := newPolicy(p, a)
		if err != nil {
			return nil, err
		}
		policies = append(policies, pol)
	}
	return program(policies)
}
