package launch

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
	"longshore/internal/core/logs"
	"longshore/internal/core/runtime"
)

// common options that every log driver takes, and those of each driver.
var (
	commonOpts = []string{"mode", "max-buffer-size", "cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"}
	driverOpts = map[string][]string{
		"json-file": {"max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag"},
		"local":     {"max-size", "max-file", "compress"},
		"none":      nil,
	}
)

// SettleLog fills the daemon's default log driver and options in.
func (l *Launcher) SettleLog(c container.LogConfig) (container.LogConfig, error) {
	if c.Type == "" {
		c.Type = l.cfg.LogDriver
	}
	opts := map[string]string{}
	if c.Type == l.cfg.LogDriver {
		maps.Copy(opts, l.cfg.LogOpts)
	}
	maps.Copy(opts, c.Config)
	c.Config = opts
	_, err := sink(c)
	return c, err
}

// LogSink is where the shim writes a container's output.
func (l *Launcher) LogSink(rec *core.Record) (runtime.LogSink, error) {
	c := rec.HostConfig.LogConfig
	s, err := sink(c)
	if err != nil {
		return s, err
	}
	s.Path = LogPath(l.Disk.Dir(rec.ID), rec)
	if s.Driver == "json-file" {
		s.Attrs, err = logAttrs(rec, c.Config)
	}
	return s, err
}

// LogPath is the active log file in a container's directory; empty for a driver without file.
func LogPath(dir string, rec *core.Record) string {
	switch rec.HostConfig.LogConfig.Type {
	case "json-file":
		return filepath.Join(dir, rec.ID+"-json.log")
	case "local":
		return filepath.Join(dir, "local-logs", "container.log")
	}
	return ""
}

// LogSource is what a reader of logs needs.
func (l *Launcher) LogSource(rec *core.Record) logs.Source {
	return logs.Source{Driver: rec.HostConfig.LogConfig.Type, Path: LogPath(l.Disk.Dir(rec.ID), rec)}
}

// sink reads and checks log options, in docker's words.
func sink(c container.LogConfig) (runtime.LogSink, error) {
	s := runtime.LogSink{Driver: c.Type, MaxFiles: 1}
	own, known := driverOpts[c.Type]
	if !known {
		return s, fault.Invalid("logger: no log driver named '%s' is registered", c.Type)
	}
	if c.Type == "local" {
		s.MaxSize, s.MaxFiles, s.Compress = 20<<20, 5, true
	}
	for key, v := range c.Config {
		if !slices.Contains(own, key) && !slices.Contains(commonOpts, key) {
			return s, fault.Invalid("unknown log opt '%s' for %s log driver", key, c.Type)
		}
		if err := option(&s, key, v); err != nil {
			return s, err
		}
	}
	if c.Type == "json-file" && s.Compress && (s.MaxFiles < 2 || s.MaxSize == 0) {
		return s, fault.Invalid("compress cannot be true when max-file is less than 2 or max-size is not set")
	}
	if c.Type == "json-file" && s.MaxSize == 0 && s.MaxFiles > 1 {
		s.MaxFiles = 1
	}
	return s, nil
}

func option(s *runtime.LogSink, key, v string) error {
	var err error
	switch key {
	case "max-size":
		if v == "-1" {
			s.MaxSize = 0
			return nil
		}
		if s.MaxSize, err = units.FromHumanSize(v); err != nil || s.MaxSize <= 0 {
			return fault.Invalid("invalid value for max-size: %q", v)
		}
	case "max-file":
		if s.MaxFiles, err = strconv.Atoi(v); err != nil {
			return fault.Invalid("invalid value for max-file: %q", v)
		}
		if s.MaxFiles < 1 {
			return fault.Invalid("max-file cannot be less than 1")
		}
	case "compress":
		if s.Compress, err = strconv.ParseBool(v); err != nil {
			return fault.Invalid("invalid value for compress: %q", v)
		}
	case "mode":
		if v != "" && v != "blocking" && v != "non-blocking" {
			return fault.Invalid("logger: logging mode not supported: %s", v)
		}
	case "max-buffer-size":
		if _, err := units.RAMInBytes(v); err != nil {
			return fault.Invalid("error parsing option max-buffer-size: %v", err)
		}
	case "labels-regex", "env-regex":
		if _, err := regexp.Compile(v); err != nil {
			return fault.Invalid("invalid value for %s: %v", key, err)
		}
	}
	return nil
}

// logAttrs are the extra attributes of each line: chosen labels and variables, and the tag.
func logAttrs(rec *core.Record, opts map[string]string) (map[string]string, error) {
	attrs := map[string]string{}
	env := map[string]string{}
	for _, kv := range rec.Config.Env {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	for _, set := range []struct {
		list, pattern string
		from          map[string]string
	}{{opts["labels"], opts["labels-regex"], rec.Config.Labels}, {opts["env"], opts["env-regex"], env}} {
		for _, k := range strings.Split(set.list, ",") {
			if v, ok := set.from[k]; ok {
				attrs[k] = v
			}
		}
		if set.pattern == "" {
			continue
		}
		re, err := regexp.Compile(set.pattern)
		if err != nil {
			return nil, err
		}
		for k, v := range set.from {
			if re.MatchString(k) {
				attrs[k] = v
			}
		}
	}
	if tag := opts["tag"]; tag != "" {
		text, err := renderTag(rec, tag)
		if err != nil {
			return nil, fault.Invalid("invalid value for tag: %v", err)
		}
		attrs["tag"] = text
	}
	if len(attrs) == 0 {
		return nil, nil
	}
	return attrs, nil
}

// tagData are the fields that a tag template may use.
type tagData struct {
	ID, FullID, Name, ImageID, ImageFullID, ImageName, DaemonName, Command string
}

func renderTag(rec *core.Record, tag string) (string, error) {
	t, err := template.New("tag").Parse(tag)
	if err != nil {
		return "", err
	}
	hex := rec.Image.ID.Encoded()
	p, args := rec.Command()
	d := tagData{
		ID: rec.ID[:12], FullID: rec.ID, Name: rec.Name, ImageID: hex[:min(12, len(hex))], ImageFullID: rec.Image.ID.String(),
		ImageName: rec.Config.Image, DaemonName: "docker", Command: strings.Join(append([]string{p}, args...), " "),
	}
	var b strings.Builder
	if err := t.Execute(&b, d); err != nil {
		return "", fmt.Errorf("render: %w", err)
	}
	return b.String(), nil
}
