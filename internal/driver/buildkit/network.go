package buildkit

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/executor"
	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/solver/pb"
	bknet "github.com/moby/buildkit/util/network"
	"github.com/opencontainers/runtime-spec/specs-go"

	"longshore/internal/core/network"
	"longshore/internal/driver/buildkit/remap"
)

// networkMark ends the name of an extra host that is none: what stands before it names the network of a build's steps.
// BuildKit's own modes are three, and an extra host is what reaches the executor unchanged.
const networkMark = ".network.longshore.invalid"

// markNetwork gives the extra host that asks for a network.
func markNetwork(name string) string {
	return hex.EncodeToString([]byte(name)) + networkMark + "=0.0.0.0"
}

type networkKey struct{}

// withNetwork takes the mark out of a step's extra hosts and into the context, where the provider finds it.
func withNetwork(ctx context.Context, hosts []executor.HostIP) (context.Context, []executor.HostIP) {
	out := make([]executor.HostIP, 0, len(hosts))
	for _, h := range hosts {
		name, ok := strings.CutSuffix(h.Host, networkMark)
		if !ok {
			out = append(out, h)
			continue
		}
		if text, err := hex.DecodeString(name); err == nil {
			ctx = context.WithValue(ctx, networkKey{}, string(text))
		}
	}
	return ctx, out
}

// networkProviders are the modes that a step may ask for: a network of the engine's, the host's, none.
func networkProviders(deps Deps, s *steps, dir string) map[pb.NetMode]bknet.Provider {
	host := bknet.NewHostProvider()
	if deps.Remap != nil {
		host = remap.HostNetwork{Provider: host}
	}
	return map[pb.NetMode]bknet.Provider{
		pb.NetMode_UNSET: counted{engineNetwork{deps.Networks, dir, deps.Remap}, s},
		pb.NetMode_HOST:  counted{host, s},
		pb.NetMode_NONE:  counted{bknet.NewNoneProvider(), s},
	}
}

// engineNetwork gives each step a sandbox on a network of the engine, the default bridge unless another was asked for.
type engineNetwork struct {
	networks Networks
	dir      string      // where steps' files lie
	remap    remap.Remap // nil: steps' root is the host's
}

// New implements BuildKit's network.Provider.
func (e engineNetwork) New(ctx context.Context, hostname string, _ bknet.NamespaceOptions) (bknet.Namespace, error) {
	mode := "bridge"
	if name, ok := ctx.Value(networkKey{}).(string); ok {
		mode = name
	}
	id := "build-" + identity.NewID()
	box, err := e.networks.Open(ctx, network.Request{ContainerID: id, Name: id, Hostname: hostname, Mode: mode})
	if err != nil {
		return nil, fmt.Errorf("open the step's network: %w", err)
	}
	s := &sandbox{engineNetwork: e, id: id, path: box.NetNS, user: box.UserNS}
	if len(box.Resolv) > 0 {
		s.resolv = filepath.Join(e.dir, id+".resolv.conf")
		err := os.WriteFile(s.resolv, box.Resolv, 0o644)
		if err == nil && e.remap != nil {
			uid, gid := e.remap.IDs().Root()
			err = os.Chown(s.resolv, uid, gid)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("write the step's resolv.conf: %w", err), s.Close())
		}
	}
	return s, nil
}

// Close implements BuildKit's network.Provider; sandboxes are closed by their users.
func (engineNetwork) Close() error { return nil }

// sandbox is one step's network.
type sandbox struct {
	engineNetwork
	id, path string
	user     string // the user namespace that the network belongs to; empty: the host's
	resolv   string // the file that becomes /etc/resolv.conf; empty: the executor's
}

// Set joins the step's process to the network and gives it the network's resolver.
func (s *sandbox) Set(spec *specs.Spec) error {
	for i, m := range spec.Mounts {
		if m.Destination == "/etc/resolv.conf" && s.resolv != "" {
			spec.Mounts[i].Source = s.resolv
		}
	}
	for i, ns := range spec.Linux.Namespaces {
		if ns.Type == specs.UserNamespace {
			spec.Linux.Namespaces[i].Path = s.user
		}
	}
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
func (s *sandbox) Close() error {
	err := s.networks.Close(context.Background(), s.id)
	if s.resolv != "" {
		err = errors.Join(err, os.Remove(s.resolv))
	}
	return err
}

// Sample has no figures.
func (s *sandbox) Sample() (*resourcestypes.NetworkSample, error) { return nil, nil }
