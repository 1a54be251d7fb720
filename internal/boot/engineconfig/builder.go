package engineconfig

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"

	"longshore/internal/core/fault"
)

// Builder is daemon.json's "builder", with dockerd's keys.
type Builder struct {
	GC           BuilderGC           `json:"gc"`
	Entitlements BuilderEntitlements `json:"entitlements"`
}

// BuilderGC says how the build cache shrinks by itself. Sizes are in bytes, "20GB" or a number; without any, parts of the
// disk count.
type BuilderGC struct {
	// Enabled is nil for the default, which is yes.
	Enabled *bool           `json:"enabled"`
	Policy  []BuilderPolicy `json:"policy"`
	// ReservedSpace always stays; KeepStorage is its old name.
	ReservedSpace Size `json:"defaultReservedSpace"`
	KeepStorage   Size `json:"defaultKeepStorage"`
	MaxUsedSpace  Size `json:"defaultMaxUsedSpace"`
	MinFreeSpace  Size `json:"defaultMinFreeSpace"`
}

// BuilderPolicy is one rule; rules are carried out in order.
type BuilderPolicy struct {
	All           bool          `json:"all"`
	ReservedSpace Size          `json:"reservedSpace"`
	KeepStorage   Size          `json:"keepStorage"`
	MaxUsedSpace  Size          `json:"maxUsedSpace"`
	MinFreeSpace  Size          `json:"minFreeSpace"`
	KeepDuration  Age           `json:"keepDuration"`
	Filter        PolicyFilters `json:"filter"`
}

// BuilderEntitlements are what builds may ask for; nil is the default: the host's network yes, all else no.
type BuilderEntitlements struct {
	NetworkHost      *bool `json:"network-host"`
	SecurityInsecure *bool `json:"security-insecure"`
	Device           *bool `json:"device"`
}

// Allowed lists what builds may ask for, by BuildKit's names.
func (e BuilderEntitlements) Allowed() []string {
	var out []string
	if e.NetworkHost == nil || *e.NetworkHost {
		out = append(out, "network.host")
	}
	if e.SecurityInsecure != nil && *e.SecurityInsecure {
		out = append(out, "security.insecure")
	}
	if e.Device == nil || *e.Device {
		out = append(out, "device")
	}
	return out
}

// Size is a number of bytes that may be written with a unit.
type Size int64

// UnmarshalJSON reads a number or "20GB".
func (s *Size) UnmarshalJSON(p []byte) error {
	text := strings.Trim(string(p), `"`)
	if text == "" || text == "null" {
		return nil
	}
	n, err := units.RAMInBytes(text)
	if err != nil || n < 0 {
		return fault.Invalid("builder: %q is no size", text)
	}
	*s = Size(n)
	return nil
}

// Age is a duration such as "48h", or a number of seconds.
type Age time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (a *Age) UnmarshalJSON(p []byte) error {
	text := strings.Trim(string(p), `"`)
	if text == "" || text == "null" {
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		d, err = time.ParseDuration(text + "s")
	}
	if err != nil || d < 0 {
		return fault.Invalid("builder: %q is no duration", text)
	}
	*a = Age(d)
	return nil
}

// PolicyFilters are docker's filters of a rule: ["type=source.local", "unused-for=2200h"] or {"type":{"source.local":true}}.
type PolicyFilters map[string][]string

// UnmarshalJSON reads both forms.
func (f *PolicyFilters) UnmarshalJSON(p []byte) error {
	*f = PolicyFilters{}
	var list []string
	if json.Unmarshal(p, &list) == nil {
		for _, term := range list {
			name, value, ok := strings.Cut(term, "=")
			if !ok {
				return fault.Invalid("builder: filter %q is not name=value", term)
			}
			(*f)[name] = append((*f)[name], value)
		}
		return nil
	}
	var set map[string]map[string]bool
	if err := json.Unmarshal(p, &set); err != nil {
		return fmt.Errorf("builder: filter: %w", err)
	}
	for name, values := range set {
		for v := range values {
			(*f)[name] = append((*f)[name], v)
		}
	}
	return nil
}
