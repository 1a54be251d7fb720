package engineconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"longshore/internal/core/fault"
)

// reloadable are the keys that dockerd, and the engine, act upon while they run.
var reloadable = []string{
	"debug", "labels", "live-restore", "shutdown-timeout", "runtimes", "default-runtime", "insecure-registries", "registry-mirrors",
	"max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts", "features", "authorization-plugins",
	"default-shm-size", "default-ipc-mode", "default-cgroupns-mode",
}

// Reread gives the configuration with what its file says now of the keys that can change while the engine runs. Keys
// that the file does not have stay as they are; the others wait for a restart. An error leaves everything as it was.
func (c *Config) Reread() (*Config, error) {
	doc, err := os.ReadFile(c.File)
	if errors.Is(err, fs.ErrNotExist) && !c.flags.Changed("config-file") {
		doc, err = []byte("{}"), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration file: %w", err)
	}
	fresh := Default()
	fresh.File = c.File
	if err := fresh.merge(doc, c.flags); err != nil {
		return nil, err
	}
	if err := fresh.settle(); err != nil {
		return nil, err
	}
	var there map[string]json.RawMessage
	if len(bytes.TrimSpace(doc)) > 0 {
		if err := json.Unmarshal(doc, &there); err != nil {
			return nil, fault.Invalid("unable to configure the engine with file %s: %v", c.File, err)
		}
	}
	next := *c
	// The decoder would add to maps and write into lists, which belong to c and to who reads it: what the file has is made anew.
	anew := map[string]func(){
		"runtimes": func() { next.Runtimes = nil }, "features": func() { next.Features = nil }, "labels": func() { next.Labels = nil },
		"insecure-registries": func() { next.InsecureRegistry = nil }, "registry-mirrors": func() { next.RegistryMirrors = nil },
		"authorization-plugins": func() { next.AuthorizationPlugins = nil },
	}
	for key := range there {
		if !slices.Contains(reloadable, key) {
			delete(there, key)
		} else if empty, ok := anew[key]; ok {
			empty()
		}
	}
	changed, err := json.Marshal(there)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(changed, &next); err != nil {
		return nil, fault.Invalid("unable to configure the engine with file %s: %v", c.File, err)
	}
	if err := next.settleDefaults(); err != nil {
		return nil, err
	}
	if on, ok := there["debug"]; ok {
		next.LogLevel = c.levelWithoutDebug()
		if string(on) == "true" {
			next.LogLevel = "debug"
		}
	}
	return &next, nil
}

// levelWithoutDebug is the level that the command line asks for, or the default.
func (c *Config) levelWithoutDebug() string {
	if f := c.flags.Lookup("log-level"); f != nil && f.Changed {
		return f.Value.String()
	}
	return "info"
}
