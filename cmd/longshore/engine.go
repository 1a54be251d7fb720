package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"longshore/internal/boot/engineboot"
	"longshore/internal/boot/engineconfig"
	"longshore/internal/driver/portproxy"
	"longshore/internal/driver/resolver"
)

func engineCommand() *cobra.Command {
	cfg := engineconfig.Default()
	c := &cobra.Command{
		Use:     "engine",
		Aliases: []string{"daemon"},
		Short:   "Run the container engine (dockerd's flags and daemon.json)",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Complete(cmd.Flags()); err != nil {
				return err
			}
			if cfg.ValidateOnly {
				fmt.Fprintln(cmd.OutOrStdout(), "configuration OK")
				return nil
			}
			if os.Geteuid() != 0 {
				return fmt.Errorf("the engine needs root: run it with sudo, or let systemd start it")
			}
			if err := engineboot.UseProxies(cfg); err != nil {
				return err
			}
			log, level := logger(cfg)
			return engineboot.Run(cmd.Context(), cfg, build(level), log, nil)
		},
	}
	cfg.AddFlags(c.Flags())
	c.Version = fmt.Sprintf("%s (commit %s, %s)", version, commit, built)
	c.SetVersionTemplate("longshore {{.Version}}\n")
	return c
}

func build(level *slog.LevelVar) engineboot.Build {
	return engineboot.Build{Version: version, Commit: commit, Time: built, Level: level}
}

// logger makes the log as configured; its level can be changed.
func logger(cfg *engineconfig.Config) (*slog.Logger, *slog.LevelVar) {
	level := &slog.LevelVar{}
	level.Set(engineboot.Level(cfg.LogLevel))
	opts := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts)), level
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts)), level
}

// resolverCommand is the process that answers containers' DNS questions and carries ports that the kernel cannot; the engine starts it and it outlives the
// engine. Nobody runs it by hand.
func resolverCommand() *cobra.Command {
	return &cobra.Command{
		Use: "resolver", Hidden: true, Args: cobra.ArbitraryArgs,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return resolver.Run(context.WithoutCancel(cmd.Context()), portproxy.New())
		},
	}
}
