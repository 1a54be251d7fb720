// Package token is the token server of the registry: it gives signed tokens (JWT) that say what their bearer may do, to
// those who show a password, an identity token or nothing, after distribution's documents "Token Authentication
// Specification", "OAuth2 Token Authentication", "Token Scope" and "Token Authentication Implementation".
//
//	s := token.New(authService, ring, store, token.Config{Service: "registry", Issuer: "longshore"})
//	answer, err := s.Issue(ctx, subject, token.Request{Scopes: token.ParseScopes(query["scope"])})
//
// A token lists what its subject may do of what was asked for, by the access policies of the registry; the registry asks
// those again when the token is used (package auth), so that a token is never worth more than its subject is.
package token

import (
	"context"
	"crypto/ecdsa"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/golang-jwt/jwt/v5"

	"longshore/internal/core/account"
	"longshore/internal/core/fault"
	"longshore/internal/service/auth"
)

// Key signs. Certificate is its certificate in DER.
type Key struct {
	ID          string
	Private     *ecdsa.PrivateKey
	Certificate []byte
}

// Keys gives the key to sign with now.
type Keys interface {
	Signer() (Key, error)
}

// Config says what tokens say.
type Config struct {
	// Service is the registry's name, the tokens' audience; Issuer is ours.
	Service, Issuer string
	// Life is how long a token is good; at least a minute, which old clients count on.
	Life time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// MinLife is how long a token is good at least.
const MinLife = time.Minute

// Service gives tokens. Make it with New.
type Service struct {
	auth   *auth.Service
	keys   Keys
	tokens account.Tokens
	cfg    Config
}

// New makes a service.
func New(a *auth.Service, keys Keys, tokens account.Tokens, cfg Config) *Service {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Life = max(cfg.Life, MinLife)
	return &Service{auth: a, keys: keys, tokens: tokens, cfg: cfg}
}

// Name is the name of the registry that the tokens are for.
func (s *Service) Name() string { return s.cfg.Service }

// Request is what a client wants.
type Request struct {
	// Service must be ours; empty is taken for it.
	Service string
	Scopes  []auth.Grant
	// ClientID is what the client calls itself.
	ClientID string
	// Offline asks for an identity token too.
	Offline bool
}

// Answer is a token.
type Answer struct {
	Token  string
	Issued time.Time
	Life   time.Duration
	// Scope is what was granted, as text.
	Scope string
	// Identity is an identity token, empty when none was asked for or the subject gets none.
	Identity string
}

// claims are those of jwt.md. Their order is that of its example.
type claims struct {
	Issuer    string        `json:"iss"`
	Subject   string        `json:"sub"`
	Audience  string        `json:"aud"`
	Expires   int64         `json:"exp"`
	NotBefore int64         `json:"nbf"`
	IssuedAt  int64         `json:"iat"`
	ID        string        `json:"jti"`
	Access    []auth.Grant  `json:"access"`
	Methods   []auth.Method `json:"amr,omitempty"`
	// Fingerprint is that of the subject's password: the token ends with it.
	Fingerprint string `json:"fpr,omitempty"`
}

// skew is how far the clocks of instances may differ.
const skew = 10 * time.Second

// Issue gives a token to a subject. Less than was asked for is no error.
func (s *Service) Issue(ctx context.Context, who *auth.Subject, r Request) (Answer, error) {
	if err := s.checkService(r.Service); err != nil {
		return Answer{}, err
	}
	if who.Method == auth.Token {
		return Answer{}, fault.New(errdefs.ErrUnauthenticated, "a token cannot be had for a token")
	}
	granted := []auth.Grant{}
	for _, asked := range r.Scopes {
		if actions := s.auth.Allowed(who, asked); len(actions) > 0 {
			granted = append(granted, auth.Grant{Type: asked.Type, Name: asked.Name, Actions: actions})
		}
	}
	now := s.cfg.Now()
	a := Answer{Issued: now, Life: s.life(who, now), Scope: scopeText(granted)}
	var err error
	if a.Token, err = s.sign(ctx, who, granted, a); err != nil {
		return Answer{}, err
	}
	if r.Offline {
		a.Identity, err = s.identity(ctx, who, r.ClientID, now)
	}
	return a, err
}

// life is how long a token is good: not longer than the key that it was got with, or it is as good as nothing.
func (s *Service) life(who *auth.Subject, now time.Time) time.Duration {
	life := s.cfg.Life
	if !who.Expires.IsZero() {
		life = min(life, who.Expires.Sub(now))
	}
	return life
}

func (s *Service) checkService(name string) error {
	if name != "" && name != s.cfg.Service {
		return fault.Invalid("the service %q is unknown", clip(name))
	}
	return nil
}

func (s *Service) sign(ctx context.Context, who *auth.Subject, granted []auth.Grant, a Answer) (string, error) {
	key, err := s.keys.Signer()
	if err != nil {
		return "", err
	}
	now := a.Issued
	c := claims{
		Issuer: s.cfg.Issuer, Subject: who.Name, Audience: s.cfg.Service, Expires: now.Add(a.Life).Unix(),
		NotBefore: now.Add(-skew).Unix(), IssuedAt: now.Unix(), ID: account.NewSecret(), Access: granted,
	}
	if who.Name != "" {
		c.Methods = []auth.Method{who.Proof}
	}
	if who.Name != "" && who.Proof == auth.Password {
		if _, c.Fingerprint, err = s.auth.Recall(ctx, who.Name); err != nil {
			return "", err
		}
	}
	t := &jwt.Token{Method: jwt.SigningMethodES256, Claims: c, Header: map[string]any{
		"typ": "JWT", "alg": "ES256", "kid": key.ID, "x5c": []string{base64.StdEncoding.EncodeToString(key.Certificate)},
	}}
	text, err := t.SignedString(key.Private)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return text, nil
}

// GetExpirationTime and the methods after it make claims jwt.Claims; they are only asked when a token is parsed.
func (c claims) GetExpirationTime() (*jwt.NumericDate, error) {
	return jwt.NewNumericDate(time.Unix(c.Expires, 0)), nil
}

// GetIssuedAt is iat.
func (c claims) GetIssuedAt() (*jwt.NumericDate, error) {
	return jwt.NewNumericDate(time.Unix(c.IssuedAt, 0)), nil
}

// GetNotBefore is nbf.
func (c claims) GetNotBefore() (*jwt.NumericDate, error) {
	return jwt.NewNumericDate(time.Unix(c.NotBefore, 0)), nil
}

// GetIssuer is iss.
func (c claims) GetIssuer() (string, error) { return c.Issuer, nil }

// GetSubject is sub.
func (c claims) GetSubject() (string, error) { return c.Subject, nil }

// GetAudience is aud.
func (c claims) GetAudience() (jwt.ClaimStrings, error) { return jwt.ClaimStrings{c.Audience}, nil }

// maxIdentities is how many identity tokens one user has; the oldest goes when there are more.
const maxIdentities = 100

// identity makes an identity token for somebody who has shown a password. Others get none: an API key can be revoked by
// itself and is the better thing to keep.
func (s *Service) identity(ctx context.Context, who *auth.Subject, client string, now time.Time) (string, error) {
	if who.Method != auth.Password {
		return "", nil
	}
	_, fingerprint, err := s.auth.Recall(ctx, who.Name)
	if err != nil {
		return "", err
	}
	all, err := s.tokens.TokensOf(ctx, who.Name)
	if err != nil {
		return "", err
	}
	var mine []account.Token
	for _, t := range all {
		if t.Kind == account.Identity {
			mine = append(mine, t)
		}
	}
	for i := 0; i <= len(mine)-maxIdentities; i++ {
		if err := s.tokens.RevokeGrant(ctx, mine[i].Grant); err != nil {
			return "", err
		}
	}
	secret := account.NewSecret()
	err = s.tokens.AddToken(ctx, account.Token{
		Hash: account.Hash(secret), Kind: account.Identity, User: who.Name, Proof: auth.Password, Client: clip(client), Grant: account.NewSecret(),
		Audience: s.cfg.Service, Challenge: fingerprint, Created: now,
	})
	return secret, err
}

// ErrIdentity is what Recognise answers for identity tokens that are not good, or not any more.
var ErrIdentity = fault.New(errdefs.ErrUnauthenticated, "the refresh token is invalid, or was revoked")

// Recognise finds whose an identity token is. It is good for its service only, and until its user's password changes.
func (s *Service) Recognise(ctx context.Context, identity, service string) (*auth.Subject, error) {
	t, err := s.tokens.TokenByHash(ctx, account.Identity, account.Hash(identity))
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil, ErrIdentity
	}
	if err != nil {
		return nil, err
	}
	if service != t.Audience || t.Expired(s.cfg.Now()) {
		return nil, ErrIdentity
	}
	who, fingerprint, err := s.auth.Recall(ctx, t.User)
	if errors.Is(err, auth.ErrCredentials) || err == nil && fingerprint != t.Challenge {
		return nil, ErrIdentity
	}
	return who, err
}

// clip keeps hostile names short.
func clip(s string) string {
	if len(s) > 100 {
		return s[:100]
	}
	return s
}
