package engineconfig

import (
	"fmt"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"
)

// flagOf maps daemon.json keys to the flag of another name; other keys have a flag of the same name or none.
var flagOf = map[string]string{
	"hosts": "host", "labels": "label", "log-opts": "log-opt", "runtimes": "add-runtime",
	"insecure-registries": "insecure-registry", "registry-mirrors": "registry-mirror",
	"default-address-pools": "default-address-pool", "default-ulimits": "default-ulimit",
	"cdi-spec-dirs": "cdi-spec-dir", "dns-opts": "dns-opt", "exec-opts": "exec-opt", "host-gateway-ips": "host-gateway-ip",
	"default-network-opts": "default-network-opt", "features": "feature", "host-gateway-ip": "host-gateway-ip", "storage-opts": "storage-opt",
	"authorization-plugins": "authorization-plugin", "node-generic-resources": "node-generic-resource",
}

// AddFlags declares dockerd's flags over c.
func (c *Config) AddFlags(f *pflag.FlagSet) {
	c.daemonFlags(f)
	c.apiFlags(f)
	c.networkFlags(f)
	c.containerFlags(f)
	c.idleFlags(f)
	refusedFlags(f)
}

func (c *Config) daemonFlags(f *pflag.FlagSet) {
	f.StringArrayVarP(&c.Hosts, "host", "H", nil, "Daemon socket(s) to connect to (unix://, tcp://, fd://)")
	f.StringVarP(&c.Group, "group", "G", c.Group, "Group for the unix socket")
	f.StringVar(&c.DataRoot, "data-root", c.DataRoot, "Root directory of persistent state")
	f.StringVar(&c.ExecRoot, "exec-root", c.ExecRoot, "Root directory for execution state files")
	f.StringVarP(&c.Pidfile, "pidfile", "p", c.Pidfile, "Path to use for daemon PID file")
	f.StringVar(&c.File, "config-file", c.File, "Daemon configuration file")
	f.BoolVarP(&c.Debug, "debug", "D", c.Debug, "Enable debug mode")
	f.StringVarP(&c.LogLevel, "log-level", "l", c.LogLevel, "Set the logging level (debug, info, warn, error, fatal)")
	f.StringVar(&c.LogFormat, "log-format", c.LogFormat, "Set the logging format (text, json)")
	f.BoolVar(&c.LiveRestore, "live-restore", c.LiveRestore, "Keep containers running when the daemon stops")
	f.IntVar(&c.ShutdownTimeout, "shutdown-timeout", c.ShutdownTimeout, "Seconds to wait for containers at shutdown")
	f.StringArrayVar(&c.Labels, "label", nil, "Set key=value labels to the daemon")
	f.StringVarP(&c.StorageDriver, "storage-driver", "s", "", "Storage driver to use (overlay2)")
	f.StringArrayVar(&c.StorageOpts, "storage-opt", nil, "Storage driver options (overlay2.size)")
	f.StringArrayVar(&c.AuthorizationPlugins, "authorization-plugin", nil, "Authorization plugins to load")
	f.StringArrayVar(&c.ExecOpts, "exec-opt", nil, "Runtime execution options")
	f.BoolVar(&c.Experimental, "experimental", false, "Enable experimental features")
	f.BoolVar(&c.ValidateOnly, "validate", false, "Validate daemon configuration and exit")
	f.Var(&c.BuildContextLimit, "build-context-limit", "Largest unpacked build context (0: no limit)")
	f.BoolVar(&c.BuildLocalRemotes, "build-allow-local-remotes", false, "Let a build's remote be, or redirect to, an address of this host")
	f.BoolVar(&c.RefuseNewerClients, "refuse-newer-clients", false, "Refuse API versions newer than ours instead of serving them as the newest")
	f.StringArrayVar(&c.InsecureRegistry, "insecure-registry", nil, "Enable insecure registry communication")
	f.StringArrayVar(&c.RegistryMirrors, "registry-mirror", nil, "Preferred registry mirror")
	f.IntVar(&c.MaxDownloads, "max-concurrent-downloads", c.MaxDownloads, "Set the max concurrent downloads")
	f.IntVar(&c.MaxUploads, "max-concurrent-uploads", c.MaxUploads, "Set the max concurrent uploads")
	f.IntVar(&c.MaxAttempts, "max-download-attempts", c.MaxAttempts, "Set the max download attempts for each pull")
	f.StringVar(&c.CertsDir, "certs-dir", c.CertsDir, "Directory of registries' hosts.toml files and certificates")
}

func (c *Config) containerFlags(f *pflag.FlagSet) {
	f.StringVar(&c.LogDriver, "log-driver", c.LogDriver, "Default driver for container logs")
	f.StringToStringVar(&c.LogOpts, "log-opt", c.LogOpts, "Default log driver options for containers")
	f.StringVar(&c.DefaultRuntime, "default-runtime", "", "Default OCI runtime for containers (empty: the fastest that works here)")
	f.Var((*runtimesValue)(&c.Runtimes), "add-runtime", "Register an additional OCI compatible runtime (name=path)")
	f.Var((*ulimitsValue)(&c.DefaultUlimits), "default-ulimit", "Default ulimits for containers (name=soft:hard)")
	f.Var(&c.DefaultShmSize, "default-shm-size", "Default shm size for containers")
	f.StringVar(&c.DefaultIpcMode, "default-ipc-mode", c.DefaultIpcMode, `Default mode for containers ipc ("shareable" | "private")`)
	f.StringVar(&c.DefaultCgroupns, "default-cgroupns-mode", "", `Default mode for containers cgroup namespace ("host" | "private")`)
	f.StringVar(&c.CgroupParent, "cgroup-parent", "", "Set parent cgroup for all containers")
	f.Int64Var(&c.CPURTPeriod, "cpu-rt-period", 0, "Limit the CPU real-time period in microseconds for the parent cgroup for all containers (control groups v1)")
	f.Int64Var(&c.CPURTRuntime, "cpu-rt-runtime", 0, "Limit the CPU real-time runtime in microseconds for the parent cgroup for all containers (control groups v1)")
	f.StringArrayVar(&c.CDISpecDirs, "cdi-spec-dir", nil, "CDI specification directories to use")
	f.StringVar(&c.UsernsRemap, "userns-remap", "", "User/Group setting for user namespaces")
	f.BoolVar(&c.Init, "init", false, "Run an init in the container to forward signals and reap processes")
	f.StringVar(&c.InitPath, "init-path", "", "Path to the docker-init binary")
	f.StringVar(&c.SeccompProfile, "seccomp-profile", "", `Path to seccomp profile; "unconfined" disables the default profile`)
	f.BoolVar(&c.NoNewPrivileges, "no-new-privileges", false, "Set no-new-privileges by default for new containers")
	f.StringVar(&c.ShimPath, "shim-path", "", "Path to longshore-shim (default: beside this program)")
}

type runtimesValue map[string]Runtime

func (r *runtimesValue) String() string { return fmt.Sprint(map[string]Runtime(*r)) }
func (r *runtimesValue) Type() string   { return "runtime" }

// Set reads "name=path".
func (r *runtimesValue) Set(s string) error {
	name, path, ok := strings.Cut(s, "=")
	if !ok || name == "" || path == "" {
		return fmt.Errorf("invalid runtime argument: %s (name=path)", s)
	}
	if _, dup := (*r)[name]; dup {
		return fmt.Errorf("runtime %q already registered", name)
	}
	if *r == nil {
		*r = runtimesValue{}
	}
	(*r)[name] = Runtime{Path: path}
	return nil
}

type ulimitsValue map[string]units.Ulimit

func (u *ulimitsValue) String() string { return fmt.Sprint(map[string]units.Ulimit(*u)) }
func (u *ulimitsValue) Type() string   { return "ulimit" }

// Set reads "nofile=1024:2048".
func (u *ulimitsValue) Set(s string) error {
	l, err := units.ParseUlimit(s)
	if err != nil {
		return err
	}
	(*u)[l.Name] = *l
	return nil
}
