package engineconfig

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"

	"longshore/internal/core/fault"
)

// Idle are the keys of dockerd that are read and checked, and then have no effect: what they ask for cannot be asked of
// this engine, or is so anyway. A daemon.json that has them works here; WithoutEffect names them for the log.
type Idle struct {
	Containerd                string   `json:"containerd"`
	ContainerdNamespace       string   `json:"containerd-namespace"`
	ContainerdPluginNamespace string   `json:"containerd-plugins-namespace"`
	UserlandProxyPath         string   `json:"userland-proxy-path"`
	NetworkControlPlaneMTU    int      `json:"network-control-plane-mtu"`
	SwarmAdvertiseAddr        string   `json:"swarm-default-advertise-addr"`
	NodeGenericResources      []string `json:"node-generic-resources"`
	RawLogs                   bool     `json:"raw-logs"`
	SELinuxEnabled            bool     `json:"selinux-enabled"`
	DeprecatedKeyPath         string   `json:"deprecated-key-path"`
	AllowNondistributable     []string `json:"allow-nondistributable-artifacts"`
}

// idleReasons say why, by key.
var idleReasons = map[string]string{
	"containerd":                       "containerd's packages run in this process: no daemon of that name is asked",
	"containerd-namespace":             "containerd's packages run in this process, with a store of their own",
	"containerd-plugins-namespace":     "containerd's packages run in this process, with a store of their own",
	"userland-proxy-path":              "the proxy is built in",
	"network-control-plane-mtu":        "only a swarm has a control plane",
	"swarm-default-advertise-addr":     "this engine forms no swarm",
	"node-generic-resources":           "only a swarm gives out a node's resources",
	"raw-logs":                         "the log has whole timestamps and no colours anyway",
	"selinux-enabled":                  "the kernel has no SELinux; where it has, the daemon does not start",
	"deprecated-key-path":              "the engine's ID is a file of its own, as with today's dockerd",
	"allow-nondistributable-artifacts": "such layers are pushed to every registry, as by today's dockerd",
}

func (c *Config) idleFlags(f *pflag.FlagSet) {
	f.StringVar(&c.Containerd, "containerd", "", "Address of containerd (no effect)")
	f.StringVar(&c.ContainerdNamespace, "containerd-namespace", "", "Containerd namespace (no effect)")
	f.StringVar(&c.ContainerdPluginNamespace, "containerd-plugins-namespace", "", "Containerd namespace for plugins (no effect)")
	f.StringVar(&c.UserlandProxyPath, "userland-proxy-path", "", "Path to the userland proxy binary (no effect)")
	f.IntVar(&c.NetworkControlPlaneMTU, "network-control-plane-mtu", 0, "MTU of a swarm's control plane (no effect)")
	f.StringVar(&c.SwarmAdvertiseAddr, "swarm-default-advertise-addr", "", "Address or interface that a swarm is told of (no effect)")
	f.StringArrayVar(&c.NodeGenericResources, "node-generic-resource", nil, "Resources that a swarm may give out (no effect)")
	f.BoolVar(&c.RawLogs, "raw-logs", false, "Full timestamps without colours (always so)")
	f.BoolVar(&c.SELinuxEnabled, "selinux-enabled", false, "Label containers for SELinux (no effect without SELinux, refused with it)")
	f.StringArrayVar(&c.AllowNondistributable, "allow-nondistributable-artifacts", nil, "Registries for nondistributable artifacts (no effect: all)")
	for _, name := range []string{"containerd", "containerd-namespace", "containerd-plugins-namespace", "allow-nondistributable-artifacts"} {
		_ = f.MarkHidden(name) // errs only for a flag that is not there
	}
}

// WithoutEffect gives the keys that ask for something and have no effect, each with the reason.
func (c *Config) WithoutEffect() map[string]string {
	out := map[string]string{}
	i := &c.Idle
	for key, set := range map[string]bool{
		"containerd": i.Containerd != "", "containerd-namespace": i.ContainerdNamespace != "", "containerd-plugins-namespace": i.ContainerdPluginNamespace != "",
		"userland-proxy-path": i.UserlandProxyPath != "", "network-control-plane-mtu": i.NetworkControlPlaneMTU != 0,
		"swarm-default-advertise-addr": i.SwarmAdvertiseAddr != "", "node-generic-resources": len(i.NodeGenericResources) > 0,
		"raw-logs": i.RawLogs, "selinux-enabled": i.SELinuxEnabled, "deprecated-key-path": i.DeprecatedKeyPath != "",
		"allow-nondistributable-artifacts": len(i.AllowNondistributable) > 0,
	} {
		if set {
			out[key] = idleReasons[key]
		}
	}
	return out
}

func (c *Config) validateIdle() error {
	if c.NetworkControlPlaneMTU < 0 || c.NetworkControlPlaneMTU > 65535 {
		return fault.Invalid("network-control-plane-mtu: %d is out of range (0-65535)", c.NetworkControlPlaneMTU)
	}
	for _, r := range c.NodeGenericResources {
		if k, v, ok := strings.Cut(r, "="); !ok || k == "" || v == "" {
			return fault.Invalid("node-generic-resources: incorrect term %s, missing '=' or malformed expression", r)
		}
	}
	return nil
}

// refused are the keys of dockerd, of today and of earlier days, that cannot mean anything here, each with what its error
// says. Values that ask for nothing (false, 0, "", [], {}, null) are let through: people copy whole examples.
var refused = map[string]string{
	"apparmor-profile":        "the template of containers' AppArmor profile is built in: load your own profile and name it with --security-opt apparmor=",
	"api-cors-header":         "dockerd has removed it: use a reverse proxy if you need CORS headers",
	"cri-containerd":          "no containerd runs here that a kubelet could talk to",
	"cluster-advertise":       "dockerd has removed it with the overlay networks without a swarm",
	"cluster-store":           "dockerd has removed it with the overlay networks without a swarm",
	"cluster-store-opts":      "dockerd has removed it with the overlay networks without a swarm",
	"disable-legacy-registry": "dockerd has removed it: registries of version 1 are not asked",
	"graph":                   "dockerd has removed it: the key is data-root",
	"network-diagnostic-port": "there is no network database to look into: only a swarm has one",
	"nri-opts":                "there are no plugins of the Node Resource Interface",
	"oom-score-adjust":        "dockerd has removed it: set OOMScoreAdjust= in the unit of systemd",
	"restart":                 "dockerd gives it up: use a restart policy (docker run --restart)",
	"rootless":                "the engine needs root: networks, mounts and control groups of its own",
}

// refusedFlag is a flag whose value may only ask for nothing.
type refusedFlag struct {
	why, value string
	idle       []string // values that ask for nothing
}

func (r *refusedFlag) String() string { return r.value }
func (r *refusedFlag) Type() string   { return "string" }

// Set implements pflag.Value.
func (r *refusedFlag) Set(s string) error {
	if slices.Contains(r.idle, s) {
		r.value = s
		return nil
	}
	return fault.Invalid("not supported by this version of Longshore: %s", r.why)
}

func refusedFlags(f *pflag.FlagSet) {
	for _, key := range slices.Sorted(maps.Keys(refused)) {
		name := flagOf[key]
		if name == "" {
			name = key
		}
		v := &refusedFlag{why: refused[key], idle: []string{"", "false", "0"}}
		short := ""
		if key == "restart" {
			v, short = &refusedFlag{why: refused[key], value: "true", idle: []string{"true", "1"}}, "r"
		}
		flag := f.VarPF(v, name, short, "Refused: "+refused[key])
		flag.Hidden = true
		if key == "rootless" || key == "cri-containerd" || key == "restart" || key == "disable-legacy-registry" {
			flag.NoOptDefVal = "true"
		}
	}
}

// asksForNothing tells whether a value of daemon.json is that of a key that is not there.
func asksForNothing(v json.RawMessage) bool {
	var x any
	if json.Unmarshal(v, &x) != nil {
		return false
	}
	switch x := x.(type) {
	case nil:
		return true
	case bool:
		return !x
	case float64:
		return x == 0
	case string:
		return x == ""
	case []any:
		return len(x) == 0
	case map[string]any:
		enabled, only := x["enable"].(bool) // nri-opts
		return len(x) == 0 || len(x) == 1 && only && !enabled
	}
	return false
}

// StorageSize is the bound of containers' writable layers out of storage-opts, in bytes; 0: none.
func (c *Config) StorageSize() (uint64, error) {
	var size uint64
	for _, o := range c.StorageOpts {
		key, value, ok := strings.Cut(o, "=")
		if !ok {
			return 0, fault.Invalid("storage-opts: unable to parse storage-opt key/value: '%s'", o)
		}
		switch key = strings.ToLower(strings.TrimSpace(key)); key {
		case "overlay2.size":
			n, err := units.RAMInBytes(strings.TrimSpace(value))
			if err != nil || n < 0 {
				return 0, fault.Invalid("storage-opts: overlay2.size: invalid size: '%s'", value)
			}
			size = uint64(n)
		case "overlay2.override_kernel_check": // kernels older than 4.0, which do not run this engine either
			if _, err := strconv.ParseBool(strings.TrimSpace(value)); err != nil {
				return 0, fault.Invalid("storage-opts: %s: %v", key, err)
			}
		default:
			return 0, fault.Invalid("storage-opts: overlay2: unknown option %s", key)
		}
	}
	return size, nil
}
