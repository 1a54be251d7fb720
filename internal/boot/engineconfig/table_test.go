package engineconfig

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// row is a line of the table of settings in docs/configuration.md.
type row struct{ key, flag, verdict, remarks string }

// dockerd29 are the settings of dockerd 29 on Linux: keys of daemon.json with the flag of another name behind a colon; a
// leading dash: a flag only. From its help, its reference page and its configuration's JSON tags.
const dockerd29 = `runtimes:add-runtime allow-direct-routing apparmor-profile authorization-plugins:authorization-plugin bip bip6 bridge
	bridge-accept-fwmark builder cdi-spec-dirs:cdi-spec-dir cgroup-parent -config-file containerd containerd-namespace
	containerd-plugins-namespace cpu-rt-period cpu-rt-runtime cri-containerd data-root debug default-address-pools:default-address-pool
	default-cgroupns-mode default-gateway default-gateway-v6 default-ipc-mode default-network-opts:default-network-opt default-runtime
	default-shm-size default-ulimits:default-ulimit deprecated-key-path dns dns-opts:dns-opt dns-search exec-opts:exec-opt exec-root
	experimental features:feature firewall-backend fixed-cidr fixed-cidr-v6 group hosts:host host-gateway-ip
	host-gateway-ips:host-gateway-ip http-proxy https-proxy icc init init-path insecure-registries:insecure-registry ip ip-forward
	ip-forward-no-drop ip-masq ip6tables iptables ipv6 labels:label live-restore log-driver log-format log-level log-opts:log-opt
	max-concurrent-downloads max-concurrent-uploads max-download-attempts metrics-addr min-api-version mtu network-control-plane-mtu
	network-diagnostic-port no-new-privileges no-proxy node-generic-resources:node-generic-resource nri-opts pidfile proxies raw-logs
	registry-mirrors:registry-mirror -restart rootless seccomp-profile selinux-enabled shutdown-timeout storage-driver
	storage-opts:storage-opt swarm-default-advertise-addr tls tlscacert tlscert tlskey tlsverify userland-proxy userland-proxy-path
	userns-remap -validate allow-nondistributable-artifacts`

// samples ask for something, in daemon.json; a flag gets the same. Keys that are not here get a value of their type.
var samples = map[string]string{
	"allow-nondistributable-artifacts": `["registry.example"]`, "authorization-plugins": `["opa"]`, "bip": `"10.1.0.1/24"`, "bip6": `"fd01::1/64"`,
	"bridge-accept-fwmark": `"0x1/0x3"`, "builder": `{"gc": {"enabled": false}}`, "certs-dir": `"/etc/x"`, "build-context-limit": `"1g"`, "cluster-store-opts": `{"a": "b"}`,
	"cpu-rt-period": `1000000`, "cpu-rt-runtime": `950000`, "data-root": `"/x"`, "default-address-pools": `[{"base": "10.9.0.0/16", "size": 24}]`,
	"default-cgroupns-mode": `"host"`, "default-gateway": `"10.1.0.254"`, "default-gateway-v6": `"fd01::fe"`, "default-ipc-mode": `"shareable"`,
	"default-network-opts": `{"bridge": {"com.docker.network.driver.mtu": "1400"}}`, "default-shm-size": `"128m"`,
	"default-ulimits": `{"nofile": {"Name": "nofile", "Soft": 10, "Hard": 20}}`, "dns": `["192.0.2.1"]`, "exec-opts": `["native.cgroupdriver=cgroupfs"]`,
	"exec-root": `"/x"`, "features": `{"cdi": false}`, "firewall-backend": `"iptables"`, "fixed-cidr": `"10.1.0.0/25"`, "fixed-cidr-v6": `"fd01::/80"`,
	"host-gateway-ip": `"192.0.2.1"`, "host-gateway-ips": `["192.0.2.1"]`, "ip": `"192.0.2.1"`, "labels": `["a=b"]`, "log-driver": `"local"`,
	"log-format": `"json"`, "log-level": `"warn"`, "log-opts": `{"max-size": "1m"}`, "max-download-attempts": `2`, "metrics-addr": `"127.0.0.1:9323"`,
	"min-api-version": `"1.40"`, "mtu": `1400`, "node-generic-resources": `["gpu=a"]`, "nri-opts": `{"enable": true}`,
	"proxies": `{"http-proxy": "http://192.0.2.1:3128"}`, "registry-mirrors": `["https://mirror.example"]`, "require-token": `["tcp"]`,
	"runtimes": `{"x": {"path": "/bin/x"}}`, "storage-driver": `"overlay2"`, "storage-opts": `["overlay2.size=1g"]`, "hosts": `["unix:///x"]`,
}

// flagSamples are those that are written differently on the command line.
var flagSamples = map[string]string{
	"add-runtime": "x=/bin/x", "default-address-pool": "base=10.9.0.0/16,size=24", "default-network-opt": "bridge=com.docker.network.driver.mtu=1400",
	"default-ulimit": "nofile=10:20", "feature": "cdi=false", "log-opt": "max-size=1m", "nri-opts": "enable=true", "cluster-store-opts": "a=b", "restart": "false",
}

func table(t *testing.T) []row {
	t.Helper()
	doc, err := os.ReadFile("../../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	var out []row
	for line := range strings.Lines(string(doc)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(strings.ReplaceAll(line, `\|`, "¦")), "|"), " | ")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if len(cells) != 4 || !slices.Contains([]string{"works", "no effect", "refused", "ours"}, cells[2]) {
			continue
		}
		flag, _, _ := strings.Cut(strings.TrimPrefix(strings.Trim(cells[1], "–"), "--"), ",")
		out = append(out, row{strings.Trim(cells[0], "–"), strings.TrimSpace(flag), cells[2], cells[3]})
	}
	if len(out) < 100 {
		t.Fatalf("the table has %d rows", len(out))
	}
	return out
}

// TestTableIsWhole: every key and flag that the code or dockerd knows has one row, and no row is about anything else.
func TestTableIsWhole(t *testing.T) {
	byKey, byFlag := map[string]row{}, map[string]row{}
	for _, r := range table(t) {
		if _, twice := byKey[r.key]; twice && r.key != "" {
			t.Errorf("two rows for key %s", r.key)
		}
		byKey[r.key], byFlag[r.flag] = r, r
	}
	known := keys()
	for key := range refused {
		if key != "restart" {
			known[key] = true
		}
	}
	for key := range known {
		if _, ok := byKey[key]; !ok {
			t.Errorf("no row for key %s", key)
		}
	}
	flags := pflag.NewFlagSet("x", pflag.ContinueOnError)
	Default().AddFlags(flags)
	flags.VisitAll(func(f *pflag.Flag) {
		if _, ok := byFlag[f.Name]; !ok {
			t.Errorf("no row for flag --%s", f.Name)
		}
	})
	for key, r := range byKey {
		if key != "" && !known[key] {
			t.Errorf("row for key %s, which the code does not know", key)
		}
		if r.flag != "" && flags.Lookup(r.flag) == nil && r.flag != "version" && r.flag != "help" {
			t.Errorf("row for flag --%s, which the code does not know", r.flag)
		}
	}
	for _, s := range strings.Fields(dockerd29) {
		key, flag, named := strings.Cut(s, ":")
		if only, ok := strings.CutPrefix(s, "-"); ok {
			key, flag, named = "", only, true
		}
		if key != "" && byKey[key].verdict == "" || named && byFlag[flag].verdict == "" {
			t.Errorf("no row for dockerd's %s", s)
		}
	}
}

// sample is a value that asks for something.
func sample(t *testing.T, key string) string {
	t.Helper()
	if s, ok := samples[key]; ok {
		return s
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		if f.Tag.Get("json") != key {
			continue
		}
		switch f.Type.Kind() {
		case reflect.Bool:
			if reflect.ValueOf(Default()).Elem().FieldByIndex(f.Index).Bool() {
				return "false"
			}
			return "true"
		case reflect.Int, reflect.Int64:
			return "7"
		case reflect.String:
			return `"x"`
		case reflect.Slice:
			return `["x"]`
		}
		t.Fatalf("no sample for %s", key)
	}
	return "true" // refused keys have no type
}

// TestTableIsTrue sets every key and every flag: what the table says works or has no effect is taken, what it says is
// refused is refused by name, and the log is told of what has no effect.
func TestTableIsTrue(t *testing.T) {
	used := fieldsUsed(t)
	for _, r := range table(t) {
		if r.key != "" {
			text := sample(t, r.key)
			c, err := parse(t, `{"`+r.key+`": `+text+`}`)
			judge(t, r, "key "+r.key+" = "+text, r.key, c, err)
			field := fieldOf(r.key)
			if r.key == "storage-driver" || r.key == "host-gateway-ip" { // one meaning only; another key's old name
				continue
			}
			if (r.verdict == "works" || r.verdict == "ours") && !used[field] {
				t.Errorf("key %s: nothing reads Config.%s", r.key, field)
			}
		}
		if _, ok := flagSamples[r.flag]; r.flag == "" || r.key == "" && !ok {
			continue
		}
		value, ok := flagSamples[r.flag]
		if !ok {
			value = flagValue(t, sample(t, r.key))
		}
		c, err := parse(t, "", "--"+r.flag+"="+value)
		judge(t, r, "flag --"+r.flag+"="+value, r.flag, c, err)
	}
}

func judge(t *testing.T, r row, what, name string, c *Config, err error) {
	t.Helper()
	if r.verdict == "refused" {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v; the table says that it is refused", what, err)
		}
		return
	}
	if err != nil {
		t.Errorf("%s: %v; the table says %q", what, err, r.verdict)
		return
	}
	if _, idle := c.WithoutEffect()[r.key]; idle != (r.verdict == "no effect") {
		t.Errorf("%s: told of as without effect: %v; the table says %q", what, idle, r.verdict)
	}
}

// flagValue writes a value of daemon.json as on the command line.
func flagValue(t *testing.T, text string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	if list, ok := v.([]any); ok {
		v = list[0]
	}
	if s, ok := v.(string); ok {
		return s
	}
	return text
}

func fieldOf(key string) string {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		if f.Tag.Get("json") == key {
			return f.Name
		}
	}
	return ""
}

// fieldsUsed are the names that something reads: selected, and not only to take a flag's or default's address.
func fieldsUsed(t *testing.T) map[string]bool {
	t.Helper()
	used := map[string]bool{}
	for _, dir := range []string{".", "../engineboot", "../../../cmd/longshore"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if f, ok := n.(*ast.FuncDecl); ok && (strings.HasPrefix(f.Name.Name, "validate") || strings.HasPrefix(f.Name.Name, "settleDefault")) {
					return false // looking at a value is not acting upon it
				}
				if u, ok := n.(*ast.UnaryExpr); ok && u.Op == token.AND {
					if _, field := u.X.(*ast.SelectorExpr); field {
						return false
					}
				}
				if s, ok := n.(*ast.SelectorExpr); ok {
					used[s.Sel.Name] = true
				}
				return true
			})
		}
	}
	return used
}

// TestExample: a whole daemon.json as people copy it, with empty values, is that of an empty file.
func TestExample(t *testing.T) {
	c, err := parse(t, `{"authorization-plugins": [], "bip": "", "bridge": "", "api-cors-header": "", "cluster-store-opts": {}, "data-root": "",
		"debug": false, "default-address-pools": [], "default-cgroupns-mode": "", "default-runtime": "", "default-shm-size": 0, "dns": [], "exec-opts": [],
		"exec-root": "", "experimental": false, "features": {}, "group": "", "hosts": [], "init": false, "insecure-registries": [], "ip": "",
		"labels": [], "log-driver": "", "log-format": "", "log-level": "", "log-opts": {}, "max-concurrent-downloads": 0, "max-concurrent-uploads": 0,
		"mtu": 0, "network-diagnostic-port": 0, "node-generic-resources": [], "nri-opts": {"enable": false}, "pidfile": "", "raw-logs": false,
		"registry-mirrors": [], "rootless": false, "runtimes": {}, "seccomp-profile": "", "selinux-enabled": false, "storage-driver": "",
		"storage-opts": [], "swarm-default-advertise-addr": "", "userns-remap": "", "default-ipc-mode": "", "host-gateway-ip": ""}`)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	if c.MTU != want.MTU || c.DataRoot != want.DataRoot || c.LogLevel != want.LogLevel || c.MaxDownloads != want.MaxDownloads || c.Hosts[0] != DefaultHost || c.DefaultShmSize != want.DefaultShmSize {
		t.Errorf("%+v", c)
	}
	if idle := c.WithoutEffect(); len(idle) > 0 {
		t.Errorf("without effect: %v", idle)
	}
}
