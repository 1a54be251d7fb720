// Package engineconfig is the engine's configuration: dockerd's flags and dockerd's daemon.json, with dockerd's rules.
//
// A key may stand on the command line or in the file, not in both; unknown keys are refused by name. Parse gives a
// validated Config; nothing here touches the system.
package engineconfig

import (
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"

	"longshore/internal/core/fault"
	"longshore/internal/driver/registryclient"
)

// logDrivers are the values of log-driver.
var logDrivers = []string{"json-file", "local", "none", "syslog", "gelf", "fluentd", "journald"}

// Default paths, dockerd's own names under Longshore's directories.
const (
	DefaultDataRoot = "/var/lib/longshore"
	DefaultExecRoot = "/run/longshore"
	DefaultFile     = "/etc/docker/daemon.json"
	DefaultHost     = "unix:///var/run/docker.sock"
	DefaultPidfile  = "/run/longshore.pid"
	// RuncShim is dockerd's other name for runc.
	RuncShim = "io.containerd.runc.v2"
)

// AddressPool is one entry of default-address-pools.
type AddressPool struct {
	Base netip.Prefix `json:"base"`
	Size int          `json:"size"`
}

// Runtime is one entry of runtimes.
type Runtime struct {
	Path string   `json:"path"`
	Args []string `json:"runtimeArgs,omitempty"`
	// Type names a shim of containerd; the one for runc stands for its options' BinaryName, or runc.
	Type    string         `json:"runtimeType,omitempty"`
	Options map[string]any `json:"options,omitempty"`
}

// program settles the path of a runtime that is named by its shim.
func (r Runtime) program(name string) (Runtime, error) {
	switch {
	case r.Type == "" && len(r.Options) > 0:
		return r, fault.Invalid("runtimes: runtime %q: options are those of a runtimeType", name)
	case r.Type == "":
		return r, nil
	case r.Path != "":
		return r, fault.Invalid("runtimes: runtime %q: cannot configure both path and runtimeType for the same runtime", name)
	case r.Type != RuncShim:
		return r, fault.Invalid("runtimes: runtime %q: %s is a shim of containerd, which this engine does not run: give the path of an OCI runtime", name, r.Type)
	}
	r.Type, r.Path = "", "runc"
	for key, v := range r.Options {
		text, isText := v.(string)
		if key != "BinaryName" || !isText || text == "" {
			return r, fault.Invalid("runtimes: runtime %q: option %s is not supported, only BinaryName", name, key)
		}
		r.Path = text
	}
	r.Options = nil
	return r, nil
}

// Config holds every setting under its daemon.json key.
type Config struct {
	Hosts           []string `json:"hosts"`
	Group           string   `json:"group"`
	DataRoot        string   `json:"data-root"`
	ExecRoot        string   `json:"exec-root"`
	Pidfile         string   `json:"pidfile"`
	Debug           bool     `json:"debug"`
	LogLevel        string   `json:"log-level"`
	LogFormat       string   `json:"log-format"`
	LiveRestore     bool     `json:"live-restore"`
	ShutdownTimeout int      `json:"shutdown-timeout"` // seconds, -1: no limit
	Labels          []string `json:"labels"`

	Bridge       string        `json:"bridge"`
	BIP          string        `json:"bip"`
	FixedCIDR    string        `json:"fixed-cidr"`
	AddressPools []AddressPool `json:"default-address-pools"`

	IPv6               bool                         `json:"ipv6"`
	BIP6               string                       `json:"bip6"`
	FixedCIDR6         string                       `json:"fixed-cidr-v6"`
	DefaultGateway     string                       `json:"default-gateway"`
	DefaultGateway6    string                       `json:"default-gateway-v6"`
	NetworkOpts        map[string]map[string]string `json:"default-network-opts"`
	IP6Tables          bool                         `json:"ip6tables"`
	FirewallBackend    string                       `json:"firewall-backend"`
	AllowDirectRouting bool                         `json:"allow-direct-routing"`
	BridgeAcceptFwMark string                       `json:"bridge-accept-fwmark"`
	IPForwardNoDrop    bool                         `json:"ip-forward-no-drop"`

	MTU         int      `json:"mtu"`
	ICC         bool     `json:"icc"`
	IP          string   `json:"ip"`
	IPForward   bool     `json:"ip-forward"`
	IPMasq      bool     `json:"ip-masq"`
	HostGateway []string `json:"host-gateway-ips"`
	// HostGatewayOld is the key that dockerd had for one address.
	HostGatewayOld string   `json:"host-gateway-ip"`
	DNS            []string `json:"dns"`
	DNSOptions     []string `json:"dns-opts"`
	DNSSearch      []string `json:"dns-search"`

	LogDriver string            `json:"log-driver"`
	LogOpts   map[string]string `json:"log-opts"`

	DefaultRuntime   string                  `json:"default-runtime"`
	Runtimes         map[string]Runtime      `json:"runtimes"`
	DefaultUlimits   map[string]units.Ulimit `json:"default-ulimits"`
	DefaultShmSize   Bytes                   `json:"default-shm-size"`
	DefaultIpcMode   string                  `json:"default-ipc-mode"`
	DefaultCgroupns  string                  `json:"default-cgroupns-mode"`
	CgroupParent     string                  `json:"cgroup-parent"`
	CDISpecDirs      []string                `json:"cdi-spec-dirs"`
	UsernsRemap      string                  `json:"userns-remap"`
	Init             bool                    `json:"init"`
	InitPath         string                  `json:"init-path"`
	SeccompProfile   string                  `json:"seccomp-profile"`
	NoNewPrivileges  bool                    `json:"no-new-privileges"`
	ShimPath         string                  `json:"-"`
	File             string                  `json:"-"`
	InsecureRegistry []string                `json:"insecure-registries"`
	RegistryMirrors  []string                `json:"registry-mirrors"`
	MaxDownloads     int                     `json:"max-concurrent-downloads"`
	MaxUploads       int                     `json:"max-concurrent-uploads"`
	MaxAttempts      int                     `json:"max-download-attempts"`
	// CertsDir holds a directory per registry: hosts.toml, certificates. Longshore's own key.
	CertsDir string `json:"certs-dir"`

	// Accepted because they ask for what Longshore does anyway; other values are refused by Validate.
	StorageDriver string   `json:"storage-driver"`
	StorageOpts   []string `json:"storage-opts"`
	ExecOpts      []string `json:"exec-opts"`
	IPTables      bool     `json:"iptables"`
	UserlandProxy bool     `json:"userland-proxy"`
	Experimental  bool     `json:"experimental"`

	TLS           bool            `json:"tls"`
	TLSVerify     bool            `json:"tlsverify"`
	TLSCACert     string          `json:"tlscacert"`
	TLSCert       string          `json:"tlscert"`
	TLSKey        string          `json:"tlskey"`
	MetricsAddr   string          `json:"metrics-addr"`
	MinAPIVersion string          `json:"min-api-version"`
	Features      map[string]bool `json:"features"`
	HTTPProxy     string          `json:"http-proxy"`
	HTTPSProxy    string          `json:"https-proxy"`
	NoProxy       string          `json:"no-proxy"`
	Proxies       Proxies         `json:"proxies"`

	// RequireToken names the networks ("tcp", "unix") whose callers must show a token; Longshore's own key.
	RequireToken []string `json:"require-token"`
	// RefuseNewerClients answers 400 to API versions above the newest; Longshore's own key.
	RefuseNewerClients bool `json:"refuse-newer-clients"`
	// BuildContextLimit bounds an unpacked build context, 0: no limit; BuildLocalRemotes lets a build's remote be an address
	// of the host. Longshore's own keys.
	BuildContextLimit Bytes `json:"build-context-limit"`
	BuildLocalRemotes bool  `json:"build-allow-local-remotes"`

	Builder Builder `json:"builder"`

	// AuthorizationPlugins are asked, in order, about each request and each answer.
	AuthorizationPlugins []string `json:"authorization-plugins"`
	// CPURTPeriod and CPURTRuntime are the share of real-time scheduling of all containers together, in microseconds; 0: the
	// kernel's. Control groups of version 1 only.
	CPURTPeriod  int64 `json:"cpu-rt-period"`
	CPURTRuntime int64 `json:"cpu-rt-runtime"`

	Idle

	// Check only: validate and exit.
	ValidateOnly bool `json:"-"`

	flags *pflag.FlagSet // the command line, for Reread
}

// Default is what an empty command line and no file give.
func Default() *Config {
	return &Config{
		DataRoot: DefaultDataRoot, ExecRoot: DefaultExecRoot, Pidfile: DefaultPidfile,
		Group: "docker", LogLevel: "info", LogFormat: "text", LiveRestore: true, ShutdownTimeout: 15,
		MTU: 1500, ICC: true, IP: "0.0.0.0", IPForward: true, IPMasq: true,
		LogDriver: "json-file", LogOpts: map[string]string{}, Runtimes: map[string]Runtime{},
		DefaultUlimits: map[string]units.Ulimit{}, DefaultShmSize: 64 << 20, DefaultIpcMode: "private",
		MaxDownloads: 3, MaxUploads: 5, MaxAttempts: 5, CertsDir: "/etc/docker/certs.d", Features: map[string]bool{}, IPTables: true, IP6Tables: true, NetworkOpts: map[string]map[string]string{}, UserlandProxy: true, File: DefaultFile,
	}
}

// Bytes is a size in bytes that daemon.json and flags may write as "64M".
type Bytes int64

// UnmarshalJSON reads a number or a string with a unit.
func (b *Bytes) UnmarshalJSON(p []byte) error { return b.Set(strings.Trim(string(p), `"`)) }

// Set implements pflag.Value.
func (b *Bytes) Set(s string) error {
	n, err := units.RAMInBytes(s)
	*b = Bytes(n)
	return err
}

// Type implements pflag.Value.
func (b *Bytes) Type() string { return "bytes" }

// String implements pflag.Value.
func (b *Bytes) String() string { return units.BytesSize(float64(*b)) }

// SystemdCgroups tells whether systemd makes the containers' control groups (exec-opts).
func (c *Config) SystemdCgroups() bool {
	d, _ := c.cgroupDriver()
	return d == "systemd"
}

// cgroupDriver reads exec-opts; the last one counts.
func (c *Config) cgroupDriver() (string, error) {
	driver := "cgroupfs"
	for _, o := range c.ExecOpts {
		key, value, _ := strings.Cut(o, "=")
		switch {
		case key != "native.cgroupdriver":
			return "", fault.Invalid("exec-opts: %q is not supported: only native.cgroupdriver", o)
		case value != "cgroupfs" && value != "systemd":
			return "", fault.Invalid("exec-opts: cgroup driver %q is not supported: native.cgroupdriver is cgroupfs or systemd", value)
		}
		driver = value
	}
	if driver == "systemd" && c.CgroupParent != "" && !isSlice(c.CgroupParent) {
		return "", fault.Invalid("cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"")
	}
	return driver, nil
}

// isSlice tells whether a name can be that of a systemd slice.
func isSlice(name string) bool { return len(name) > len(".slice") && strings.HasSuffix(name, ".slice") }

// Validate checks values that parse but cannot work, naming the key.
func (c *Config) Validate() error {
	for _, check := range []func() error{c.validateDaemon, c.validateAPI, c.validateNetwork, c.validateContainers, c.validateIdle} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) validateDaemon() error {
	for key, path := range map[string]string{"data-root": c.DataRoot, "exec-root": c.ExecRoot} {
		if !filepath.IsAbs(path) {
			return fault.Invalid("%s: %q must be an absolute path", key, path)
		}
	}
	if !slices.Contains([]string{"trace", "debug", "info", "warn", "error", "fatal", "panic"}, c.LogLevel) {
		return fault.Invalid("log-level: invalid logging level: %q (debug, info, warn, error, fatal)", c.LogLevel)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		return fault.Invalid("log-format: invalid log format: %q (text, json)", c.LogFormat)
	}
	for _, l := range c.Labels {
		if k, _, ok := strings.Cut(l, "="); !ok || k == "" {
			return fault.Invalid("labels: bad attribute format: %s", l)
		}
	}
	if d := c.StorageDriver; d != "" && d != "overlay2" && d != "overlayfs" {
		return fault.Invalid("storage-driver: %q is not supported: Longshore stores images with overlayfs (remove the key)", d)
	}
	if _, err := c.cgroupDriver(); err != nil {
		return err
	}
	if _, err := c.StorageSize(); err != nil {
		return err
	}
	if c.CPURTPeriod < 0 || c.CPURTRuntime < 0 || c.CPURTPeriod > 0 && c.CPURTRuntime > c.CPURTPeriod {
		return fault.Invalid("cpu-rt-period and cpu-rt-runtime: %d and %d are no part of a period", c.CPURTPeriod, c.CPURTRuntime)
	}
	if (c.CPURTPeriod > 0 || c.CPURTRuntime > 0) && c.SystemdCgroups() {
		return fault.Invalid("cpu-rt-period and cpu-rt-runtime: systemd makes the containers' control groups (exec-opts) and knows no such limits")
	}
	for _, name := range c.AuthorizationPlugins {
		if name == "" || strings.ContainsAny(name, "/\\") || strings.HasPrefix(name, ".") {
			return fault.Invalid("authorization-plugins: %q is no name of a plugin", name)
		}
	}
	if err := (registryclient.Config{Insecure: c.InsecureRegistry, Mirrors: c.RegistryMirrors}).Validate(); err != nil {
		return err
	}
	if c.MaxAttempts < 1 {
		return fault.Invalid("invalid max download attempts: %d (max-download-attempts must be at least 1)", c.MaxAttempts)
	}
	if c.CertsDir != "" && !filepath.IsAbs(c.CertsDir) {
		return fault.Invalid("certs-dir: %q must be an absolute path", c.CertsDir)
	}
	if c.MaxDownloads < 1 || c.MaxUploads < 1 {
		return fault.Invalid("max-concurrent-downloads and max-concurrent-uploads must be at least 1")
	}
	return nil
}

func (c *Config) validateContainers() error {
	if !slices.Contains(logDrivers, c.LogDriver) {
		return fault.Invalid("log-driver: %q is not supported (%s)", c.LogDriver, strings.Join(logDrivers, ", "))
	}
	for name, r := range c.Runtimes {
		if name == "" || r.Path == "" {
			return fault.Invalid("runtimes: runtime %q needs a path", name)
		}
	}
	if !slices.Contains([]string{"private", "shareable"}, c.DefaultIpcMode) {
		return fault.Invalid("default-ipc-mode: IPC mode %q is not supported as default value for container IPC mode (private, shareable)", c.DefaultIpcMode)
	}
	if !slices.Contains([]string{"", "private", "host"}, c.DefaultCgroupns) {
		return fault.Invalid("default-cgroupns-mode: %q is not valid (private, host)", c.DefaultCgroupns)
	}
	if c.DefaultShmSize <= 0 {
		return fault.Invalid("default-shm-size: must be greater than 0")
	}
	return nil
}

// errFlagAndFile is dockerd's message for keys in both places.
func errFlagAndFile(file string, keys []string) error {
	return fault.Invalid("unable to configure the engine with file %s: the following directives are specified both as a flag and in the configuration file: %s", file, strings.Join(keys, ", "))
}

func errUnknown(file string, keys []string) error {
	return fault.Invalid("unable to configure the engine with file %s: the following directives don't match any configuration option: %s", file, strings.Join(keys, ", "))
}

func errUnsupported(file string, keys []string) error {
	return fault.Invalid("unable to configure the engine with file %s: the following directives of dockerd are not supported by this version of Longshore: %s", file, strings.Join(keys, ", "))
}

func quoteBoth(key, flag, file string) string {
	return fmt.Sprintf("%s: (from flag: %s, from file: %s)", key, masked(flag), masked(file))
}

// masked is a value without the user and password of a URL.
func masked(value string) string {
	u, err := url.Parse(value)
	if err != nil || u.User == nil {
		return value
	}
	u.User = url.UserPassword("xxxxx", "xxxxx")
	return u.String()
}
