package buildkit

import (
	"context"
	"fmt"

	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/solver/pb"
	bknet "github.com/moby/buildkit/util/network"
	"github.com/opencontainers/runtime-spec/specs-go"

	"longshore/internal/core/network"
)

// networkProviders are the modes that a step may ask for: the engine's default network, the host's, none.
func networkProviders(n Networks, s *steps) map[pb.NetMode]bknet.Provider {
	return map[pb.NetMode]bknet.Provider{
		pb.NetMode_UNSET: counted{engineNetwork{n}, s},
		pb.NetMode_HOST:  counted{bknet.NewHostProvider(), s},
		pb.NetMode_NONE:  counted{bknet.NewNoneProvider(), s},
	}
}

// engineNetwork gives each step a sandbox on the engine's default bridge.
type engineNetwork struct{ networks Networks }

// New implements BuildKit's network.Provider.
func (e engineNetwork) New(ctx context.Context, hostname string, _ bknet.NamespaceOptions) (bknet.Namespace, error) {
	id := "build-" + identity.NewID()
	box, err := e.networks.Open(ctx, network.Request{ContainerID: id, Name: id, Hostname: hostname, Mode: "bridge"})
	if err != nil {
		return nil, fmt.Errorf("open the step's network: %w", err)
	}
	return &sandbox{engineNetwork: e, id: id, path: box.NetNS}, nil
}

// Close implements BuildKit's network.Provider; sandboxes are closed by their users.
func (engineNetwork) Close() error { return nil }

// sandbox is one step's network.
type sandbox struct {
	engineNetwork
	id, path string
}

// Set joins the step's process to the network.
func (s *sandbox) Set(spec *specs.Spec) error {
	for i, ns := range spec.Linux.Namespaces {
		if ns.Type == specs.NetworkNamespace {
			spec.Linux.Namespaces[i].Path = s.path
			return nil
		}
	}
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: s.path})
	return nil
}

// Close gives the network back.
func (s *sandbox) Close() error { return s.networks.Close(context.Background(), s.id) }

// Sample has no figures.
func (s *sandbox) Sample() (*resourcestypes.NetworkSample, error) { return nil, nil }
