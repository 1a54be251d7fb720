package launch

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

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
	if _, err := l.sink(c); err != nil {
		return c, err
	}
	if _, asked := opts["max-buffer-size"]; asked && opts["mode"] != "non-blocking" {
		return c, fault.Invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
	}
	return c, nil
}

// LogSink is where the shim writes a container's output.
func (l *Launcher) LogSink(rec *core.Record) (runtime.LogSink, error) {
	c := rec.HostConfig.LogConfig
	s, err := l.sink(c)
	if err != nil {
		return s, err
	}
	s.Path = logFile(l.Disk.Dir(rec.ID), rec)
	if s.Driver == "json-file" {
		s.Attrs, err = logAttrs(rec, c.Config)
	}
	return s, err
}

// LogPath is what inspect tells of the log: the active file of the json-file driver, whose form others may rely on.
func LogPath(dir string, rec *core.Record) string {
	if rec.HostConfig.LogConfig.Type != "json-file" {
		return ""
	}
	return logFile(dir, rec)
}

// logFile is the active log file in a container's directory; empty when nothing is logged.
func logFile(dir string, rec *core.Record) string {
	switch rec.HostConfig.LogConfig.Type {
	case "json-file":
		return filepath.Join(dir, rec.ID+"-json.log")
	case "none":
		return ""
	}
	return filepath.Join(dir, "local-logs", "container.log")
}

// remote tells whether a driver sends lines away; its file is of the local driver's kind.
func remote(driver string) bool {
	_, here := driverOpts[driver]
	return !here
}

// LogSource is what a reader of logs needs.
func (l *Launcher) LogSource(rec *core.Record) logs.Source {
	c := rec.HostConfig.LogConfig
	if disabled, _ := strconv.ParseBool(c.Config["cache-disabled"]); disabled && remote(c.Type) {
		return logs.Source{Driver: "none"}
	}
	return l.logSource(rec)
}

func (l *Launcher) logSource(rec *core.Record) logs.Source {
	driver := rec.HostConfig.LogConfig.Type
	if remote(driver) {
		driver = "local"
	}
	return logs.Source{Driver: driver, Path: logFile(l.Disk.Dir(rec.ID), rec)}
}

// sink reads and checks log options, in docker's words.
func (l *Launcher) sink(c container.LogConfig) (runtime.LogSink, error) {
	if !remote(c.Type) {
		return fileSink(c)
	}
	cache := container.LogConfig{Type: "local", Config: map[string]string{}}
	own := map[string]string{}
	for key, v := range c.Config {
		switch {
		case !slices.Contains(commonOpts, key):
			own[key] = v
		case strings.HasPrefix(key, "cache-") && key != "cache-disabled":
			cache.Config[strings.TrimPrefix(key, "cache-")] = v
		default:
			cache.Config[key] = v
		}
	}
	if l.Shipper == nil {
		return runtime.LogSink{}, fault.Invalid("logger: no log driver named '%s' is registered", c.Type)
	}
	if err := l.Shipper.Check(c.Type, own); err != nil {
		return runtime.LogSink{}, fault.Invalid("%v", err)
	}
	for key, v := range own { // the options that all drivers share
		if err := option(&runtime.LogSink{}, key, v); err != nil {
			return runtime.LogSink{}, err
		}
	}
	return fileSink(cache)
}

// fileSink is sink for the drivers whose file is all there is.
func fileSink(c container.LogConfig) (runtime.LogSink, error) {
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
	case "cache-disabled", "cache-compress":
		if _, err := strconv.ParseBool(v); err != nil {
			return fault.Invalid("invalid value for %s: %q", key, v)
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
