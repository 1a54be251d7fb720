// Command longshore is the engine and the registry in one program.
//
//	longshore engine            the engine, with dockerd's flags and daemon.json
//	longshore registry serve    the registry, with zot's configuration file
//	longshore serve             both in one process
//	longshore check             can this host run containers, and if not, what to do
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"
)

// Stamped by the linker; see the Makefile.
var (
	version = "0.1.0-dev"
	commit  = "unknown"
	built   = "unknown"
)

func main() {
	// The first thread is /proc/self, and does not end: nothing that takes a thread to another namespace may get it. It
	// waits here; all work is done by others.
	runtime.LockOSThread()
	ended := make(chan error)
	go func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		ended <- root().ExecuteContext(ctx)
	}()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "longshore:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:           "longshore",
		Short:         "A container engine and an OCI registry in one program, for every Docker client since 2013",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.AddCommand(serveCommand(), engineCommand(), registryCommand(), checkCommand(), tokenCommand(), versionCommand(), resolverCommand())
	return c
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintf(cmd.OutOrStdout(), "longshore %s (commit %s, %s)\n", version, commit, built)
		},
	}
}
