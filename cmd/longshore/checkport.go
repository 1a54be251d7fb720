package main

import (
	"github.com/spf13/cobra"

	"longshore/internal/boot/engineboot"
	"longshore/internal/boot/engineconfig"
	"longshore/internal/driver/portcheck"
)

func checkPortCommand() *cobra.Command {
	cfg := engineconfig.Default()
	c := &cobra.Command{
		Use:   "port PORT[/PROTOCOL]",
		Short: "Say who can connect to a port of this host, and why",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := cfg.Complete(cmd.Flags()); err != nil {
				return err
			}
			p, err := portcheck.Parse(args[0])
			if err != nil {
				return err
			}
			return engineboot.CheckPort(cmd.Context(), cmd.OutOrStdout(), cfg, p)
		},
	}
	cfg.AddFlags(c.Flags())
	return c
}
