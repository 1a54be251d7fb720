// Package logserver sends log lines to the servers that docker's drivers of the same names know: syslog, gelf, fluentd
// and journald. It implements logs.Servers.
//
// A sink connects when it is opened and reports every failure: whoever sends keeps the lines and tries again.
package logserver

import (
	"context"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"longshore/internal/core/fault"
	"longshore/internal/core/logs"
)

const (
	dialTimeout = 10 * time.Second
	sendTimeout = 30 * time.Second
)

// Servers opens sinks.
type Servers struct {
	hostname string
}

var _ logs.Servers = (*Servers)(nil)

// New makes Servers that name this host to the servers.
func New() (*Servers, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	return &Servers{hostname: host}, nil
}

// driver is one kind of server.
type driver struct {
	options []string
	check   func(options map[string]string) error
	open    func(ctx context.Context, host string, t logs.Target) (logs.Sink, error)
}

// common are the options that every driver takes.
var common = []string{"tag", "labels", "labels-regex", "env", "env-regex"}

func driverOf(name string) (driver, bool) {
	switch name {
	case "syslog":
		return driver{syslogOptions, checkSyslog, openSyslog}, true
	case "gelf":
		return driver{gelfOptions, checkGELF, openGELF}, true
	case "fluentd":
		return driver{fluentdOptions, checkFluentd, openFluentd}, true
	case "journald":
		return driver{nil, func(map[string]string) error { return nil }, openJournald}, true
	}
	return driver{}, false
}

// Check implements logs.Servers.
func (s *Servers) Check(name string, options map[string]string) error {
	d, ok := driverOf(name)
	if !ok {
		return fault.NotFound("logger: no log driver named '%s' is registered", name)
	}
	for key := range options {
		if !slices.Contains(d.options, key) && !slices.Contains(common, key) {
			return fault.Invalid("unknown log opt '%s' for %s log driver", key, name)
		}
	}
	return d.check(options)
}

// Open implements logs.Servers.
func (s *Servers) Open(ctx context.Context, t logs.Target) (logs.Sink, error) {
	d, ok := driverOf(t.Driver)
	if !ok {
		return nil, fault.NotFound("logger: no log driver named '%s' is registered", t.Driver)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return d.open(ctx, s.hostname, t)
}

// endpoint is a server's address out of an option.
type endpoint struct{ network, address string }

// parseEndpoint reads "scheme://host[:port]" or "unix:///path".
func parseEndpoint(option, text, defaultPort string, schemes ...string) (endpoint, error) {
	u, err := url.Parse(text)
	if err != nil {
		return endpoint{}, fault.Invalid("%s: %v", option, err)
	}
	if !slices.Contains(schemes, u.Scheme) {
		return endpoint{}, fault.Invalid("%s should be in form proto://address, proto being one of %s, got %v", option, strings.Join(schemes, ", "), text)
	}
	if strings.HasPrefix(u.Scheme, "unix") {
		if u.Path == "" {
			return endpoint{}, fault.Invalid("%s: path of the socket is missing in %q", option, text)
		}
		return endpoint{u.Scheme, u.Path}, nil
	}
	if u.Hostname() == "" || u.Path != "" && u.Path != "/" {
		return endpoint{}, fault.Invalid("%s should be in form proto://host:port, got %v", option, text)
	}
	port := u.Port()
	if port == "" {
		port = defaultPort
	}
	return endpoint{u.Scheme, net.JoinHostPort(u.Hostname(), port)}, nil
}

func checkBool(options map[string]string, keys ...string) error {
	for _, k := range keys {
		if v := options[k]; v != "" {
			if _, err := strconv.ParseBool(v); err != nil {
				return fault.Invalid("%s must be a boolean, got %q", k, v)
			}
		}
	}
	return nil
}

func checkInt(options map[string]string, keys ...string) error {
	for _, k := range keys {
		if v := options[k]; v != "" {
			if n, err := strconv.Atoi(v); err != nil || n < 0 {
				return fault.Invalid("%s must be a positive integer, got %q", k, v)
			}
		}
	}
	return nil
}

func checkDuration(options map[string]string, keys ...string) error {
	for _, k := range keys {
		if v := options[k]; v != "" {
			if d, err := time.ParseDuration(v); err != nil || d < 0 {
				return fault.Invalid("%s must be a duration, got %q", k, v)
			}
		}
	}
	return nil
}

// tagOr gives the tag, or docker's default for drivers that need one.
func tagOr(o logs.Origin) string {
	if o.Tag != "" {
		return o.Tag
	}
	return o.ID[:min(12, len(o.ID))]
}
