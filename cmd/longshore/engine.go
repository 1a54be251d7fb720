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
			return engineboot.Run(cmd.Context(), cfg, build(), logger(cfg), nil)
		},
	}
	cfg.AddFlags(c.Flags())
	return c
}

func build() engineboot.Build {
	return engineboot.Build{Version: version, Commit: commit, Time: built}
}

func logger(cfg *engineconfig.Config) *slog.Logger {
	level := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn}
	opts := &slog.HandlerOptions{Level: slog.LevelError}
	if l, ok := level[cfg.LogLevel]; ok {
		opts.Level = l
	}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts))
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
