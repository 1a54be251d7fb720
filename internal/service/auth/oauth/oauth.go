// Package oauth lets applications act for users who agree: OAuth2's authorization code grant (RFC 6749, RFC 7636 with
// S256) in the words of the "docker.io OAuth API" document. It knows no HTTP; the login before it is package auth's.
//
//	a, err := s.Check(ctx, oauth.Request{ClientID: …})  // what the consent page shows
//	code, err := s.Agree(ctx, a, "janedoe")             // the user has agreed
//	t, err := s.Exchange(ctx, client, oauth.Exchange{Code: code, RedirectURI: …})
//	access, err := s.Access(ctx, t.Access)
//
// All that comes of one agreement is one grant. A code or a refresh token that is used twice was stolen from somebody:
// the grant ends then.
package oauth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/core/account"
	"longshore/internal/core/credential"
)

// The scopes of the accounts API.
const (
	ProfileRead  = "profile_read"
	ProfileWrite = "profile_write"
	EmailRead    = "email_read"
	EmailWrite   = "email_write"
)

// Scopes lists them in the order of the document.
func Scopes() []string { return []string{ProfileRead, ProfileWrite, EmailRead, EmailWrite} }

// defaultScope holds when a request names none.
const defaultScope = ProfileRead + " " + EmailRead

// Lives of what is given out. A code's is the document's, an access token's its example's.
const (
	CodeLife   = 60 * time.Second
	AccessLife = 15552000 * time.Second
)

// What is used or expired is kept for a while, to tell a replay from nonsense.
const (
	keepCodes   = 24 * time.Hour
	keepRefresh = 30 * 24 * time.Hour
)

// Service decides. Make it with New.
type Service struct {
	store account.Store
	now   func() time.Time
}

// New makes a service. now is the clock; nil means time.Now.
func New(store account.Store, now func() time.Time) *Service {
	if now == nil {
		now = time.Now
	}
	return &Service{store: store, now: now}
}

// Request is the query of the authorization endpoint.
type Request struct {
	ClientID, ResponseType, RedirectURI, Scope, State string
	// Challenge and Method are PKCE's.
	Challenge, Method string
}

// Authorization is a request that may be shown to a user.
type Authorization struct {
	Client      account.Client
	RedirectURI string
	Scopes      []string
	State       string
	challenge   string
}

// Error is an error of RFC 6749.
type Error struct {
	// Code is the RFC's word: invalid_request, invalid_client, invalid_grant …
	Code, Description string
	// Redirect is where the user is sent with it; empty when the client cannot be trusted to be one.
	Redirect string
}

func (e *Error) Error() string { return e.Code + ": " + e.Description }

// HTTPStatus is what the token endpoint answers.
func (e *Error) HTTPStatus() int {
	if e.Code == "invalid_client" {
		return 401
	}
	return 400
}

func fail(code, description string) error { return &Error{Code: code, Description: description} }

// Check looks at a request. Whatever is wrong with the client or its redirect URI is told to the user alone (no
// Redirect): nothing is ever sent to an address that was not registered.
func (s *Service) Check(ctx context.Context, r Request) (Authorization, error) {
	a := Authorization{State: r.State}
	var err error
	a.Client, err = s.store.ClientByID(ctx, r.ClientID)
	if errors.Is(err, errdefs.ErrNotFound) {
		return a, fail("invalid_request", "The application is not registered here.")
	}
	if err != nil {
		return a, err
	}
	a.RedirectURI = r.RedirectURI
	if a.RedirectURI == "" {
		a.RedirectURI = a.Client.RedirectURIs[0]
	}
	if !slices.Contains(a.Client.RedirectURIs, a.RedirectURI) {
		return a, fail("invalid_request", "The application asks to send you to an address that is not registered for it.")
	}
	if err := a.fill(r); err != nil {
		err.Redirect = a.Denied(err.Code, err.Description)
		return a, err
	}
	return a, nil
}

// fill checks the rest of a request; its errors go to the client.
func (a *Authorization) fill(r Request) *Error {
	if r.ResponseType != "code" {
		return &Error{Code: "unsupported_response_type", Description: "response_type must be code"}
	}
	scopes, ok := parseScopes(r.Scope)
	if !ok {
		return &Error{Code: "invalid_scope", Description: "the scopes are " + strings.Join(Scopes(), ", ")}
	}
	a.Scopes = scopes
	switch {
	case r.Challenge == "" && r.Method == "" && a.Client.Public():
		return &Error{Code: "invalid_request", Description: "a client without a secret needs a code_challenge"}
	case r.Challenge == "" && r.Method == "":
	case r.Method != "S256":
		return &Error{Code: "invalid_request", Description: "code_challenge_method must be S256"}
	case !isChallenge(r.Challenge):
		return &Error{Code: "invalid_request", Description: "code_challenge is no S256 challenge"}
	}
	a.challenge = r.Challenge
	return nil
}

// isChallenge: a SHA-256 in base64url without padding.
func isChallenge(s string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == sha256.Size
}

// parseScopes reads a list with single spaces; empty is the default. The order is the document's.
func parseScopes(text string) ([]string, bool) {
	if strings.TrimSpace(text) == "" {
		text = defaultScope
	}
	asked := strings.Fields(text)
	var out []string
	for _, s := range Scopes() {
		if slices.Contains(asked, s) {
			out = append(out, s)
		}
	}
	for _, s := range asked {
		if !slices.Contains(out, s) {
			return nil, false
		}
	}
	return out, true
}

// Denied is where the user is sent who does not agree, or whose request is wrong.
func (a *Authorization) Denied(code, description string) string {
	return a.redirect(url.Values{"error": {code}, "error_description": {description}})
}

// Agreed is where the user is sent who agrees.
func (a *Authorization) Agreed(code string) string { return a.redirect(url.Values{"code": {code}}) }

func (a *Authorization) redirect(q url.Values) string {
	if a.State != "" {
		q.Set("state", a.State)
	}
	u, err := url.Parse(a.RedirectURI)
	if err != nil {
		return a.RedirectURI // it was checked when it was registered
	}
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += q.Encode()
	return u.String()
}

// Agree makes the code of a user who has agreed.
func (s *Service) Agree(ctx context.Context, a Authorization, user string) (code string, err error) {
	now := s.now()
	if err := s.sweep(ctx, now); err != nil {
		return "", err
	}
	code = account.NewSecret()
	return code, s.store.AddToken(ctx, account.Token{
		Hash: account.Hash(code), Kind: account.Code, User: user, Proof: credential.Password, Client: a.Client.ID, Grant: account.NewSecret(),
		Scope: strings.Join(a.Scopes, " "), Audience: a.RedirectURI, Challenge: a.challenge, Created: now, Expires: now.Add(CodeLife),
	})
}

func (s *Service) sweep(ctx context.Context, now time.Time) error {
	for kind, keep := range map[account.Kind]time.Duration{account.Code: keepCodes, account.Access: 0, account.Refresh: keepRefresh} {
		if err := s.store.SweepTokens(ctx, kind, now.Add(-keep)); err != nil {
			return err
		}
	}
	return nil
}

// ClientCredentials are what a client shows of itself.
type ClientCredentials struct{ ID, Secret string }

// client finds who asks. A public client shows no secret.
func (s *Service) client(ctx context.Context, c ClientCredentials) (account.Client, error) {
	found, err := s.store.ClientByID(ctx, c.ID)
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return found, err
	}
	wrong := subtle.ConstantTimeCompare([]byte(account.Hash(c.Secret)), []byte(found.SecretHash)) != 1
	if found.Public() {
		wrong = c.Secret != ""
	}
	if err != nil || wrong {
		return found, fail("invalid_client", "the client is unknown, or its secret is wrong")
	}
	return found, nil
}

// Exchange is the form of the authorization_code grant.
type Exchange struct{ Code, RedirectURI, Verifier string }

// Tokens are what a client gets.
type Tokens struct {
	User            account.User
	Access, Refresh string
	Scope           string
	Life            time.Duration
}

// Exchange gives tokens for a code, once.
func (s *Service) Exchange(ctx context.Context, c ClientCredentials, e Exchange) (Tokens, error) {
	client, err := s.client(ctx, c)
	if err != nil {
		return Tokens{}, err
	}
	t, err := s.spend(ctx, account.Code, e.Code, client, func(t account.Token) error { return checkCode(t, client, e) })
	if err != nil {
		return Tokens{}, err
	}
	return s.give(ctx, t, t.Scope)
}

func checkCode(t account.Token, client account.Client, e Exchange) error {
	if e.RedirectURI == "" {
		e.RedirectURI = client.RedirectURIs[0]
	}
	if e.RedirectURI != t.Audience {
		return fail("invalid_grant", "redirect_uri is not that of the authorization request")
	}
	sum := sha256.Sum256([]byte(e.Verifier))
	verified := subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(t.Challenge)) == 1
	if t.Challenge != "" && !verified || t.Challenge == "" && e.Verifier != "" {
		return fail("invalid_grant", "code_verifier does not fit")
	}
	return nil
}

// Refresh is the form of the refresh_token grant.
type Refresh struct{ Token, Scope string }

// Refresh gives other tokens for a refresh token, once.
func (s *Service) Refresh(ctx context.Context, c ClientCredentials, r Refresh) (Tokens, error) {
	client, err := s.client(ctx, c)
	if err != nil {
		return Tokens{}, err
	}
	scope := ""
	t, err := s.spend(ctx, account.Refresh, r.Token, client, func(t account.Token) error {
		scope = t.Scope
		if strings.TrimSpace(r.Scope) == "" {
			return nil
		}
		asked, ok := parseScopes(r.Scope)
		granted := strings.Fields(t.Scope)
		if !ok || slices.ContainsFunc(asked, func(a string) bool { return !slices.Contains(granted, a) }) {
			return fail("invalid_scope", "the user has not granted that scope")
		}
		scope = strings.Join(asked, " ")
		return nil
	})
	if err != nil {
		return Tokens{}, err
	}
	return s.give(ctx, t, scope)
}

// spend uses a code or a refresh token of a client, after a check that may find fault with the rest of the request. A
// token of somebody else's, or one that is wrong, is not used up; one that was used before ends its grant.
func (s *Service) spend(ctx context.Context, kind account.Kind, secret string, client account.Client, check func(account.Token) error) (account.Token, error) {
	unknown := fail("invalid_grant", "it is unknown, expired, used already or revoked")
	hash := account.Hash(secret)
	t, err := s.store.TokenByHash(ctx, kind, hash)
	switch {
	case errors.Is(err, errdefs.ErrNotFound):
		return t, unknown
	case err != nil:
		return t, err
	case t.Client != client.ID:
		return t, unknown
	case !t.Used.IsZero():
		return t, errors.Join(unknown, s.store.RevokeGrant(ctx, t.Grant))
	case t.Expired(s.now()):
		return t, unknown
	}
	if err := check(t); err != nil {
		return t, err
	}
	t, err = s.store.UseToken(ctx, kind, hash, s.now())
	switch {
	case errors.Is(err, errdefs.ErrFailedPrecondition):
		return t, errors.Join(unknown, s.store.RevokeGrant(ctx, t.Grant))
	case errors.Is(err, errdefs.ErrNotFound):
		return t, unknown
	}
	return t, err
}

// give makes an access token with a scope, and a refresh token with all that the user once granted.
func (s *Service) give(ctx context.Context, from account.Token, scope string) (Tokens, error) {
	u, err := s.store.UserByName(ctx, from.User)
	if errors.Is(err, errdefs.ErrNotFound) || err == nil && !u.Active {
		return Tokens{}, fail("invalid_grant", "the user's account is not active")
	}
	if err != nil {
		return Tokens{}, err
	}
	now := s.now()
	out := Tokens{User: u, Access: account.NewSecret(), Refresh: account.NewSecret(), Scope: scope, Life: AccessLife}
	token := account.Token{
		Kind: account.Access, Hash: account.Hash(out.Access), User: u.Name, Proof: from.Proof, Client: from.Client, Grant: from.Grant,
		Scope: scope, Created: now, Expires: now.Add(AccessLife),
	}
	refresh := token
	refresh.Kind, refresh.Hash, refresh.Scope, refresh.Expires = account.Refresh, account.Hash(out.Refresh), from.Scope, time.Time{}
	if err := s.store.AddToken(ctx, token, refresh); err != nil {
		return Tokens{}, err
	}
	return out, s.stillGranted(ctx, from)
}

// stillGranted ends what was given while somebody else's replay ended the grant.
func (s *Service) stillGranted(ctx context.Context, from account.Token) error {
	_, err := s.store.TokenByHash(ctx, from.Kind, from.Hash)
	if errors.Is(err, errdefs.ErrNotFound) {
		return errors.Join(fail("invalid_grant", "it was revoked"), s.store.RevokeGrant(ctx, from.Grant))
	}
	return err
}
