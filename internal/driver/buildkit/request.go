package buildkit

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/entitlements"

	"longshore/internal/core/build"
	"longshore/internal/core/fault"
)

// solveRequest turns a request into BuildKit's, with the session that serves it.
func (b *Builder) solveRequest(r build.Request, sessionID string) (*controlapi.SolveRequest, error) {
	attrs, err := b.frontendAttrs(r)
	if err != nil {
		return nil, err
	}
	out := &controlapi.SolveRequest{
		Ref: r.ID, Session: sessionID, Frontend: "dockerfile.v0", FrontendAttrs: attrs,
		Cache: &controlapi.CacheOptions{},
	}
	for _, c := range r.Cache.From {
		out.Cache.Imports = append(out.Cache.Imports, &controlapi.CacheOptionsEntry{Type: c.Type, Attrs: c.Attrs})
	}
	for _, c := range r.Cache.To {
		out.Cache.Exports = append(out.Cache.Exports, &controlapi.CacheOptionsEntry{Type: c.Type, Attrs: c.Attrs})
	}
	if attrs["force-network-mode"] == "host" {
		out.Entitlements = append(out.Entitlements, string(entitlements.EntitlementNetworkHost))
	}
	out.Exporters, err = exporters(r)
	return out, err
}

func exporters(r build.Request) ([]*controlapi.Exporter, error) {
	var names []string
	for _, n := range r.Output.Names {
		ref, err := reference.ParseNormalizedNamed(n)
		if err != nil {
			return nil, fault.Invalid("%w", err)
		}
		if _, digested := ref.(reference.Digested); digested {
			return nil, fault.Invalid("build tag cannot contain a digest")
		}
		names = append(names, reference.TagNameOnly(ref).String())
	}
	if len(r.Output.Exporters) == 0 {
		attrs := map[string]string{"name": strings.Join(names, ",")}
		if r.Output.Squash {
			attrs[squashKey] = "true"
		}
		return []*controlapi.Exporter{{Type: exporterMoby, Attrs: attrs}}, nil
	}
	var out []*controlapi.Exporter
	for _, e := range r.Output.Exporters {
		if e.Type == cacheOnly {
			continue
		}
		attrs := map[string]string{}
		for k, v := range e.Attrs {
			attrs[k] = v
		}
		if imageLike(e.Type) && attrs["name"] == "" && len(names) > 0 {
			attrs["name"] = strings.Join(names, ",")
		}
		typ := e.Type
		if typ == "registry" {
			typ, attrs["push"] = client.ExporterImage, "true"
		}
		out = append(out, &controlapi.Exporter{Type: typ, Attrs: attrs})
	}
	return out, nil
}

// cacheOnly is buildx's name for no way out at all.
const cacheOnly = "cacheonly"

func imageLike(typ string) bool {
	switch typ {
	case exporterMoby, client.ExporterImage, client.ExporterDocker, client.ExporterOCI, "registry":
		return true
	}
	return false
}

// frontendAttrs are what the Dockerfile frontend reads.
func (b *Builder) frontendAttrs(r build.Request) (map[string]string, error) {
	a := map[string]string{"image-resolve-mode": "local"}
	if r.Cache.Pull {
		a["image-resolve-mode"] = "pull"
	}
	if r.Cache.None {
		a["no-cache"] = ""
	}
	set(a, "filename", r.Dockerfile)
	set(a, "target", r.Target)
	set(a, "platform", strings.Join(r.Platforms, ","))
	if r.Source.Remote != "" && r.Source.Remote != "client-session" {
		a["context"] = r.Source.Remote
	}
	for k, v := range r.Args {
		if v != nil {
			a["build-arg:"+k] = *v
		}
	}
	for k, v := range r.Labels {
		a["label:"+k] = v
	}
	if err := b.runAttrs(a, r.Run); err != nil {
		return nil, err
	}
	if err := cacheAttrs(a, r.Cache.From); err != nil {
		return nil, err
	}
	for k, v := range r.Attrs {
		a[k] = v
	}
	return a, nil
}

// cacheAttrs tell the frontend too where results may come from.
func cacheAttrs(a map[string]string, from []build.CacheSource) error {
	if len(from) == 0 {
		return nil
	}
	var entries []*controlapi.CacheOptionsEntry
	for _, c := range from {
		entries = append(entries, &controlapi.CacheOptionsEntry{Type: c.Type, Attrs: c.Attrs})
	}
	text, err := json.Marshal(entries)
	if err != nil {
		return fmt.Errorf("encode cache imports: %w", err)
	}
	a["cache-imports"] = string(text)
	return nil
}

func set(a map[string]string, key, value string) {
	if value != "" {
		a[key] = value
	}
}

func (b *Builder) runAttrs(a map[string]string, r build.Run) error {
	hosts, err := b.extraHosts(r.ExtraHosts)
	if err != nil {
		return err
	}
	switch {
	case r.Network == "", r.Network == "default", r.Network == "bridge":
	case r.Network == "host", r.Network == "none":
		a["force-network-mode"] = r.Network
	case strings.HasPrefix(r.Network, "container:"):
		return fault.Invalid("network mode %q not supported by buildkit", r.Network)
	default:
		hosts = append(hosts, markNetwork(r.Network))
	}
	text, err := fields(hosts)
	if err != nil {
		return err
	}
	set(a, "add-hosts", text)
	var limits []string
	for _, u := range r.Ulimits {
		limits = append(limits, u.String())
	}
	if text, err = fields(limits); err != nil {
		return err
	}
	set(a, "ulimit", text)
	set(a, "cgroup-parent", r.CgroupParent)
	set(a, "cpusetcpus", r.CPUSetCPUs)
	set(a, "cpusetmems", r.CPUSetMems)
	for key, n := range map[string]int64{
		"shm-size": r.ShmSize, "memory": r.Memory, "memswap": r.MemorySwap, "cpushares": r.CPUShares, "cpuperiod": r.CPUPeriod, "cpuquota": r.CPUQuota,
	} {
		if n != 0 {
			a[key] = strconv.FormatInt(n, 10)
		}
	}
	return nil
}

// extraHosts reads "name:address" and "name=address".
func (b *Builder) extraHosts(hosts []string) ([]string, error) {
	var out []string
	for _, h := range hosts {
		name, addr, ok := strings.Cut(h, ":")
		if i := strings.IndexByte(h, '='); i >= 0 && (!ok || i < len(name)) {
			name, addr, ok = h[:i], h[i+1:], true
		}
		if !ok || name == "" {
			return nil, fault.Invalid("bad format for add-host: %q", h)
		}
		if addr == "host-gateway" {
			if b.cfg.HostGateways == nil || len(b.cfg.HostGateways()) == 0 {
				return nil, fault.Invalid("unable to derive the IP value for host-gateway")
			}
			for _, a := range b.cfg.HostGateways() {
				out = append(out, name+"="+a.String())
			}
			continue
		}
		a, err := netip.ParseAddr(strings.Trim(addr, "[]"))
		if err != nil {
			return nil, fault.Invalid("invalid IP address in add-host: %q", addr)
		}
		out = append(out, name+"="+a.String())
	}
	return out, nil
}

// fields joins values as the frontend takes them apart: one line of comma-separated values.
func fields(values []string) (string, error) {
	if len(values) == 0 {
		return "", nil
	}
	var b strings.Builder
	w := csv.NewWriter(&b)
	if err := w.Write(values); err != nil {
		return "", err
	}
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n"), w.Error()
}
