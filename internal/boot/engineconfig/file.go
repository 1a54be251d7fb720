package engineconfig

import (
	"bytes"
	"cmp"
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
	c.Hosts = unique(c.Hosts)
	return c.settle()
}

// unique leaves each of a list out that was there before: a socket that is named twice is listened on once.
func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// settle fills in what follows from other settings and validates the whole.
func (c *Config) settle() error {
	if err := c.settleDefaults(); err != nil {
		return err
	}
	c.settleAPI()
	if c.Debug {
		c.LogLevel = "debug"
	}
	return c.Validate()
}

// settleDefaults puts the defaults where the file has dockerd's empty values, which ask for them.
func (c *Config) settleDefaults() error {
	d := Default()
	for to, def := range map[*string]string{
		&c.Group: d.Group, &c.DataRoot: d.DataRoot, &c.ExecRoot: d.ExecRoot, &c.LogLevel: d.LogLevel, &c.LogFormat: d.LogFormat,
		&c.IP: d.IP, &c.LogDriver: d.LogDriver, &c.DefaultIpcMode: d.DefaultIpcMode,
	} {
		*to = cmp.Or(*to, def)
	}
	for to, def := range map[*int]int{&c.MTU: d.MTU, &c.MaxDownloads: d.MaxDownloads, &c.MaxUploads: d.MaxUploads, &c.MaxAttempts: d.MaxAttempts} {
		*to = cmp.Or(*to, def)
	}
	c.LogLevel = strings.ToLower(c.LogLevel)
	c.DefaultShmSize = cmp.Or(c.DefaultShmSize, d.DefaultShmSize)
	for name, r := range c.Runtimes {
		r, err := r.program(name)
		if err != nil {
			return err
		}
		c.Runtimes[name] = r
	}
	if c.HostGatewayOld == "" {
		return nil
	}
	if len(c.HostGateway) > 0 {
		return fault.Invalid("host-gateway-ip and host-gateway-ips must not both be specified")
	}
	c.HostGateway, c.HostGatewayOld = []string{c.HostGatewayOld}, ""
	return nil
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
		if why, ok := refused[key]; ok {
			if !asksForNothing(v) {
				later = append(later, key+" ("+why+")")
			}
			continue
		}
		name := key
		if n, ok := flagOf[key]; ok {
			name = n
		}
		switch {
		case !known[key]:
			unknown = append(unknown, key)
		case key != "runtimes" && f.Changed(name):
			both = append(both, quoteBoth(key, f.Lookup(name).Value.String(), strings.Trim(string(v), `"`)))
		}
	}
	both = append(both, bothProxies(raw["proxies"], f)...)
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

// bothProxies are the proxies that a flag and the file's "proxies" name.
func bothProxies(v json.RawMessage, f *pflag.FlagSet) (both []string) {
	var inFile map[string]string
	_ = json.Unmarshal(v, &inFile) // what is wrong with it is told when the whole file is read
	for name, value := range inFile {
		if f.Lookup(name) != nil && f.Changed(name) {
			both = append(both, quoteBoth(name, f.Lookup(name).Value.String(), value))
		}
	}
	return both
}

// keys are the daemon.json keys of Config.
func keys() map[string]bool {
	out := map[string]bool{}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		if tag := f.Tag.Get("json"); tag != "-" && tag != "" {
			out[tag] = true
		}
	}
	return out
}
