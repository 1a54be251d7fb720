package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"longshore/internal/boot/engineboot"
	"longshore/internal/boot/engineconfig"
)

func checkCommand() *cobra.Command {
	cfg := engineconfig.Default()
	c := &cobra.Command{
		Use:   "check",
		Short: "Check whether this host can run containers, and say what to do if not",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Complete(cmd.Flags()); err != nil {
				return err
			}
			return report(cmd.Context(), cmd.OutOrStdout(), cfg)
		},
	}
	cfg.AddFlags(c.Flags())
	c.AddCommand(checkPortCommand())
	return c
}

func report(ctx context.Context, w io.Writer, cfg *engineconfig.Config) error {
	fmt.Fprintf(w, "longshore %s\n", version)
	return engineboot.Check(ctx, w, cfg)
}
