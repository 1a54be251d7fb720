package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"longshore/internal/boot/engineboot"
	"longshore/internal/boot/engineconfig"
	"longshore/internal/boot/registryboot"
)

// serveCommand runs engine and registry in one process. Without a registry configuration the registry keeps its content
// below the engine's data root, on the same file system, and listens on localhost:5000.
func serveCommand() *cobra.Command {
	cfg := engineconfig.Default()
	var registryConfig, port string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the engine and a registry in one process",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Complete(cmd.Flags()); err != nil {
				return err
			}
			if os.Geteuid() != 0 {
				return fmt.Errorf("the engine needs root: run it with sudo, or let systemd start it")
			}
			if err := engineboot.UseProxies(cfg); err != nil {
				return err
			}
			work, ctx := errgroup.WithContext(cmd.Context())
			log, level := logger(cfg)
			r, err := openRegistry(ctx, cfg, log, registryConfig, port)
			if err != nil {
				return fmt.Errorf("registry: %w", err)
			}
			work.Go(func() error { return r.Run(ctx) })
			work.Go(func() error { return engineboot.Run(ctx, cfg, build(level), log, r.Neighbour()) })
			return work.Wait()
		},
	}
	cfg.AddFlags(c.Flags())
	c.Flags().StringVar(&registryConfig, "registry-config", "", "zot's configuration file; without one an embedded registry is served")
	c.Flags().StringVar(&port, "registry-port", "5000", "Port of the embedded registry on localhost")
	return c
}

// openRegistry builds the registry; the caller runs it.
func openRegistry(ctx context.Context, cfg *engineconfig.Config, log *slog.Logger, path, port string) (*registryboot.Registry, error) {
	if path != "" {
		return registryboot.Load(ctx, path, registryboot.Options{Version: version, V1: true})
	}
	return registryboot.New(ctx, registryboot.Embedded(filepath.Join(cfg.DataRoot, "registry"), port),
		registryboot.Options{Version: version, V1: true, Logger: log.With("part", "registry")})
}
