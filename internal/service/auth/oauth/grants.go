package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/core/account"
	"longshore/internal/core/fault"
)

// Access is what an access token allows.
type Access struct {
	User   account.User
	Scopes []string
	Client string
}

// Has says whether the token has a scope.
func (a *Access) Has(scope string) bool { return slices.Contains(a.Scopes, scope) }

// ErrAccess is what Access answers for tokens that are not good, or not any more.
var ErrAccess = fault.New(errdefs.ErrUnauthenticated, "Invalid or expired access token")

// Access looks an access token up.
func (s *Service) Access(ctx context.Context, token string) (Access, error) {
	t, err := s.store.TokenByHash(ctx, account.Access, account.Hash(token))
	if errors.Is(err, errdefs.ErrNotFound) || err == nil && t.Expired(s.now()) {
		return Access{}, ErrAccess
	}
	if err != nil {
		return Access{}, err
	}
	u, err := s.store.UserByName(ctx, t.User)
	if errors.Is(err, errdefs.ErrNotFound) || err == nil && !u.Active {
		return Access{}, ErrAccess
	}
	return Access{User: u, Scopes: strings.Fields(t.Scope), Client: t.Client}, err
}

// Revoke ends the grant of a token that a client gives back (RFC 7009). Tokens that are unknown, or another client's, are
// no error.
func (s *Service) Revoke(ctx context.Context, c ClientCredentials, token string) error {
	client, err := s.client(ctx, c)
	if err != nil {
		return err
	}
	for _, kind := range []account.Kind{account.Refresh, account.Access} {
		t, err := s.store.TokenByHash(ctx, kind, account.Hash(token))
		if err == nil && t.Client == client.ID {
			return s.store.RevokeGrant(ctx, t.Grant)
		}
		if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
	}
	return nil
}

// Application is a client that a user has agreed to, with all the scopes that it has.
type Application struct {
	Client account.Client
	Scopes []string
	Since  time.Time
}

// Applications lists what a user has agreed to, in the order of the clients' names.
func (s *Service) Applications(ctx context.Context, user string) ([]Application, error) {
	tokens, err := s.store.TokensOf(ctx, user)
	if err != nil {
		return nil, err
	}
	have := map[string]*Application{}
	for _, t := range tokens {
		if t.Kind != account.Access && t.Kind != account.Refresh || t.Expired(s.now()) || !t.Used.IsZero() {
			continue
		}
		a := have[t.Client]
		if a == nil {
			a = &Application{Since: t.Created}
			if a.Client, err = s.store.ClientByID(ctx, t.Client); errors.Is(err, errdefs.ErrNotFound) {
				continue
			} else if err != nil {
				return nil, err
			}
			have[t.Client] = a
		}
		for _, scope := range strings.Fields(t.Scope) {
			if !slices.Contains(a.Scopes, scope) {
				a.Scopes = append(a.Scopes, scope)
			}
		}
	}
	var out []Application
	for _, a := range have {
		out = append(out, *a)
	}
	slices.SortFunc(out, func(a, b Application) int {
		return strings.Compare(a.Client.Name+"\x00"+a.Client.ID, b.Client.Name+"\x00"+b.Client.ID)
	})
	return out, nil
}

// Withdraw ends all that a user has granted to a client.
func (s *Service) Withdraw(ctx context.Context, user, clientID string) error {
	tokens, err := s.store.TokensOf(ctx, user)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if t.Client == clientID && (t.Kind == account.Access || t.Kind == account.Refresh || t.Kind == account.Code) {
			if err := s.store.RevokeGrant(ctx, t.Grant); err != nil {
				return err
			}
		}
	}
	return nil
}

// NewClient is what an administrator tells of an application.
type NewClient struct {
	Name, Description string
	RedirectURIs      []string
	// Public clients (programs on people's machines) get no secret.
	Public bool
}

// maxText bounds what the consent page shows.
const maxText = 200

// AddClient registers an application. The secret is told once and never again; it is empty for public clients.
func (s *Service) AddClient(ctx context.Context, n NewClient) (c account.Client, secret string, err error) {
	if strings.TrimSpace(n.Name) == "" || len(n.Name) > maxText || len(n.Description) > maxText {
		return c, "", fault.Invalid("an application needs a name, and texts of at most %d bytes", maxText)
	}
	if len(n.RedirectURIs) == 0 {
		return c, "", fault.Invalid("an application needs a redirect URI")
	}
	for _, u := range n.RedirectURIs {
		if err := checkRedirect(u); err != nil {
			return c, "", err
		}
	}
	c = account.Client{ID: account.NewSecret()[:20], Name: n.Name, Description: n.Description, RedirectURIs: n.RedirectURIs, Created: s.now()}
	if !n.Public {
		secret = account.NewSecret()
		c.SecretHash = account.Hash(secret)
	}
	return c, secret, s.store.AddClient(ctx, c)
}

// Clients lists the applications.
func (s *Service) Clients(ctx context.Context) ([]account.Client, error) {
	return s.store.ListClients(ctx)
}

// RemoveClient forgets an application and ends all that it was granted.
func (s *Service) RemoveClient(ctx context.Context, id string) error {
	return s.store.DeleteClient(ctx, id)
}

// checkRedirect: https, http to this machine, or a scheme of a program's own with a dot in it (RFC 8252, section 7.1).
func checkRedirect(text string) error {
	u, err := url.Parse(text)
	if err != nil || !u.IsAbs() || u.Opaque != "" || u.Fragment != "" || strings.Contains(text, "#") || u.User != nil || strings.ContainsAny(text, " \t\r\n\"'<>\\;,") {
		return fault.Invalid("%q is no redirect URI", text)
	}
	switch {
	case u.Scheme == "https" && u.Host != "":
	case u.Scheme == "http" && loopback(u.Hostname()):
	case u.Scheme != "http" && u.Scheme != "https" && strings.Contains(u.Scheme, "."):
	default:
		return fault.Invalid("%q is no redirect URI: it must begin with https://, http://localhost or a scheme such as com.example.app:/", text)
	}
	return nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Describe says in a few words what a scope lets an application do.
func Describe(scope string) string {
	switch scope {
	case ProfileRead:
		return "See your profile: your name, location, company and primary e-mail address"
	case ProfileWrite:
		return "Change your profile: your name, location, company and links"
	case EmailRead:
		return "See all your e-mail addresses"
	case EmailWrite:
		return "Add, change and remove your e-mail addresses"
	}
	return fmt.Sprintf("%q", scope)
}
