package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/golang-jwt/jwt/v5"
)

// BearerConfig is a token server that clients are sent to.
type BearerConfig struct {
	// Realm is its URL, Service the name of this registry there (the tokens' audience).
	Realm, Service string
	// Cert is a PEM file with the public key that signs tokens, or a certificate of it.
	Cert string
	// Own is our own token server instead of Cert's. Realm may be empty then: the server's own address is told.
	Own OwnTokens
	// Issuer is what our own tokens name as theirs.
	Issuer string
}

// OwnTokens are the keys of our own token server.
type OwnTokens interface {
	// PublicKey finds a key by the ID in a token's header; false when there is none, or none any more.
	PublicKey(kid string) (*ecdsa.PublicKey, bool)
}

// Grant is one entry of a token's "access" claim.
type Grant struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

type bearer struct {
	parser *jwt.Parser
	key    jwt.Keyfunc
	own    OwnTokens // nil for another server's
	seen   *seenTokens
	now    func() time.Time
}

// leeway is how far clocks may differ.
const leeway = 10 * time.Second

func newBearer(cfg BearerConfig, now func() time.Time) (*bearer, error) {
	if cfg.Own != nil {
		return ownBearer(cfg, now), nil
	}
	data, err := os.ReadFile(cfg.Cert)
	if err != nil {
		return nil, fmt.Errorf("bearer key: %w", err)
	}
	key, err := parsePublicKey(data)
	if err != nil {
		return nil, fmt.Errorf("bearer key %s: %w", cfg.Cert, err)
	}
	var algorithms []string
	switch key.(type) {
	case *rsa.PublicKey:
		algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case *ecdsa.PublicKey:
		algorithms = []string{"ES256", "ES384", "ES512"}
	case ed25519.PublicKey:
		algorithms = []string{"EdDSA"}
	default:
		return nil, fmt.Errorf("bearer key %s: %T cannot verify tokens", cfg.Cert, key)
	}
	return &bearer{now: now, key: func(*jwt.Token) (any, error) { return key, nil }, parser: jwt.NewParser(
		jwt.WithValidMethods(algorithms), jwt.WithAudience(cfg.Service), jwt.WithExpirationRequired(),
		jwt.WithLeeway(leeway), jwt.WithTimeFunc(now))}, nil
}

// ownBearer takes tokens of our own server. Nothing in a token's header is believed but the name of its key.
func ownBearer(cfg BearerConfig, now func() time.Time) *bearer {
	key := func(t *jwt.Token) (any, error) {
		kid, _ := t.Header["kid"].(string)
		if k, ok := cfg.Own.PublicKey(kid); ok {
			return k, nil
		}
		return nil, errors.New("the key is unknown")
	}
	return &bearer{now: now, own: cfg.Own, key: key, seen: newSeenTokens(), parser: jwt.NewParser(
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithAudience(cfg.Service), jwt.WithIssuer(cfg.Issuer),
		jwt.WithExpirationRequired(), jwt.WithStrictDecoding(), jwt.WithTimeFunc(now))}
}

// parsePublicKey takes the first certificate or public key of a PEM file.
func parsePublicKey(data []byte) (crypto.PublicKey, error) {
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			return nil, errors.New("holds neither a certificate nor a public key")
		}
		switch block.Type {
		case "CERTIFICATE":
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, err
			}
			return c.PublicKey, nil
		case "PUBLIC KEY":
			return x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			return x509.ParsePKCS1PublicKey(block.Bytes)
		}
		data = rest
	}
}

// claims are those of distribution's token specification.
type claims struct {
	jwt.RegisteredClaims
	Access grants `json:"access"`
	// Methods is how the subject of one of our own tokens proved its name (RFC 8176).
	Methods []Method `json:"amr"`
	// Fingerprint is that of the subject's password.
	Fingerprint string `json:"fpr"`
}

// grants reads the claim as it is seen in the world: a list, or null.
type grants []Grant

// maxGrants bounds what one token lists.
const maxGrants = 1000

func (g *grants) UnmarshalJSON(data []byte) error {
	if bytes.Equal(bytes.TrimSpace(data), []byte("null")) {
		return nil
	}
	var list []Grant
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	if len(list) > maxGrants {
		return fmt.Errorf("more than %d access entries", maxGrants)
	}
	*g = list
	return nil
}

func (b *bearer) verify(token string) (*Subject, error) {
	if who, kid, ok := b.seen.find(token, b.now()); ok {
		if _, believed := b.own.PublicKey(kid); believed {
			return who, nil
		}
	}
	var c claims
	parsed, err := b.parser.ParseWithClaims(token, &c, b.key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCredentials, err)
	}
	who := &Subject{Name: c.Subject, Method: Token, Proof: Token, Grants: c.Access, Own: b.own != nil}
	if b.own == nil {
		return who, nil
	}
	if len(c.Methods) == 1 {
		who.Proof = c.Methods[0]
	}
	who.fingerprint = c.Fingerprint
	kid, _ := parsed.Header["kid"].(string)
	b.seen.add(token, who, kid, c.ExpiresAt.Time)
	return who, nil
}

// granted decides by the token alone: pull is read, push is create and update, delete is delete, "*" is all. The class of
// a resource type ("repository(plugin)") does not matter.
func granted(who *Subject, q Query) error {
	want := TokenAction(q.Action)
	for _, g := range who.Grants {
		kind, _, _ := strings.Cut(g.Type, "(")
		if kind == "repository" && g.Name == q.Repo &&
			(slices.Contains(g.Actions, want) || slices.Contains(g.Actions, "*")) {
			return nil
		}
	}
	return &InsufficientScope{Refused: Refused{Action: q.Action, Repo: q.Repo}, Named: who.Own && who.Name != ""}
}

// TokenAction is an action in the words of token servers.
func TokenAction(a Action) string {
	switch a {
	case Read:
		return "pull"
	case Delete:
		return "delete"
	}
	return "push"
}

// InsufficientScope is a token that does not cover the request: the client is told which scope to ask for.
type InsufficientScope struct {
	Refused
	// Named says that it is one of ours, of somebody with a name: it could not be had for this.
	Named bool
}

// Unwrap gives the class ErrUnauthenticated: another token may do.
func (i *InsufficientScope) Unwrap() error { return errdefs.ErrUnauthenticated }

// ParseScope reads a scope of a token request or a challenge, "repository:team/app:pull,push". The name may hold a
// colon (a port), so the type ends at the first and the actions begin after the last.
func ParseScope(s string) (Grant, bool) {
	kind, rest, ok := strings.Cut(s, ":")
	i := strings.LastIndexByte(rest, ':')
	if !ok || kind == "" || i <= 0 {
		return Grant{}, false
	}
	g := Grant{Type: kind, Name: rest[:i]}
	for a := range strings.SplitSeq(rest[i+1:], ",") {
		if a != "" {
			g.Actions = append(g.Actions, a)
		}
	}
	return g, true
}

// String writes a grant as a scope.
func (g Grant) String() string { return g.Type + ":" + g.Name + ":" + strings.Join(g.Actions, ",") }
