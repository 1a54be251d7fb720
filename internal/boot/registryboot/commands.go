package registryboot

import (
	"context"
	"errors"

	"longshore/internal/boot/registryconfig"
	"longshore/internal/service/auth"
	"longshore/internal/service/registry"
)

// Verify reads a configuration and says what is wrong with it, or what is worth a remark.
func Verify(configPath string) (warnings []string, err error) {
	cfg, problems, err := registryconfig.Load(configPath)
	if err != nil {
		return nil, err
	}
	for _, p := range problems {
		warnings = append(warnings, p.String())
	}
	_, err = auth.NewPolicy(accessControl(cfg.HTTP.AccessControl))
	return warnings, err
}

// GC collects garbage once. It needs the storage for itself, unless it is a dry run or the index is shared: a registry
// that runs collects by itself.
func GC(ctx context.Context, configPath string, o registry.GCOptions) (report registry.GCReport, err error) {
	how := exclusively
	if o.DryRun {
		how = reading
	}
	err = with(ctx, configPath, how, func(s *registry.Service) error {
		report, err = s.CollectGarbage(ctx, o)
		return err
	})
	return report, err
}

// Import takes over the folder of a zot or a distribution registry.
func Import(ctx context.Context, configPath string, o registry.ImportOptions) (p registry.ImportProgress, err error) {
	err = with(ctx, configPath, exclusively, func(s *registry.Service) error {
		p, err = s.Import(ctx, o)
		return err
	})
	return p, err
}

// with runs a function on the service of a configuration.
func with(ctx context.Context, configPath string, how use, f func(*registry.Service) error) (err error) {
	cfg, _, err := registryconfig.Load(configPath)
	if err != nil {
		return err
	}
	s, err := openShelves(ctx, cfg.Storage, how)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	r := &Registry{cfg: cfg, shelves: s, log: discard()}
	service, err := registry.New(s.index, s.blobs, r.serviceConfig())
	if err != nil {
		return err
	}
	return f(service)
}
