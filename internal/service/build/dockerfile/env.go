package dockerfile

import (
	"maps"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// env are the values that a FROM may use.
type env map[string]string

// Get implements shell.EnvGetter.
func (e env) Get(k string) (string, bool) {
	v, ok := e[k]
	return v, ok
}

// Keys implements shell.EnvGetter.
func (e env) Keys() []string { return slices.Collect(maps.Keys(e)) }

// newEnv has the arguments that are there without an ARG before the first FROM.
func newEnv(o Options, target string) env {
	e := env{"TARGETSTAGE": target}
	for prefix, p := range map[string]ocispec.Platform{"BUILD": o.Host, "TARGET": o.Platform} {
		e[prefix+"PLATFORM"] = platformText(p)
		e[prefix+"OS"], e[prefix+"ARCH"], e[prefix+"VARIANT"] = p.OS, p.Architecture, p.Variant
	}
	for k := range e {
		if v := o.Args[k]; v != nil {
			e[k] = *v
		}
	}
	return e
}

func platformText(p ocispec.Platform) string {
	if p.OS == "" {
		return ""
	}
	return platforms.Format(p)
}

func parsePlatform(s string) (ocispec.Platform, error) {
	p, err := platforms.Parse(s)
	if err != nil {
		return p, err
	}
	return platforms.Normalize(p), nil
}

// builtIn tells the arguments that need no ARG instruction.
func builtIn(name string) bool {
	switch strings.ToUpper(name) {
	case "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY", "SOURCE_DATE_EPOCH":
		return true
	}
	for _, prefix := range []string{"BUILDKIT_", "TARGET", "BUILD"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
