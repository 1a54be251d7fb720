package ocispec

import (
	"maps"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"longshore/internal/core/fault"
	"longshore/internal/core/idmap"
)

// The sysctls of an ipc namespace that do not begin with "fs.mqueue.".
func ipcSysctl(name string) bool {
	switch name {
	case "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
		"kernel.shmmni", "kernel.shm_rmid_forced", "kernel.auto_msgmni":
		return true
	}
	return strings.HasPrefix(name, "fs.mqueue.")
}

// setSysctls writes docker's defaults for a network namespace of the container's own and the client's values over them.
func setSysctls(s *specs.Spec, in *Input) error {
	hc := in.HostConfig
	sysctls := make(map[string]string)
	if in.Config.Domainname != "" && !hc.UTSMode.IsHost() {
		sysctls["kernel.domainname"] = in.Config.Domainname
	}
	if hc.NetworkMode.IsPrivate() {
		sysctls["net.ipv4.ping_group_range"] = "0 2147483647"
		if in.IDs != nil { // the kernel takes groups that are mapped
			sysctls["net.ipv4.ping_group_range"] = "0 " + strconv.Itoa(idmap.Top(in.IDs.GIDs))
		}
		sysctls["net.ipv4.ip_unprivileged_port_start"] = "0"
	}
	for name := range hc.Sysctls {
		if err := checkSysctl(s, in, name); err != nil {
			return err
		}
	}
	maps.Copy(sysctls, hc.Sysctls)
	if len(sysctls) > 0 {
		s.Linux.Sysctl = sysctls
	}
	return nil
}

// checkSysctl refuses what would change the host, in the words of docker's runtime.
func checkSysctl(s *specs.Spec, in *Input, name string) error {
	dotted := strings.ReplaceAll(name, "/", ".")
	switch {
	case ipcSysctl(dotted):
		if namespaceOf(s, specs.IPCNamespace) == nil {
			return fault.Invalid("sysctl %q is not allowed in the hosts ipc namespace", name)
		}
	case strings.HasPrefix(dotted, "net."):
		if in.HostConfig.NetworkMode.IsHost() {
			return fault.Invalid("sysctl %q not allowed in host network namespace", name)
		}
	case dotted == "kernel.domainname":
		if in.HostConfig.UTSMode.IsHost() {
			return fault.Invalid("sysctl %q is not allowed in the hosts UTS namespace", name)
		}
	case dotted == "kernel.hostname":
		return fault.Invalid("sysctl %q is not allowed as it conflicts with the OCI %q field", name, "hostname")
	default:
		return fault.Invalid("sysctl %q is not in a separate kernel namespace", name)
	}
	return nil
}
