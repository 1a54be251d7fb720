package ctdstore

import (
	"context"
	"fmt"
	"sync"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	digest "github.com/opencontainers/go-digest"
)

// chainLabel on a committed snapshot is the chain ID that it stands for although it has another name: what a build made
// becomes an image's unpacked layers without being copied or unpacked.
const chainLabel = "longshore.adopted-chain"

// Adopt makes the committed snapshot of that name, and those below it, the unpacked form of the layers with those chain
// IDs, the lowest first, and config, the image's configuration, keep them. What is unpacked already stays as it is, but
// config keeps it too.
func (s *Store) Adopt(ctx context.Context, config digest.Digest, chains []digest.Digest, snapshot string) error {
	stack := []string{snapshot}
	for len(stack) <= len(chains) {
		info, err := s.snaps.Stat(ctx, stack[len(stack)-1])
		if err != nil {
			return fmt.Errorf("adopt snapshot %s: %w", snapshot, err)
		}
		if info.Parent == "" {
			break
		}
		stack = append(stack, info.Parent)
	}
	if len(stack) != len(chains) { // snapshots that are no layers of their own: only the whole is known
		stack = stack[:1]
	}
	for i, name := range stack {
		if err := s.adopt(ctx, chains[len(chains)-1-i], name); err != nil {
			return err
		}
	}
	return s.tie(ctx, config, chains[len(chains)-1])
}

func (s *Store) adopt(ctx context.Context, chain digest.Digest, snapshot string) error {
	if s.Unpacked(ctx, chain) || snapshot == chain.String() {
		return nil
	}
	info := snapshots.Info{Name: snapshot, Labels: map[string]string{chainLabel: chain.String()}}
	if _, err := s.snaps.Update(ctx, info, "labels."+chainLabel); err != nil {
		return fmt.Errorf("adopt snapshot %s: %w", snapshot, err)
	}
	s.aliases.names.Store(chain.String(), snapshot)
	return nil
}

// SnapshotName is the snapshot that stands for a name: another one's for a chain ID that was adopted, else the name.
func (s *Store) SnapshotName(ctx context.Context, name string) string { return s.aliases.of(ctx, name) }

// aliases are the chain IDs that are unpacked under other names.
type aliases struct {
	inner snapshots.Snapshotter // the metadata database's
	names sync.Map              // chain ID to snapshot, both strings
}

// of gives the name of the snapshot that stands for a chain ID; any other name is its own.
func (a *aliases) of(ctx context.Context, name string) string {
	v, ok := a.names.Load(name)
	if !ok {
		return name
	}
	real, ok := v.(string)
	if !ok {
		return name
	}
	if _, err := a.inner.Stat(inNamespace(ctx), real); errdefs.IsNotFound(err) { // collected with its last image
		a.names.Delete(name)
		return name
	}
	return real
}

// loadAdopted reads at start which chains are unpacked under other names.
func (s *Store) loadAdopted(ctx context.Context) error {
	err := s.snaps.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		s.aliases.names.Store(info.Labels[chainLabel], info.Name)
		return nil
	}, `labels."`+chainLabel+`"`)
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("read adopted snapshots: %w", err)
	}
	return nil
}
