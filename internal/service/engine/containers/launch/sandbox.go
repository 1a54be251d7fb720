package launch

import (
	"context"
	"fmt"

	core "longshore/internal/core/container"
	"longshore/internal/core/network"
)

// SandboxRequest is what a container asks of the network.
func SandboxRequest(rec *core.Record) network.Request {
	cfg, hc := rec.Config, rec.HostConfig
	mode := string(hc.NetworkMode)
	if cfg.NetworkDisabled {
		mode = "none"
	}
	r := network.Request{
		ContainerID: rec.ID, Name: rec.Name, Hostname: cfg.Hostname, Domainname: cfg.Domainname, Mode: mode,
		Endpoints: rec.Networks, Exposed: cfg.ExposedPorts, Bindings: hc.PortBindings, PublishAll: hc.PublishAllPorts,
		ExtraHosts: hc.ExtraHosts, Links: hc.Links, DNSSearch: hc.DNSSearch, DNSOptions: hc.DNSOptions,
	}
	r.NoIPv6 = hc.Sysctls["net.ipv6.conf.all.disable_ipv6"] == "1"
	if hc.UsernsMode.IsHost() {
		r.UserNS = network.UserNSHost
	}
	for _, a := range hc.DNS {
		r.DNS = append(r.DNS, a.String())
	}
	return r
}

// sandbox opens the container's network, unless it joins another's, and writes the files that tell of it.
func (l *Launcher) sandbox(ctx context.Context, rec *core.Record, run *core.Run, j Joins) error {
	if rec.HostConfig.NetworkMode.IsContainer() {
		return nil
	}
	r := SandboxRequest(rec)
	if j.User != "" {
		r.UserNS = j.User // whose namespaces it joins
	}
	sb, err := l.Networks.Open(ctx, r)
	if err != nil {
		return fmt.Errorf("failed to set up container networking: %w", err)
	}
	Fill(run, sb)
	name := rec.Config.Hostname
	if rec.Config.Domainname != "" {
		name += "." + rec.Config.Domainname
	}
	if err := l.Disk.Write(rec.ID, "hostname", []byte(name+"\n")); err != nil {
		return err
	}
	return l.WriteNames(rec.ID, sb)
}

// Sandbox is what the networks made for a container.
type Sandbox = network.Sandbox

// WriteNames writes the hosts and resolv.conf files of a sandbox.
func (l *Launcher) WriteNames(id string, sb network.Sandbox) error {
	if err := l.Disk.Write(id, "hosts", sb.Hosts); err != nil {
		return err
	}
	return l.Disk.Write(id, "resolv.conf", sb.Resolv)
}

// Fill notes a sandbox in a run.
func Fill(run *core.Run, sb network.Sandbox) {
	run.NetNS, run.UserNS, run.SandboxID, run.SandboxKey = sb.NetNS, sb.UserNS, sb.SandboxID, sb.SandboxKey
	run.Endpoints, run.Ports = sb.Endpoints, sb.Ports
}

// SettleHostname gives a container docker's default host name; onHost is that of those who share the host's.
func SettleHostname(rec *core.Record, find Finder, onHost string) {
	cfg, hc := rec.Config, rec.HostConfig
	if hc.NetworkMode.IsContainer() {
		if other, err := find(hc.NetworkMode.ConnectedContainer()); err == nil {
			cfg.Hostname, cfg.Domainname = other.Config.Hostname, other.Config.Domainname
		}
	}
	if cfg.Hostname != "" {
		return
	}
	cfg.Hostname = rec.ID[:12]
	if hc.NetworkMode.IsHost() || hc.UTSMode.IsHost() {
		cfg.Hostname = onHost
	}
}
