package main

import (
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"longshore/internal/base/leanprocess"
	"longshore/internal/boot/registryboot"
	"longshore/internal/service/hub"
	"longshore/internal/service/registry"
)

func registryCommand() *cobra.Command {
	c := &cobra.Command{Use: "registry", Short: "Serve and look after a registry (zot's configuration file)"}
	c.AddCommand(registryServe(), registryVerify(), registryGC(), registryImport(), userCommand(), clientCommand(), rotateKeyCommand(), describeCommand())
	return c
}

func describeCommand() *cobra.Command {
	var description string
	var stars int64
	var trusted bool
	c := &cobra.Command{
		Use:   "describe CONFIG REPOSITORY",
		Short: "Change what searches tell of a repository (CONFIG is a configuration file, or the folder of an embedded registry)",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var about hub.About
			if cmd.Flags().Changed("description") {
				about.Description = &description
			}
			if cmd.Flags().Changed("stars") {
				about.Stars = &stars
			}
			if cmd.Flags().Changed("trusted") {
				about.Trusted = &trusted
			}
			return registryboot.Describe(cmd.Context(), args[0], args[1], about)
		},
	}
	c.Flags().StringVar(&description, "description", "", "One line about the repository")
	c.Flags().Int64Var(&stars, "stars", 0, "How many like it")
	c.Flags().BoolVar(&trusted, "trusted", false, "It is built automatically")
	return c
}

func registryServe() *cobra.Command {
	return &cobra.Command{
		Use:   "serve CONFIG",
		Short: "Serve the registry that a configuration file (JSON or YAML) describes",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return registryboot.Serve(cmd.Context(), args[0], registryboot.Options{Version: version, ConfigPath: args[0],
				// Nothing depends on it.
				Listening: func(net.Addr) { _ = leanprocess.Trim() }})
		},
	}
}

func registryVerify() *cobra.Command {
	return &cobra.Command{
		Use:   "verify CONFIG",
		Short: "Check a configuration file without serving",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			warnings, err := registryboot.Verify(args[0])
			for _, w := range warnings {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
			}
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), "configuration OK")
			}
			return err
		},
	}
}

func registryGC() *cobra.Command {
	var o registry.GCOptions
	c := &cobra.Command{
		Use:   "gc CONFIG",
		Short: "Collect garbage once; a registry that runs does this by itself",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := registryboot.GC(cmd.Context(), args[0], o)
			for _, line := range r.Lines {
				fmt.Fprintln(cmd.OutOrStdout(), line)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d tags, %d manifests, %d blobs, %d uploads, %d repositories: %d bytes\n",
				r.Tags, r.Manifests, r.Blobs, r.Uploads, r.Repositories, r.Bytes)
			return err
		},
	}
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "Say what would be taken and why, and take nothing")
	return c
}

func registryImport() *cobra.Command {
	o := registry.ImportOptions{}
	var config string
	c := &cobra.Command{
		Use:   "import DIR",
		Short: "Take over the storage folder of a zot or distribution registry, by hard links where possible",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Dir = args[0]
			o.Progress = func(p registry.ImportProgress) {
				fmt.Fprintf(cmd.OutOrStdout(), "%d of %d repositories: %s\n", p.Done, p.Repositories, p.Repo)
			}
			p, err := registryboot.Import(cmd.Context(), config, o)
			for _, s := range p.Skipped {
				fmt.Fprintln(cmd.ErrOrStderr(), "skipped:", s)
			}
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%d repositories, %d manifests, %d tags, %d blobs, %d bytes\n", p.Repositories, p.Manifests, p.Tags, p.Blobs, p.Bytes)
			}
			return err
		},
	}
	c.Flags().StringVar(&config, "config", "", "Configuration file of the registry that takes the content over")
	c.Flags().BoolVar(&o.Verify, "verify", false, "Hash every blob instead of trusting its file name")
	if err := c.MarkFlagRequired("config"); err != nil {
		panic(err) // the flag was declared just above
	}
	return c
}
