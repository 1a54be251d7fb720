package engineconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"sort"
	"strings"

	"github.com/spf13/pflag"

	"longshore/internal/core/fault"
)

// notYet are keys that dockerd knows and this version does not act upon; they are refused rather than ignored.
var notYet = []string{
	"allow-nondistributable-artifacts", "api-cors-header", "authorization-plugins",
	"containerd", "containerd-namespace", "containerd-plugin-namespace", "cpu-rt-period", "cpu-rt-runtime", "cluster-advertise",
	"cluster-store", "cluster-store-opts", "deprecated-key-path",
	"disable-legacy-registry", "graph",
	"max-download-attempts", "network-control-plane-mtu", "network-diagnostic-port",
	"node-generic-resources", "raw-logs", "rootless", "selinux-enabled", "storage-opts", "swarm-default-advertise-addr",
}

// Parse reads args (without the program's name) and the configuration file that they name, and validates the result.
// A missing default file is no error; a missing file that a flag names is.
func Parse(args []string) (*Config, error) {
	c := Default()
	f := pflag.NewFlagSet("engine", pflag.ContinueOnError)
	c.AddFlags(f)
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fault.Invalid("unexpected arguments: %s", strings.Join(f.Args(), " "))
	}
	return c, c.Complete(f)
}

// Complete merges the configuration file under flags that were parsed into c, and validates the whole.
func (c *Config) Complete(f *pflag.FlagSet) error {
	c.flags = f
	doc, err := os.ReadFile(c.File)
	switch {
	case err == nil:
		if err := c.merge(doc, f); err != nil {
			return err
		}
	case errors.Is(err, fs.ErrNotExist) && !f.Changed("config-file"):
	default:
		return fmt.Errorf("read configuration file: %w", err)
	}
	if len(c.Hosts) == 0 {
		c.Hosts = []string{DefaultHost}
	}
	c.settleAPI()
	if c.Debug {
		c.LogLevel = "debug"
	}
	return c.Validate()
}

func (c *Config) merge(doc []byte, f *pflag.FlagSet) error {
	if len(bytes.TrimSpace(doc)) == 0 {
		return nil
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(doc, &raw); err != nil {
		return fault.Invalid("unable to configure the engine with file %s: %v", c.File, err)
	}
	known := keys()
	var unknown, later, both []string
	for key, v := range raw {
		name := key
		if n, ok := flagOf[key]; ok {
			name = n
		}
		switch {
		case slices.Contains(notYet, key):
			later = append(later, key)
		case !known[key]:
			unknown = append(unknown, key)
		case key != "runtimes" && f.Changed(name):
			both = append(both, quoteBoth(key, f.Lookup(name).Value, string(v)))
		}
	}
	for _, x := range []struct {
		keys []string
		err  func(string, []string) error
	}{{unknown, errUnknown}, {later, errUnsupported}, {both, errFlagAndFile}} {
		if len(x.keys) > 0 {
			sort.Strings(x.keys)
			return x.err(c.File, x.keys)
		}
	}
	if err := json.Unmarshal(doc, c); err != nil {
		return fault.Invalid("unable to configure the engine with file %s: %v", c.File, err)
	}
	return nil
}

// keys are the daemon.json keys of Config.
func keys() map[string]bool {
	out := map[string]bool{}
	t := reflect.TypeFor[Config]()
	for i := range t.NumField() {
		if tag := t.Field(i).Tag.Get("json"); tag != "-" && tag != "" {
			out[tag] = true
		}
	}
	return out
}
