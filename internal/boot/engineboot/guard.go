package engineboot

import (
	"context"
	"path/filepath"

	"longshore/internal/core/volume"
	"longshore/internal/driver/auditlog"
	"longshore/internal/driver/grantfile"
	"longshore/internal/server/engineapi/guard"
	"longshore/internal/service/engine/containers"
	"longshore/internal/service/engine/images"
)

// Tokens is the place of the tokens below a data root.
func Tokens(dataRoot string) string { return filepath.Join(dataRoot, "tokens") }

// AuditLog is the file that tells what callers with tokens did.
func AuditLog(dataRoot string) string { return filepath.Join(dataRoot, "audit.log") }

// makeGuard holds callers with tokens to what these grant.
func (e *engine) makeGuard(down *closers) (*guard.Guard, error) {
	log, err := auditlog.Open(AuditLog(e.cfg.DataRoot))
	if err != nil {
		return nil, err
	}
	down.add(log.Close)
	return guard.New(grantfile.New(Tokens(e.cfg.DataRoot)), objects{e}, log, e.cfg.RequireToken, e.log), nil
}

// objects looks the engine's objects up for the guard.
type objects struct{ e *engine }

func (o objects) Container(ctx context.Context, ref string) (string, map[string]string, error) {
	c, err := o.e.containers.Inspect(ctx, ref, containers.InspectOptions{})
	if err != nil {
		return "", nil, err
	}
	return c.ID, c.Config.Labels, nil
}

func (o objects) Network(ctx context.Context, ref string) (string, map[string]string, error) {
	n, err := o.e.networks.Inspect(ctx, ref, "")
	return n.ID, n.Labels, err
}

func (o objects) Volume(ctx context.Context, name string) (map[string]string, error) {
	v, err := o.e.volumes.Inspect(ctx, name)
	return v.Labels, err
}

func (o objects) MakeVolume(ctx context.Context, name string, labels map[string]string) error {
	_, err := o.e.volumes.Create(ctx, volume.CreateOptions{Name: name, Labels: labels})
	return err
}

func (o objects) Image(ctx context.Context, ref string) (map[string]string, error) {
	i, err := o.e.images.Inspect(ctx, ref, images.InspectOptions{})
	if err != nil || i.Config == nil {
		return nil, err
	}
	return i.Config.Labels, nil
}

func (o objects) ExecContainer(id string) (string, error) {
	x, err := o.e.containers.ExecInspect(id)
	if err != nil {
		return "", err
	}
	return x.ContainerID, nil
}

func (o objects) Resolve(path string) (string, error) { return filepath.EvalSymlinks(path) }
