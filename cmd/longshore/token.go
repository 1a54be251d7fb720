package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"longshore/internal/boot/engineboot"
	"longshore/internal/boot/engineconfig"
	"longshore/internal/core/grant"
	"longshore/internal/driver/auditlog"
	"longshore/internal/driver/grantfile"
)

// tokenCommand manages the tokens that callers of the engine API may show. A running engine sees changes at once.
func tokenCommand() *cobra.Command {
	root := engineconfig.DefaultDataRoot
	c := &cobra.Command{Use: "token", Short: "Manage tokens for the engine API: what their callers may do", Args: cobra.NoArgs}
	c.PersistentFlags().StringVar(&root, "data-root", root, "The engine's data root")
	store := func() *grantfile.Store { return grantfile.New(engineboot.Tokens(root)) }
	c.AddCommand(addTokenCommand(store), &cobra.Command{
		Use: "list", Short: "List the tokens", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return listTokens(cmd, store()) },
	}, &cobra.Command{
		Use: "remove NAME", Short: "Remove a token; its next request is refused", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return store().Remove(args[0]) },
	}, &cobra.Command{
		Use: "audit", Short: "Check that no line of the audit log was changed or taken out", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := os.Open(engineboot.AuditLog(root))
			if err != nil {
				return err
			}
			defer f.Close()
			line, err := auditlog.Verify(f)
			if err != nil {
				return err
			}
			if line > 0 {
				return fmt.Errorf("%s: line %d does not follow from the line before", f.Name(), line)
			}
			fmt.Fprintln(cmd.OutOrStdout(), "ok")
			return nil
		},
	})
	return c
}

func addTokenCommand(store func() *grantfile.Store) *cobra.Command {
	var g grant.Grant
	var labels []string
	var life time.Duration
	c := &cobra.Command{
		Use:   "add NAME",
		Short: "Make a token and print it; it cannot be shown again",
		Example: `  longshore token add ci --allow 'containers/*' --allow 'images/*' --allow 'exec/*' --label team=ci --bind /srv/ci --redact-env
  docker CLI: {"HttpHeaders": {"Authorization": "Bearer <token>"}} in config.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			g.Name = args[0]
			for _, l := range labels {
				k, v, ok := strings.Cut(l, "=")
				if !ok {
					return fmt.Errorf("--label %s: want key=value", l)
				}
				if g.Labels == nil {
					g.Labels = map[string]string{}
				}
				g.Labels[k] = v
			}
			if life > 0 {
				g.Expires = time.Now().UTC().Add(life)
			}
			token, err := store().Add(g)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), token)
			}
			return err
		},
	}
	f := c.Flags()
	f.StringArrayVar(&g.Operations, "allow", nil, `Operations: kind/action with *, or "**" for all (containers/list, images/*)`)
	f.StringArrayVar(&labels, "label", nil, "Label namespace: only objects with key=value are seen, and what is made gets it")
	f.StringArrayVar(&g.Binds, "bind", nil, "Directory of the host that may be mounted")
	f.BoolVar(&g.Privileged, "privileged", false, "Allow what reaches out of a container: devices, capabilities, host namespaces")
	f.BoolVar(&g.RedactEnv, "redact-env", false, "Hide the values of environment variables in inspect")
	f.DurationVar(&life, "expires", 0, "How long the token is good for (default: without end)")
	return c
}

func listTokens(cmd *cobra.Command, s *grantfile.Store) error {
	all, err := s.List()
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b grant.Grant) int { return strings.Compare(a.Name, b.Name) })
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tID\tOPERATIONS\tLABELS\tBINDS\tEXPIRES")
	for _, g := range all {
		labels, err := json.Marshal(g.Labels)
		if err != nil {
			return err
		}
		expires := "never"
		if !g.Expires.IsZero() {
			expires = g.Expires.Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", g.Name, g.ID, strings.Join(g.Operations, ","), labels, strings.Join(g.Binds, ","), expires)
	}
	return w.Flush()
}
