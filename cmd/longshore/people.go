package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/moby/term"
	"github.com/spf13/cobra"

	"longshore/internal/boot/registryboot"
	"longshore/internal/core/account"
	"longshore/internal/service/auth/accounts"
	"longshore/internal/service/auth/oauth"
)

// onPeople runs a command on the accounts that its first argument names.
func onPeople(f func(cmd *cobra.Command, p *registryboot.People, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		return registryboot.Administer(cmd.Context(), args[0], func(p *registryboot.People) error { return f(cmd, p, args[1:]) })
	}
}

func userCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "user",
		Short: "Look after accounts (CONFIG is a configuration file, or the folder of an embedded registry)",
	}
	c.AddCommand(userAdd(), userPasswd(), userList(), userSet(), userVerify(), userRevoke(), userRemove())
	return c
}

func userAdd() *cobra.Command {
	var email, fullName string
	var admin bool
	c := &cobra.Command{
		Use:   "add CONFIG NAME",
		Short: "Make an account; the password is read from the terminal, or the first line of standard input",
		Args:  cobra.ExactArgs(2),
		RunE: onPeople(func(cmd *cobra.Command, p *registryboot.People, args []string) error {
			password, err := readPassword(cmd)
			if err != nil {
				return err
			}
			u, err := p.Accounts.Add(cmd.Context(), accounts.Registration{Name: args[0], Password: password, Email: email},
				account.User{Admin: admin, Profile: account.Profile{FullName: fullName}})
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "user %s has the ID %d\n", u.Name, u.ID)
			}
			return err
		}),
	}
	c.Flags().StringVar(&email, "email", "", "E-mail address")
	c.Flags().StringVar(&fullName, "full-name", "", "Full name")
	c.Flags().BoolVar(&admin, "admin", false, "An administrator: as if adminPolicy named the account")
	must(c.MarkFlagRequired("email"))
	return c
}

// must is for mistakes in the declaration of a command.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func userPasswd() *cobra.Command {
	return &cobra.Command{
		Use:   "passwd CONFIG NAME",
		Short: "Change a password; sessions, API keys and tokens of the account end",
		Args:  cobra.ExactArgs(2),
		RunE: onPeople(func(cmd *cobra.Command, p *registryboot.People, args []string) error {
			password, err := readPassword(cmd)
			if err != nil {
				return err
			}
			return p.Accounts.SetPassword(cmd.Context(), args[0], password)
		}),
	}
}

// readPassword asks twice on a terminal, and takes a line elsewhere.
func readPassword(cmd *cobra.Command) (string, error) {
	in := bufio.NewReader(cmd.InOrStdin())
	file, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(file.Fd()) {
		return line(in)
	}
	state, err := term.SaveState(file.Fd())
	if err != nil {
		return "", err
	}
	if err := term.DisableEcho(file.Fd(), state); err != nil {
		return "", err
	}
	defer term.RestoreTerminal(file.Fd(), state) //nolint:errcheck // the terminal has gone
	var answers [2]string
	for i, prompt := range []string{"Password: ", "Password again: "} {
		fmt.Fprint(cmd.ErrOrStderr(), prompt)
		answers[i], err = line(in)
		fmt.Fprintln(cmd.ErrOrStderr())
		if err != nil {
			return "", err
		}
	}
	if answers[0] != answers[1] {
		return "", errors.New("the passwords differ")
	}
	return answers[0], nil
}

func line(in *bufio.Reader) (string, error) {
	text, err := in.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimRight(text, "\r\n"), nil
}

func userList() *cobra.Command {
	return &cobra.Command{
		Use:   "list CONFIG",
		Short: "List accounts",
		Args:  cobra.ExactArgs(1),
		RunE: onPeople(func(cmd *cobra.Command, p *registryboot.People, _ []string) error {
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 3, ' ', 0)
			fmt.Fprintln(w, "ID\tNAME\tEMAIL\tJOINED\tACTIVE\tADMIN\tFULL NAME")
			const page = 500
			for after := ""; ; {
				list, err := p.Accounts.List(cmd.Context(), after, page)
				if err != nil {
					return err
				}
				for _, u := range list {
					_, email, err := p.Accounts.User(cmd.Context(), u.Name)
					if err != nil {
						return err
					}
					fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%t\t%t\t%s\n", u.ID, u.Name, email.Address, u.Joined.Format("2006-01-02"), u.Active, u.Admin, u.FullName)
				}
				if len(list) < page {
					return w.Flush()
				}
				after = list[len(list)-1].Name
			}
		}),
	}
}

func userSet() *cobra.Command {
	var active, admin bool
	c := &cobra.Command{
		Use:   "set CONFIG NAME [--active=BOOL] [--admin=BOOL]",
		Short: "Switch an account on or off, or make it an administrator's",
		Args:  cobra.ExactArgs(2),
		RunE: onPeople(func(cmd *cobra.Command, p *registryboot.People, args []string) error {
			if cmd.Flags().Changed("active") {
				if err := p.Accounts.SetActive(cmd.Context(), args[0], active); err != nil {
					return err
				}
			}
			if cmd.Flags().Changed("admin") {
				return p.Accounts.SetAdmin(cmd.Context(), args[0], admin)
			}
			return nil
		}),
	}
	c.Flags().BoolVar(&active, "active", true, "Whether the account may log in; what it has logged in with ends when not")
	c.Flags().BoolVar(&admin, "admin", false, "Whether it is an administrator's")
	return c
}

func userVerify() *cobra.Command {
	return &cobra.Command{
		Use:   "verify CONFIG NAME EMAIL",
		Short: "Mark an e-mail address as verified",
		Args:  cobra.ExactArgs(3),
		RunE: onPeople(func(cmd *cobra.Command, p *registryboot.People, args []string) error {
			_, err := p.Accounts.ChangeEmail(cmd.Context(), args[0], args[1], accounts.EmailChange{Verify: true})
			return err
		}),
	}
}

func userRevoke() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke CONFIG NAME",
		Short: "End sessions, API keys and tokens of a user, of the password file too",
		Args:  cobra.ExactArgs(2),
		RunE: onPeople(func(cmd *cobra.Command, p *registryboot.People, args []string) error {
			return p.Accounts.Revoke(cmd.Context(), args[0])
		}),
	}
}

func userRemove() *cobra.Command {
	return &cobra.Command{
		Use:     "remove CONFIG NAME",
		Aliases: []string{"rm"},
		Short:   "Delete an account",
		Args:    cobra.ExactArgs(2),
		RunE: onPeople(func(cmd *cobra.Command, p *registryboot.People, args []string) error {
			return p.Accounts.Remove(cmd.Context(), args[0])
		}),
	}
}

func clientCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "client",
		Short: "Look after OAuth2 applications (CONFIG as for user)",
	}
	c.AddCommand(clientAdd(), clientList(), clientRemove())
	return c
}

func clientAdd() *cobra.Command {
	var n oauth.NewClient
	c := &cobra.Command{
		Use:   "add CONFIG NAME --redirect-uri URI…",
		Short: "Register an application; its secret is told once",
		Args:  cobra.ExactArgs(2),
		RunE: onPeople(func(cmd *cobra.Command, p *registryboot.People, args []string) error {
			n.Name = args[0]
			client, secret, err := p.OAuth.AddClient(cmd.Context(), n)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "client_id: %s\n", client.ID)
			if secret != "" {
				fmt.Fprintf(cmd.OutOrStdout(), "client_secret: %s\n", secret)
			}
			return nil
		}),
	}
	c.Flags().StringArrayVar(&n.RedirectURIs, "redirect-uri", nil, "Where answers may be sent, exactly; the first one is the default")
	c.Flags().StringVar(&n.Description, "description", "", "What the application does, for the users who are asked")
	c.Flags().BoolVar(&n.Public, "public", false, "A program that can keep no secret: it gets none, and must use PKCE")
	must(c.MarkFlagRequired("redirect-uri"))
	return c
}

func clientList() *cobra.Command {
	return &cobra.Command{
		Use:   "list CONFIG",
		Short: "List applications",
		Args:  cobra.ExactArgs(1),
		RunE: onPeople(func(cmd *cobra.Command, p *registryboot.People, _ []string) error {
			list, err := p.OAuth.Clients(cmd.Context())
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 3, ' ', 0)
			fmt.Fprintln(w, "CLIENT ID\tNAME\tSECRET\tCREATED\tREDIRECT URIS")
			for _, c := range list {
				secret := "yes"
				if c.Public() {
					secret = "none"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", c.ID, c.Name, secret, c.Created.Format("2006-01-02"), strings.Join(c.RedirectURIs, " "))
			}
			return w.Flush()
		}),
	}
}

func clientRemove() *cobra.Command {
	return &cobra.Command{
		Use:     "remove CONFIG CLIENT-ID",
		Aliases: []string{"rm"},
		Short:   "Forget an application; all that users granted to it ends",
		Args:    cobra.ExactArgs(2),
		RunE: onPeople(func(cmd *cobra.Command, p *registryboot.People, args []string) error {
			return p.OAuth.RemoveClient(cmd.Context(), args[0])
		}),
	}
}

func rotateKeyCommand() *cobra.Command {
	var forget bool
	c := &cobra.Command{
		Use:   "rotate-key CONFIG",
		Short: "Make the token server sign with another key; it does so by itself now and then",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := registryboot.RotateKeys(args[0], forget)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), id)
			}
			return err
		},
	}
	c.Flags().BoolVar(&forget, "forget", false, "Believe no token of the keys before, as when one was stolen")
	return c
}
