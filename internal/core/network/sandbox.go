// Package network is the contract between containers and networks, and the pure parts of networking (IPAM).
package network

import (
	"context"

	"github.com/moby/moby/api/types/network"
)

// Sandbox is a container's network namespace with its endpoints, ready to be joined by the OCI runtime.
type Sandbox struct {
	// NetNS is the path to join; empty for host mode. UserNS is the path of the user namespace that it belongs to; empty
	// when that is the host's.
	NetNS, UserNS string
	// Hosts and Resolv are the contents of /etc/hosts and /etc/resolv.conf.
	Hosts, Resolv []byte
	// Endpoints are docker's settings per network name, filled in with addresses, gateway, MAC, IDs and DNS names.
	Endpoints map[string]*network.EndpointSettings
	// Ports are the published ports as they really are (ephemeral ports chosen).
	Ports network.PortMap
	// SandboxID and SandboxKey as inspect shows them.
	SandboxID, SandboxKey string
}

// UserNSHost in Request.UserNS stands for the host's user namespace (--userns=host).
const UserNSHost = "host"

// Request asks for a sandbox.
type Request struct {
	ContainerID string
	Name        string // container name without slash
	Hostname    string
	Domainname  string
	// Mode is HostConfig.NetworkMode: bridge/default, host, none or a network's name or ID. "container:" is resolved
	// by the caller, which joins the other container's namespace and asks for no sandbox.
	Mode string
	// Endpoints asked for, by network name or ID, in docker's terms.
	Endpoints map[string]*network.EndpointSettings
	// Exposed and Bindings decide what is published; PublishAll publishes every exposed port.
	Exposed    network.PortSet
	Bindings   network.PortMap
	PublishAll bool
	// ExtraHosts are "name:ip" or "name:host-gateway"; Links are "container:alias" of the default bridge.
	ExtraHosts, Links          []string
	DNS, DNSSearch, DNSOptions []string
	// UserNS says whom the namespace shall belong to where containers have user namespaces: one of its own when empty,
	// UserNSHost, or the user namespace at a path.
	UserNS string
	// NoIPv6 says that the container switches IPv6 off for all of its interfaces.
	NoIPv6 bool `json:",omitempty"`
	// MacAddress for the first endpoint when it names none.
	MacAddress string
}

// Sandboxes is what containers need of networking. Implemented by service/engine/networks.
type Sandboxes interface {
	// Validate checks a request at create time: addresses fit, ports parse. Networks
	// that do not exist are no error yet (docker's way): Open tells. Nothing is kept.
	Validate(ctx context.Context, r Request) error
	// Open makes (or takes from the pool) the namespace, its endpoints, DNS names and published ports.
	Open(ctx context.Context, r Request) (Sandbox, error)
	// Close releases names, addresses and ports at once and the kernel objects soon after. Idempotent.
	Close(ctx context.Context, containerID string) error
	// Connect and Disconnect change a live sandbox and answer it as it is then. The caller writes Hosts and Resolv over
	// the container's files when they differ from what it wrote last.
	Connect(ctx context.Context, containerID, net string, e *network.EndpointSettings) (Sandbox, error)
	Disconnect(ctx context.Context, containerID, net string, force bool) (Sandbox, error)
	// Restore adopts the sandboxes of containers that still run (by ID) and sweeps all others.
	Restore(ctx context.Context, running []string) error
	// Rename tells DNS and the firewall that a container has a new name or other links, and answers its sandbox as it is
	// then, with the present addresses of those that it links to; an empty one for a container that does not run.
	Rename(ctx context.Context, containerID, name string, links []string) (Sandbox, error)
}
